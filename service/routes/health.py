"""How the service is, what it has done, and what its codes mean."""

import asyncio
from typing import Annotated, Literal

import structlog
from fastapi import APIRouter, Path, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel
from redis.exceptions import RedisError

from contracts.schema.errors import Code, ServiceError
from service.observability import worker_names
from service.openapi import example, problems
from service.problems import ANSWERS
from service.resources import Resources, With

router = APIRouter(tags=["service"])
log = structlog.get_logger("ovam.gateway")
WELL = {"redis": "ok", "store": "ok", "worker": "ok"}


class Health(BaseModel, frozen=True):
    """The process answers."""

    status: Literal["ok"] = "ok"


class Readiness(BaseModel, frozen=True):
    """Whether jobs can be taken and run, and what is missing."""

    status: Literal["ready", "not ready"]
    checks: dict[str, str]


class CodeMeaning(BaseModel, frozen=True):
    """The meaning of a problem's code."""

    code: Code
    status: int
    title: str


@router.get("/healthz", responses={200: example({"status": "ok"}, "the process answers"), **problems()})
async def health() -> Health:
    """Say that the process answers."""
    return Health()


@router.get(
    "/readyz",
    responses={
        200: example({"status": "ready", "checks": WELL}, "jobs are taken and run"),
        **problems(),
        503: example(
            {"status": "not ready", "checks": WELL | {"worker": "no worker is alive"}}, "what is missing", model=Readiness
        ),
    },
)
async def readiness(resources: With, response: Response) -> Readiness:
    """Say whether Redis, the store and at least one worker are there."""
    found = await asyncio.gather(redis_check(resources), store_check(resources), worker_check(resources))
    checks = dict(zip(("redis", "store", "worker"), found, strict=True))
    ready = all(check == "ok" for check in checks.values())
    response.status_code = 200 if ready else 503
    return Readiness(status="ready" if ready else "not ready", checks=checks)


@router.get(
    "/metrics",
    response_class=Response,
    responses={
        200: {"description": "numbers for Prometheus", "content": {"text/plain": {"example": "ovam_queue_depth 0.0\n"}}},
        **problems(),
    },
)
async def metrics(request: Request, resources: With) -> Response:
    """Queue depth, jobs by kind and state, workers, request latencies."""
    return Response(await request.state.metrics.exposed(resources), media_type=CONTENT_TYPE_LATEST)


@router.get(
    "/problems/{code}",
    responses={
        200: example({"code": "queue-full", "status": 429, "title": ANSWERS[Code.QUEUE_FULL].title}, "the code"),
        **problems(),
    },
)
async def explain_problem(code: Annotated[Code, Path(examples=["queue-full"])]) -> CodeMeaning:
    """Explain a problem's code: this is where its `type` leads."""
    answer = ANSWERS[code]
    return CodeMeaning(code=code, status=answer.status, title=answer.title)


async def redis_check(resources: Resources) -> str:
    """Whether Redis answers."""
    try:
        await resources.redis.ping()
    except RedisError as error:
        log.warning("redis-unavailable", error=str(error))
        return "Redis cannot be reached; the gateway's log says more"
    return "ok"


async def store_check(resources: Resources) -> str:
    """Whether the store takes writes."""
    try:
        await resources.store.probe()
    except ServiceError as error:
        log.warning("store-unavailable", error=error.detail)
        return "the artifact store takes no writes; the gateway's log says more"
    return "ok"


async def worker_check(resources: Resources) -> str:
    """Whether a worker is alive."""
    try:
        return "ok" if await worker_names(resources) else "no worker is alive; start one with `ovam worker`"
    except RedisError:
        return "unknown without Redis"
