"""Admission by cost: what a job will take is estimated before it is filed, and too much is refused."""

from collections.abc import Iterator
from dataclasses import dataclass

from pydantic import JsonValue

from contracts.rules.capabilities import evaluations_of
from contracts.rules.estimates import estimate
from contracts.schema.attribute import AttributeJob
from contracts.schema.errors import FieldError
from contracts.schema.estimates import Estimate
from contracts.schema.images import GenerateJob, ImageJob, ImagesResult
from contracts.schema.jobs import AnyJob
from contracts.schema.models import ModelCard
from contracts.schema.optimize import OptimizeJob
from contracts.schema.probe import ProbeJob
from contracts.schema.tokens import ImportJob
from service.refusals import JobTooLargeError
from service.settings import GatewaySettings
from service.validation.lookups import Lookups

GIB = 1 << 30
HUNDRED = 100


@dataclass(frozen=True)
class Bound:
    """One thing that a job takes, and how much of it a job may take."""

    what: str
    needed: float
    allowed: float
    unit: str
    source: str
    """Where the limit is set."""

    @property
    def sentence(self) -> str:
        """What is wrong."""
        return f"{self.what} {shown(self.needed)} {self.unit}; allowed: {shown(self.allowed)} {self.unit} ({self.source})"


def shown(number: float) -> str:
    """A number with three digits, or without a fraction."""
    return f"{number:.3g}" if number < HUNDRED else f"{number:,.0f}"


async def admitted(job: AnyJob, lookups: Lookups) -> Estimate | None:
    """What a job will take; None for a model whose card does not say enough. Raises job-too-large."""
    card = await lookups.catalog.model(job.model)
    found = estimate(job, card, await sources_of(job, lookups))
    if found is None:
        return None
    pace = await lookups.paces.of(job.paced_as if isinstance(job, AttributeJob) else job.kind, card.name)
    if pace is not None:
        found = found.model_copy(update={"seconds": round(pace * found.work, 3)})
    exceeded = [bound for bound in bounds(found, card, lookups.settings) if bound.needed > bound.allowed]
    if exceeded:
        detail = "; ".join(bound.sentence for bound in exceeded)
        errors = [
            FieldError(field=field, detail=f"{sentence}; reduce it", value=value) for field, sentence, value in deciding(job)
        ]
        raise JobTooLargeError(f"the job {detail}. Reduce {named(errors)}", errors, found)
    return found


async def sources_of(job: AnyJob, lookups: Lookups) -> list[ImagesResult]:
    """The images that a job is about."""
    match job:
        case AttributeJob():
            ids = [job.job_id, *([job.against] if job.against else [])]
        case ProbeJob():
            ids = [job.job_id]
        case OptimizeJob():
            ids = [example.job_id for example in job.examples]
        case _:
            ids = []
    found = {job_id: await lookups.images_of(job_id, field="job_id") for job_id in dict.fromkeys(ids)}
    return [found[job_id] for job_id in ids]


def bounds(found: Estimate, card: ModelCard, settings: GatewaySettings) -> Iterator[Bound]:
    """What the deployment allows of everything that an estimate says."""
    yield Bound(
        "would keep", found.kept_bytes / GIB, settings.max_job_kept_bytes / GIB, "GiB of files", "OVAM_MAX_JOB_KEPT_BYTES"
    )
    most, source = settings.max_job_memory_bytes, "OVAM_MAX_JOB_MEMORY_BYTES"
    if not most and card.sizes and card.sizes.device_bytes:
        most, source = card.sizes.device_bytes, "the device has no more"
    if most:
        yield Bound("would need", found.memory_bytes / GIB, most / GIB, "GiB of device memory", source)
    if found.seconds is not None:
        yield Bound("would run for", found.seconds, settings.max_job_seconds, "s", "OVAM_MAX_JOB_SECONDS")


def deciding(job: AnyJob) -> Iterator[tuple[str, str, JsonValue]]:
    """The fields on which it depends how much a job takes: name, what it is, value."""
    match job:
        case GenerateJob():
            for field in ("num_images", "num_inference_steps", "height", "width"):
                yield field, f"`{field}` is {getattr(job, field)}", getattr(job, field)
            yield from captured(job)
            yield from watched(job)
        case ImageJob():
            steps = "num_inference_steps" if job.inversion == "ddim" else "timesteps"
            yield steps, f"the image takes {evaluations_of(job)} evaluations", evaluations_of(job)
            for field in ("height", "width"):
                yield field, f"`{field}` is {getattr(job, field)}", getattr(job, field)
            yield from captured(job)
        case AttributeJob():
            yield "targets", f"there are {len(job.targets)} targets", len(job.targets)
            if job.maps:
                yield "maps", f"`maps` is {job.maps}", [*job.maps]
        case OptimizeJob():
            yield "examples", f"there are {len(job.examples)} examples", len(job.examples)
            yield "epochs", f"`epochs` is {job.epochs}", job.epochs
        case ProbeJob():
            yield "job_id", "the image's trace is large", job.job_id
        case ImportJob():
            yield "file", f"the file is {len(job.file)} letters of base64", len(job.file)


def captured(job: GenerateJob | ImageJob) -> Iterator[tuple[str, str, JsonValue]]:
    """What of an image's capture makes its trace large, if it does."""
    if job.capture.self_attention:
        yield "capture.self_attention", "`capture.self_attention` is true", True


def watched(job: GenerateJob) -> Iterator[tuple[str, str, JsonValue]]:
    """What a generation's targets add, if there are any."""
    if job.targets:
        yield "targets", f"there are {len(job.targets)} targets", len(job.targets)
    if job.gate is not None and job.gate.on_fail == "next-seed":
        yield "gate.seeds", f"`gate.seeds` is {job.gate.seeds}", job.gate.seeds


def named(errors: list[FieldError]) -> str:
    """The fields in a row."""
    return ", ".join(f"`{error.field}`" for error in errors)
