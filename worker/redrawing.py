"""An image drawn again without the words of its targets, to see what each does."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count

import numpy as np
from jaxtyping import Bool, UInt8

from contracts.rules.sources import images_of
from contracts.schema.attribute import AttributeJob
from contracts.schema.comparing import Causal, CausalChange, CausalOptions
from contracts.schema.conditions import adapters_of
from contracts.schema.errors import Code, ServiceError
from contracts.schema.fields import Artifact
from contracts.schema.images import GenerateJob
from contracts.schema.targets import WordsTarget
from contracts.state.requests import request_of
from contracts.state.store import File
from ovam.causal import left_out
from ovam.core.differences import Change, changed
from ovam.core.selection import Span, select_positions
from worker.attempts import Attempt
from worker.batches import Abandoned
from worker.device import Priority
from worker.drawing import Drawing, run_pipeline
from worker.models import Model, lent
from worker.rendering import grey, png
from worker.resources import Resources
from worker.starting import start_of

Pixels = UInt8[np.ndarray, "height width 3"]
Mask = Bool[np.ndarray, "height width"]


@dataclass(frozen=True, eq=False)
class Redrawn:
    """An image drawn again: as it was, and without each target's word."""

    same: Pixels
    without: Sequence[tuple[str, Pixels]]
    """The prompt and the image, for each target."""
    start: int
    """Evaluation from which the words are left out."""
    evaluations: int

    def causal(self, stored: Pixels) -> Causal:
        """Say how it was drawn, and how far it is from the stored image."""
        drift = changed(stored, self.same, np.ones(stored.shape[:2], np.bool_)).inside
        return Causal(from_evaluation=self.start, evaluations=self.evaluations, redrawn=drift or 0.0)

    def changes(self, masks: Sequence[Mask]) -> list[Change]:
        """Say what changed for each target, inside its mask and outside."""
        return [changed(self.same, image, mask) for (_, image), mask in zip(self.without, masks, strict=True)]

    def files(self, number: int, change: Change) -> list[File]:
        """Write the image without a target's word, and what changed."""
        _, image = self.without[number]
        pictures = {f"without-{number}.png": image, f"change-{number}.png": grey(change.size)}
        return [File(name, "image/png", png(pixels)) for name, pixels in pictures.items()]

    def described(self, number: int, change: Change, artifacts: Mapping[str, Artifact]) -> CausalChange:
        """Return a target's change, given the artifacts of its files."""
        return CausalChange(
            prompt=self.without[number][0],
            inside=change.inside,
            outside=change.outside,
            image=artifacts[f"without-{number}.png"],
            change=artifacts[f"change-{number}.png"],
        )


async def redrawn(attempt: Attempt, job: AttributeJob, resources: Resources) -> Redrawn | None:
    """Draw a job's image again, as it was and without each target's word; `None` unless the job asks for it.

    ServiceError: settings-contradict for a real image, and one of a prompt with emphasis; trace-mismatch where the model's
    weights are others now; what the models raise for adapters that are gone.
    """
    if job.causal is None:
        return None
    options, words = job.causal, [each.target.word or "" for each in job.targets if isinstance(each.target, WordsTarget)]
    record = await resources.ledger.get(job.job_id, field="job_id")
    images, request = images_of(record, field="job_id"), await request_of(record, resources.store)
    if not isinstance(request, GenerateJob):
        detail = f"job {job.job_id} is of kind {record.kind!r}; allowed with `causal`: generate"
        raise ServiceError(Code.SETTINGS_CONTRADICT, detail, field="causal")
    if request.emphasis:
        detail = f"job {job.job_id} has words with emphasis; allowed with `causal`: none"
        raise ServiceError(Code.SETTINGS_CONTRADICT, detail, field="causal")
    model = await resources.models.get(job.model, adapters_of(request))
    if images.weights != model.weights:
        detail = f"job {job.job_id} drew its image with weights {images.weights!r}; model {job.model!r} has {model.weights!r} now"
        raise ServiceError(Code.TRACE_MISMATCH, detail, field="job_id", value=job.job_id)
    changes = {"num_images": 1, "seed": images.images[job.image].seed, "targets": [], "gate": None}
    drawing = Drawing(attempt, request.model_copy(update=changes), start=await start_of(job.job_id, request, resources))
    return await attempt.on_device(Priority.GENERATE, lambda: drawn_again(drawing, options, words, model))


def drawn_again(drawing: Drawing, options: CausalOptions, words: Sequence[str], model: Model) -> Redrawn:
    """Draw a job's only image as it was, then without each word, one at a time: kernels of one shape round alike."""
    job, numbers = drawing.job, count()

    def again(word: str | None) -> tuple[str, Pixels, int]:
        with lent(model, job.scheduler, start=drawing.start.kind) as pipeline, ExitStack() as stack:
            prompt = job.prompt
            if word is not None:
                how = {"instead": options.instead or "", "start": options.from_evaluation, "clip_skip": job.clip_skip}
                leaving = left_out(pipeline, prompt, word, **how)
                prompt = stack.enter_context(leaving)
            rows = [(drawing, (0, job.seed))]
            (image,) = run_pipeline(pipeline, rows, (next(numbers), len(words) + 1), None)
            return prompt, np.asarray(image), pipeline.num_timesteps

    try:
        _, same, evaluations = again(None)
        start = select_positions(Span(options.from_evaluation), evaluations, "causal.from_evaluation")[0]
        return Redrawn(same, [again(word)[:2] for word in words], start, evaluations)
    except Abandoned:  # the attempt is to stop: why is its own
        drawing.attempt.check()
        raise
