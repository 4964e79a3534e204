"""Settings of the gateway."""

import re
from typing import Literal

from pydantic import Field, field_validator

from contracts.settings import CommonSettings

GIB = 1 << 30
LOOPBACK = ("127.0.0.1", "::1", "localhost")


class GatewaySettings(CommonSettings):
    """What the gateway admits, and where it listens."""

    host: str = Field("127.0.0.1", min_length=1, description="address the gateway listens on")
    port: int = Field(8000, ge=0, le=65_535, description="port the gateway listens on; 0 for a free one")
    root_path: str = Field(
        "", pattern=r"^(/[A-Za-z0-9._~-]+)*$", description="path below which a proxy shows the gateway, as /ovam"
    )
    cors_origins: str = Field(
        "", description="origins whose pages may call the gateway, separated by commas, or *; none without it"
    )
    allowed_hosts: str = Field(
        "",
        description="host names by which clients call the gateway, separated by commas, or *; by default `localhost` alone if it "
        "listens on this machine only, else any; addresses are always allowed",
    )
    max_body_bytes: int = Field(8 * 2**20, ge=1024, description="largest request body; most routes take less")
    keys: Literal["auto", "required", "off"] = Field(
        "auto", description="API keys: required or off; auto is off, and starts only where no other machine can reach the gateway"
    )
    webhooks: Literal["public", "any", "none"] = Field(
        "public", description="where webhooks may go: to public addresses, to any (private ones, too), or nowhere"
    )
    image_hosts: str = Field(
        "",
        description="private hosts, as host or host:port, from which images of annotation tools may be fetched, separated by "
        "commas; public ones always may; `none`: nothing is fetched",
    )
    max_queued: int = Field(256, ge=1, description="jobs of a lane that may wait; further ones are answered with 429")
    max_steps: int = Field(150, ge=1, description="most num_inference_steps of a generation")
    max_images: int = Field(8, ge=1, description="most num_images of a generation")
    max_side: int = Field(1024, ge=8, description="largest height and width of an image, in pixels")
    max_job_kept_bytes: int = Field(16 * GIB, ge=1, description="most that the files of a job may take, as estimated")
    max_job_memory_bytes: int = Field(
        0, ge=0, description="most memory that a job may take on the device, as estimated; 0: as much as the device has"
    )
    max_job_seconds: int = Field(3600, ge=1, description="longest that a job may run, as estimated from jobs before it")

    @field_validator("cors_origins")
    @classmethod
    def are_origins(cls, origins: str) -> str:
        """Only `*`, or scheme and host as browsers send them."""
        wrong = [each for each in listed(origins) if each != "*" and not re.fullmatch(r"https?://[^/\s]+", each)]
        if wrong:
            msg = f"{wrong[0]!r} is no origin; allowed: * or scheme://host[:port], without a path"
            raise ValueError(msg)
        return origins

    @property
    def local(self) -> bool:
        """Whether only this machine can reach the gateway."""
        return self.host in LOOPBACK

    @property
    def undecided(self) -> str | None:
        """Why a gateway may not start yet: others could reach it, and nobody has decided whom it lets in."""
        if self.keys != "auto" or self.local:
            return None
        way = "set OVAM_KEYS=required and give clients keys (`ovam keys create`), or OVAM_KEYS=off to let everybody in"
        return f"OVAM_HOST={self.host}: other machines can reach the gateway there; {way}"

    @property
    def keys_required(self) -> bool:
        """Whether requests need an API key; if nothing was decided, where other machines can send some."""
        return self.keys == "required" or (self.keys == "auto" and not self.local)

    @property
    def origins(self) -> list[str]:
        """The origins whose pages may call the gateway."""
        return listed(self.cors_origins)

    @property
    def hosts(self) -> frozenset[str] | None:
        """The names by which clients may call the gateway, in lower case; None for any."""
        named = frozenset(listed(self.allowed_hosts.lower()))
        local = self.host in LOOPBACK
        return None if "*" in named or not (named or local) else named | {"localhost"}


def listed(text: str) -> list[str]:
    """What is separated by commas."""
    return [part.strip() for part in text.split(",") if part.strip()]
