"""`python -m benchmarks.bare PORT REDIS_URL`: what a submission is compared with: a FastAPI route with one write to Redis."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from fastapi import FastAPI, Request
from redis.asyncio import Redis

from contracts.schema.images import GenerateRequest
from service.server import LimitedProtocol


def app(redis_url: str) -> FastAPI:
    """An app that takes the same body, and stores it."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, Redis]]:
        async with Redis.from_url(redis_url) as redis:
            yield {"redis": redis}

    bare = FastAPI(lifespan=lifespan)

    @bare.post("/v1/generate", status_code=202)
    async def submit(body: GenerateRequest, request: Request) -> GenerateRequest:
        await request.state.redis.set("bare", body.model_dump_json(), ex=60)
        return body

    return bare


if __name__ == "__main__":
    uvicorn.run(app(sys.argv[2]), port=int(sys.argv[1]), http=LimitedProtocol, log_level="warning", access_log=False)
