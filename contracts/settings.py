"""Settings that gateway and workers share. Each is an `OVAM_*` variable, read once, when a process starts."""

import re
from pathlib import Path
from typing import Literal, TypeVar
from urllib.parse import quote, urlsplit

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

REDIS_SCHEMES = ("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel")
NO_CLUSTER = (
    "jobs change in transactions over several keys, which a cluster spreads over its nodes; "
    "allowed: one server, or the master that Sentinels name"
)
CLUSTER_SCHEMES = ("redis+cluster", "rediss+cluster")
STORE_SCHEMES = ("file", "memory", "s3")
PREFIX = "OVAM_"


class BadSettingsError(Exception):
    """Settings that cannot be used: one complaint for each variable, which it names. The message is one line."""

    def __init__(self, *complaints: str) -> None:
        super().__init__("; ".join(complaints))
        self.complaints = complaints


class CommonSettings(BaseSettings):
    """What both sides must agree on."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore", validate_default=True)

    redis_url: str = Field(
        "redis://127.0.0.1:6379/0",
        description="Redis or Valkey: redis://, rediss:// or unix://; by Sentinels redis+sentinel://host:port,.../master/0",
    )
    data_dir: Path = Field(Path("data"), description="folder of the embedded Valkey, of the file store and of logs")
    store_url: str = Field("", description="artifacts: file:///folder or s3://bucket/prefix; <data_dir>/store without it")
    job_ttl_seconds: int = Field(86_400, ge=1, le=31_536_000, description="how long a finished job and its artifacts are kept")
    max_attempts: int = Field(3, ge=1, le=100, description="how many workers may die at a job before it fails with worker-died")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="least level that is logged")

    @field_validator("redis_url")
    @classmethod
    def is_redis(cls, url: str) -> str:
        """Only a Redis URL."""
        scheme = url.partition("://")[0]
        if scheme in CLUSTER_SCHEMES:
            raise ValueError(NO_CLUSTER)
        if scheme not in REDIS_SCHEMES:
            msg = f"it must start with one of {', '.join(f'{scheme}://' for scheme in REDIS_SCHEMES)}"
            raise ValueError(msg)
        if scheme.endswith("+sentinel"):
            from docket._redis_sentinel import parse_sentinel_url  # noqa: PLC0415  # a second that other URLs need not wait for

            parse_sentinel_url(url)
        return url

    @field_validator("data_dir")
    @classmethod
    def is_absolute(cls, folder: Path) -> Path:
        """The same folder for every process, wherever it was started."""
        return folder.expanduser().absolute()

    @field_validator("store_url")
    @classmethod
    def is_store(cls, url: str) -> str:
        """Only a store that this service can open, or none."""
        if url and urlsplit(url).scheme not in STORE_SCHEMES:
            msg = f"it must start with one of {', '.join(f'{scheme}://' for scheme in STORE_SCHEMES)}"
            raise ValueError(msg)
        return url

    @property
    def store(self) -> str:
        """The URL of the artifact store."""
        return self.store_url or f"file://{quote(str(self.data_dir / 'store'))}"


S = TypeVar("S", bound=CommonSettings)


def load(kind: type[S]) -> S:
    """The settings of this process; a BadSettingsError that names every variable that is wrong."""
    try:
        settings = kind()
    except ValidationError as error:
        raise BadSettingsError(*(complaint(dict(each)) for each in error.errors())) from error
    except SettingsError as error:  # a value that should have been JSON
        name = str(error).partition('"')[2].partition('"')[0]
        raise BadSettingsError(f"{PREFIX}{name.upper()}: it is not JSON") from error
    if urlsplit(settings.store).scheme == "memory":
        detail = "it lives in one process, but the gateway and each worker are one; allowed: file:// and s3://"
        raise BadSettingsError(f"{PREFIX}STORE_URL={settings.store_url}: {detail}")
    return settings


def without_secrets(url: str) -> str:
    """A URL as it may be shown and logged: without names, passwords and parameters.

    >>> without_secrets("redis://user:secret@host:6379/0?password=secret")
    'redis://***@host:6379/0?***'
    """
    return re.sub(r"\?.*", "?***", re.sub(r"//.*@", "//***@", url))


def complaint(error: dict[str, object]) -> str:
    """What is wrong with one variable, or with several together."""
    place = error["loc"]
    message = str(error["msg"]).removeprefix("Value error, ")
    if not isinstance(place, tuple) or not place:
        return message
    return f"{PREFIX}{str(place[0]).upper()}={without_secrets(str(error['input']))}: {message[:1].lower()}{message[1:]}"
