"""What checks look things up in, and the checks that several kinds of requests share."""

from dataclasses import dataclass, field

from contracts.rules.capabilities import check_multiple
from contracts.rules.sources import images_of
from contracts.schema.errors import Code, ServiceError
from contracts.schema.images import GenerateJob, ImageJob, ImagesResult
from contracts.schema.models import ModelCard
from contracts.state.ledger import Ledger
from contracts.state.paces import Paces
from service.catalog import Catalog
from service.decoding import Decoders
from service.settings import GatewaySettings


@dataclass(frozen=True)
class Lookups:
    """Limits, models and tokens, jobs, decoders."""

    settings: GatewaySettings
    catalog: Catalog
    ledger: Ledger
    decoders: Decoders
    """Of images and masks: a small file may be a large image."""
    paces: Paces
    images: dict[str, ImagesResult] = field(default_factory=dict)
    """What one request has looked up."""
    prompts: dict[str, str] = field(default_factory=dict)
    """And what those images were made for."""

    async def images_of(self, job_id: str, *, field: str) -> ImagesResult:
        """The result of a job that has images, succeeded and is still there."""
        if job_id not in self.images:
            record = await self.ledger.get(job_id, field=field)
            self.images[job_id] = images_of(record, field=field)
            if isinstance(record.request, GenerateJob | ImageJob):
                self.prompts[job_id] = record.request.prompt
        return self.images[job_id]

    async def prompt_of(self, job_id: str, *, field: str) -> str | None:
        """What a job's images were made for; None where its record does not hold so large a request."""
        await self.images_of(job_id, field=field)
        return self.prompts.get(job_id)


def check_side(side: int, card: ModelCard, limit: int, *, field: str) -> None:
    """Raise size-too-large or size-not-divisible unless a model can draw an image of that side."""
    check_at_most(side, limit, Code.SIZE_TOO_LARGE, field=field)
    check_multiple(side, card, field=field)


def check_at_most(number: int, limit: int, code: Code, *, field: str) -> None:
    """Raise `code` for a number over its limit."""
    if number > limit:
        raise ServiceError(code, f"`{field}` is {number}; allowed: at most {limit}", field=field, value=number)
