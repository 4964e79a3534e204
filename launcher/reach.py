"""How commands of an operator reach the gateways' Redis."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, NoReturn, TypeVar
from urllib.parse import quote

import typer
from redis.asyncio import Redis
from redis.exceptions import RedisError

from contracts.settings import BadSettingsError, CommonSettings, load
from contracts.state.connections import redis_at

FAILED, BAD_USAGE = 1, 2
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
T = TypeVar("T")


def with_redis(work: Callable[[Redis], Awaitable[T]]) -> T:
    """Do something in Redis; leave with a sentence if that is not possible."""

    async def done(url: str) -> T:
        async with redis_at(url, socket_timeout=5, socket_connect_timeout=5) as redis:
            return await work(redis)

    try:
        return asyncio.run(done(redis_url()))
    except BadSettingsError as error:
        end(str(error), BAD_USAGE)
    except RedisError as error:
        end(
            f"Redis cannot be reached ({type(error).__name__}); set OVAM_REDIS_URL, or OVAM_DATA_DIR of a running `ovam up`",
            FAILED,
        )


def redis_url() -> str:
    """Return the URL of the gateways' Redis: the setting, or else the Valkey of a running `ovam up` of the same data folder."""
    settings = load(CommonSettings)
    socket = settings.data_dir / "valkey" / "socket"
    embedded = "redis_url" not in settings.model_fields_set and socket.exists()
    return f"unix://{quote(str(socket))}?db=0" if embedded else settings.redis_url


def end(message: str, code: int) -> NoReturn:
    """Print a message on standard error and leave."""
    typer.echo(f"ovam: {message}", err=True)
    raise typer.Exit(code)
