"""What a schema cannot know, checked before anything is queued: models, sizes, jobs, words, tokens, masks."""

import asyncio
import secrets
from dataclasses import dataclass

from contracts.errors import Code, ServiceError
from contracts.jobs import GenerateResult, JobRecord, State
from contracts.ledger import Ledger
from contracts.models import ModelCard
from contracts.requests import AttributeRequest, Example, GenerateRequest, OptimizeRequest, Target
from service.catalog import Catalog
from service.masks import check_mask
from service.prompts import check_word, fitting
from service.settings import GatewaySettings

SEED_BITS = 32
RETRY_AFTER = 1  # second, for a job that is not finished


@dataclass(frozen=True)
class Validation:
    """The checks, with what they look things up in."""

    settings: GatewaySettings
    catalog: Catalog
    ledger: Ledger

    async def generate(self, request: GenerateRequest) -> GenerateRequest:
        """The request with model, seed, size and guidance filled in: run again, it gives the same images."""
        card = await self.catalog.model(request.model)
        height = request.height or card.default_height
        width = request.width or card.default_width
        check_side(height, card, self.settings.max_side, field="height")
        check_side(width, card, self.settings.max_side, field="width")
        check_at_most(request.num_inference_steps, self.settings.max_steps, Code.TOO_MANY_STEPS, field="num_inference_steps")
        check_at_most(request.num_images, self.settings.max_images, Code.TOO_MANY_IMAGES, field="num_images")
        tokenizer = await self.catalog.tokenizer(card)
        fitting(tokenizer, request.prompt, card.max_tokens, field="prompt")
        fitting(tokenizer, request.negative_prompt, card.max_tokens, field="negative_prompt")
        scale = card.default_guidance_scale if request.guidance_scale is None else request.guidance_scale
        seed = secrets.randbits(SEED_BITS) if request.seed is None else request.seed
        filled = {"model": card.name, "height": height, "width": width, "guidance_scale": scale, "seed": seed}
        return request.model_copy(update=filled)

    async def attribute(self, request: AttributeRequest) -> AttributeRequest:
        """The request, if its job has the image and every target can be looked for in it."""
        result = await self.generation(request.job_id, field="job_id")
        check_image(result, request.image, request.job_id, field="image")
        card = await self.catalog.model(result.model, field="job_id")
        for place, target in enumerate(request.targets):
            await self.target(target, card, field=f"targets.{place}")
        return request

    async def target(self, target: Target, card: ModelCard, *, field: str) -> None:
        """Check that a target's word is in its prompt, or that its token is one of the model's."""
        if target.token is not None:
            token = await self.catalog.token(target.token, field=f"{field}.token")
            if token.model != card.name:
                detail = f"token {token.name!r} belongs to model {token.model!r}; the job's model is {card.name!r}"
                raise ServiceError(Code.TOKEN_OF_OTHER_MODEL, detail, field=f"{field}.token", value=token.name)
        if target.prompt is not None:
            tokenizer = await self.catalog.tokenizer(card)
            prompt = fitting(tokenizer, target.prompt, card.max_tokens, field=f"{field}.prompt")
            check_word(prompt, target.word or target.prompt, target.occurrence, field=field)

    async def optimize(self, request: OptimizeRequest) -> OptimizeRequest:
        """The request, if its name is free and every example has a mask that fits its image."""
        if await self.catalog.has_token(request.name):
            detail = f"there is a token {request.name!r} already; take another name or delete it first"
            raise ServiceError(Code.TOKEN_EXISTS, detail, field="name", value=request.name)
        models = [await self.example(example, field=f"examples.{place}") for place, example in enumerate(request.examples)]
        if len(set(models)) > 1:
            detail = f"all examples must come from one model; these come from {', '.join(sorted(set(models)))}"
            raise ServiceError(Code.EXAMPLES_OF_OTHER_MODELS, detail, field="examples", value=[*models])
        card = await self.catalog.model(models[0], field="examples.0.job_id")
        tokenizer = await self.catalog.tokenizer(card)
        for place, name in enumerate(request.classes):
            fitting(tokenizer, f"A photograph of a {name}", card.max_tokens, field=f"classes.{place}")
        return request

    async def example(self, example: Example, *, field: str) -> str:
        """The model of an example, once its job, image and mask are found good."""
        result = await self.generation(example.job_id, field=f"{field}.job_id")
        check_image(result, example.image, example.job_id, field=f"{field}.image")
        await asyncio.to_thread(check_mask, example.mask, (result.height, result.width), field=f"{field}.mask")
        return result.model

    async def generation(self, job_id: str, *, field: str) -> GenerateResult:
        """The result of a generate job that succeeded and is still there."""
        record = await self.ledger.get(job_id, field=field)
        check_alive(record, field=field)
        if record.kind != "generate":
            detail = f"job {job_id} is of kind {record.kind!r}; a generate job is needed"
            raise ServiceError(Code.WRONG_JOB_KIND, detail, field=field, value=job_id)
        return successful(record, field=field)


def check_alive(record: JobRecord, *, field: str | None = None) -> None:
    """Raise job-expired for a job whose time is over."""
    if record.state is State.EXPIRED:
        detail = f"job {record.id} expired at {record.expires_at:%Y-%m-%d %H:%M:%S} UTC; its results are gone"
        raise ServiceError(Code.JOB_EXPIRED, detail, field=field, value=record.id)


def successful(record: JobRecord, *, field: str) -> GenerateResult:
    """The result of a record of a generation; a ServiceError without one."""
    if not record.state.final:
        detail = f"job {record.id} is {record.state}; wait until it has succeeded"
        raise ServiceError(Code.JOB_NOT_FINISHED, detail, field=field, value=record.id, retry_after=RETRY_AFTER)
    if not isinstance(record.result, GenerateResult):
        why = f": {record.error.detail}" if record.error else ""
        detail = f"job {record.id} has {'failed' if record.error else 'been canceled'}{why}"
        raise ServiceError(Code.JOB_NOT_SUCCESSFUL, detail, field=field, value=record.id)
    return record.result


def check_image(result: GenerateResult, image: int, job_id: str, *, field: str) -> None:
    """Raise image-index-out-of-range unless the job made that image."""
    if image >= len(result.images):
        detail = f"job {job_id} has {len(result.images)} images, counted from 0; there is no image {image}"
        raise ServiceError(Code.IMAGE_INDEX, detail, field=field, value=image)


def check_side(side: int, card: ModelCard, limit: int, *, field: str) -> None:
    """Raise size-too-large or size-not-divisible unless a model can draw an image of that side."""
    check_at_most(side, limit, Code.SIZE_TOO_LARGE, field=field)
    if side % card.size_multiple:
        detail = f"`{field}` {side} is not a multiple of {card.size_multiple}, as model {card.name!r} needs"
        raise ServiceError(Code.SIZE_NOT_DIVISIBLE, detail, field=field, value=side)


def check_at_most(number: int, limit: int, code: Code, *, field: str) -> None:
    """Raise `code` for a number over its limit."""
    if number > limit:
        raise ServiceError(code, f"`{field}` is {number}; allowed: at most {limit}", field=field, value=number)
