"""What checks look things up in, and the checks that several kinds of requests share."""

import asyncio
from dataclasses import dataclass, field

from contracts.rules.capabilities import check_multiple
from contracts.rules.sources import images_of
from contracts.schema.errors import Code, ServiceError
from contracts.schema.images import ImagesResult
from contracts.schema.models import ModelCard
from contracts.state.ledger import Ledger
from service.catalog import Catalog
from service.settings import GatewaySettings

UNPACKED_AT_A_TIME = 2


@dataclass(frozen=True)
class Lookups:
    """Limits, models and tokens, jobs."""

    settings: GatewaySettings
    catalog: Catalog
    ledger: Ledger
    unpacking: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(UNPACKED_AT_A_TIME))
    """To be held while an image is unpacked: a small file may be a large image."""

    async def images_of(self, job_id: str, *, field: str) -> ImagesResult:
        """The result of a job that has images, succeeded and is still there."""
        return images_of(await self.ledger.get(job_id, field=field), field=field)


def check_side(side: int, card: ModelCard, limit: int, *, field: str) -> None:
    """Raise size-too-large or size-not-divisible unless a model can draw an image of that side."""
    check_at_most(side, limit, Code.SIZE_TOO_LARGE, field=field)
    check_multiple(side, card, field=field)


def check_at_most(number: int, limit: int, code: Code, *, field: str) -> None:
    """Raise `code` for a number over its limit."""
    if number > limit:
        raise ServiceError(code, f"`{field}` is {number}; allowed: at most {limit}", field=field, value=number)
