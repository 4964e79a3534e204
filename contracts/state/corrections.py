"""What people who annotate have corrected, by the token that learns it, and where their Label Studio is."""

from datetime import timedelta

from redis.asyncio import Redis

from contracts.schema.fields import Schema
from contracts.schema.jobs import utc_now
from contracts.schema.optimize import MAX_EXAMPLES, MaskExample
from contracts.state import keys
from contracts.state.keys import text

LIFE = timedelta(days=30)
LEARNER = ""  # the field that is no annotation: the id of the job that learns from all the others


class Correction(Schema):
    """An image of a job as a person annotated it."""

    example: MaskExample
    at: float
    """When, in seconds since 1970."""


class Home(Schema):
    """The Label Studio of a project."""

    hostname: str
    access_token: str = ""


class Corrections:
    """A tenant's annotated images, by the token that learns from them and by annotation: one that is changed counts once."""

    def __init__(self, redis: Redis, tenant: str) -> None:
        self.redis = redis
        self.tenant = tenant

    async def put(self, token: str, annotation: str, example: MaskExample) -> None:
        """Keep an annotation; beyond as many as a token can learn from, the oldest go."""
        key = keys.corrections(token, self.tenant)
        correction = Correction(example=example, at=utc_now().timestamp())
        async with self.redis.pipeline() as pipe:
            pipe.hset(key, annotation, correction.model_dump_json())
            pipe.expire(key, LIFE)
            await pipe.execute()
        found = await self.all(token)
        if over := [*found][:-MAX_EXAMPLES]:
            await self.remove(token, *over)

    async def remove(self, token: str, *annotations: str) -> bool:
        """Forget annotations; whether there were any."""
        return bool(await self.redis.hdel(keys.corrections(token, self.tenant), *annotations))

    async def all(self, token: str) -> dict[str, MaskExample]:
        """The annotations of a token, the oldest first."""
        stored = await self.redis.hgetall(keys.corrections(token, self.tenant))
        found = {text(name): Correction.model_validate_json(data) for name, data in stored.items() if text(name) != LEARNER}
        return {name: each.example for name, each in sorted(found.items(), key=lambda item: item[1].at)}

    async def learner(self, token: str, job_id: str) -> str | None:
        """Set the job that learns a token now; returns the one before it."""
        key = keys.corrections(token, self.tenant)
        async with self.redis.pipeline() as pipe:
            pipe.hget(key, LEARNER)
            pipe.hset(key, LEARNER, job_id)
            pipe.expire(key, LIFE)
            before, *_ = await pipe.execute()
        return None if before is None else text(before)

    async def set_home(self, project: str, home: Home) -> None:
        """Remember where the Label Studio of a project is."""
        await self.redis.set(keys.annotator(project, self.tenant), home.model_dump_json(), ex=LIFE)

    async def home(self, project: str) -> Home | None:
        """Where it is, if it said so."""
        data = await self.redis.getex(keys.annotator(project, self.tenant), ex=LIFE)
        return None if data is None else Home.model_validate_json(data)
