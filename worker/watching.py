"""Where a generation's targets are while it is drawn: previews of its images, and which of them are given up."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import ceil
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool

from contracts.schema.attribute import Region
from contracts.schema.errors import Code, ServiceError
from contracts.schema.images import GenerateJob
from contracts.schema.jobs import Progress
from contracts.schema.previews import Gate, Preview, PreviewMask, Rejected
from ovam.attention.competition import rows_in_softmax
from ovam.attention.targets import Rows, Words, target_heatmaps
from ovam.core import coco
from ovam.core.methods import Method
from ovam.core.selection import select_positions
from ovam.cutting import cuts, refined
from ovam.errors import SelectionError
from ovam.tracing.capture import Live
from ovam.tracing.trace import Trace
from worker.attempts import Attempt
from worker.models import Model
from worker.previews import Pixels, decoded, mask_url, picture_url, preview_size
from worker.resources import Resources
from worker.targets import learned_tokens, library_target, sought

if TYPE_CHECKING:
    from pydantic import JsonValue

Mask = Bool[np.ndarray, "height width"]
Masks = list[Mask | None]
"""Of each target; None while its settings select no evaluation that was made."""
Planned = tuple[int, int]
"""An image by its number among those that were asked for, and its seed."""


class NonePasses(Exception):  # noqa: N818  # not an error: other seeds may be tried
    """No image of the running call is wanted any more."""


@dataclass(eq=False)
class Watcher:
    """Looks for a job's targets in the images that are being drawn. The device's thread alone uses it."""

    attempt: Attempt
    model: Model
    job: GenerateJob
    wanted: Sequence[Words | Rows]
    """Targets, then distractors."""
    rejected: list[Rejected] = field(default_factory=list)
    """In the order in which that was decided."""
    _decided: set[Planned] = field(default_factory=set)
    _rows: list[Rows] | None = None
    _latest: tuple[Progress, int] = (Progress(done=0, total=0, unit="step"), 0)

    @classmethod
    async def of(cls, attempt: Attempt, job: GenerateJob, model: Model, resources: Resources) -> "Watcher | None":
        """Return what watches a job; None if it has no targets. ServiceError: unknown-token, token-file-unreadable."""
        if not job.targets:
            return None
        learned = await learned_tokens(job, resources)
        return cls(attempt, model, job, [library_target(target, learned, field=name) for name, target in sought(job).items()])

    @property
    def methods(self) -> list[Method]:
        """Those of the targets; a dense CRF fits masks to an image, which is not there yet."""
        return [replace(each.settings, crf=None) for each in self.job.targets]

    def check(self, evaluations: int) -> None:
        """Raise SelectionError where a target's settings select none of the evaluations that are kept of every image."""
        for number, method in enumerate(self.methods):
            select_positions(method.evaluations, evaluations, f"targets.{number}.settings.evaluations")

    def look(self, live: Live, images: Sequence[Planned], progress: Progress) -> None:
        """After an evaluation: report previews if they are due, and decide about the images when it is time to.

        Raises NonePasses as soon as all images are rejected.
        """
        made, count = live.evaluations
        gate, self._latest = self.job.gate, (progress, count)
        due = made % self.job.every == 0 and made < count  # the last previews are those of the result
        undecided = gate is not None and made >= ceil(gate.at * count) and not self._decided.issuperset(images)
        if due or undecided:
            masks = [self.masks(trace) for trace in live.so_far()] or [[None] * len(self.job.targets)] * len(images)
            if gate is not None and undecided:
                self.judge(gate, dict(zip(images, masks, strict=True)), made)
            for preview in self.previews(live, images, masks) if due else ():
                self.attempt.report(progress.model_copy(update={"preview": preview}))

    def masks(self, trace: Trace) -> Masks:
        """Return where the targets are by the evaluations that a trace has."""
        if self._rows is None:
            targets, distractors = self.wanted[: len(self.job.targets)], self.wanted[len(self.job.targets) :]
            self._rows = rows_in_softmax(
                self.model.pipeline, targets, self.methods, self.job.softmax, distractors, trace.clip_skip, trace
            )
        ready = [number for number, method in enumerate(self.methods) if selects(method, trace)]
        methods, rows = [self.methods[number] for number in ready], [self._rows[number] for number in ready]
        heats = refined(target_heatmaps(trace, rows, methods), methods, trace.image_size, trace.self_attention) if ready else []
        found = dict(zip(ready, cuts(methods, heats), strict=True))
        return [found.get(number) for number in range(len(self.job.targets))]

    def judge(self, gate: Gate, masks: Mapping[Planned, Masks], made: int) -> None:
        """Decide which images go on. Raises NonePasses if none does."""
        number = [target.label for target in self.job.targets].index(gate.target)
        for planned, found in masks.items():
            mask = found[number]
            if mask is None:
                continue
            self._decided.add(planned)
            area = float(mask.mean())
            if not gate.min_area <= area <= gate.max_area:
                reason = "too-small" if area < gate.min_area else "too-large"
                image, seed = planned
                self.rejected.append(Rejected(image=image, seed=seed, evaluation=made, area=area, reason=reason))
        if not any(self.passes(planned) for planned in masks):
            raise NonePasses

    def passes(self, planned: Planned) -> bool:
        """Whether an image was not rejected."""
        return all((each.image, each.seed) != planned for each in self.rejected)

    def previews(self, live: Live, images: Sequence[Planned], masks: Sequence[Masks]) -> Iterator[Preview]:
        """Show the images that go on."""
        latents = live.predicted()
        pictures = [None] * len(images) if latents is None else decoded(self.model.pipeline, latents)
        for planned, picture, found in zip(images, pictures, masks, strict=True):
            if self.passes(planned):
                yield self.preview(planned, live.evaluations, picture, found)

    def preview(self, planned: Planned, evaluations: tuple[int, int], picture: Pixels | None, masks: Masks) -> Preview:
        """Show an image as it is after some of all its evaluations."""
        (image, seed), (made, count), size = planned, evaluations, preview_size((self.job.height, self.job.width))
        return Preview(
            image=image,
            seed=seed,
            evaluation=made,
            evaluations=count,
            picture=None if picture is None else picture_url(picture, size),
            masks=[
                PreviewMask(
                    label=target.label,
                    area=0.0 if mask is None else float(mask.mean()),
                    mask=None if mask is None else mask_url(mask, size),
                )
                for target, mask in zip(self.job.targets, masks, strict=True)
            ],
        )

    def last_preview(self, planned: Planned, picture: Pixels, regions: Sequence[Region]) -> Progress:
        """Show an image that is ready, with the masks of the result."""
        masks: Masks = [coco.decode_run_lengths({"size": [*each.rle.size], "counts": each.rle.counts}) for each in regions]
        progress, count = self._latest
        return progress.model_copy(update={"preview": self.preview(planned, (count, count), picture, masks)})

    def next_seed(self, planned: Planned) -> Planned | None:
        """Return what is drawn instead of a rejected image, if anything is."""
        gate, (image, seed) = self.job.gate, planned
        if gate is None or gate.on_fail == "stop":
            return None
        after = seed + self.job.num_images
        return (image, after) if after < self.job.seed + self.job.num_images * gate.seeds else None

    def nothing_passed(self) -> ServiceError:
        """Return why a job has no image."""
        gate = self.job.gate
        bounds = "" if gate is None else f"{gate.min_area:.1%} to {gate.max_area:.1%} of the image by {gate.target!r}"
        tries = "; ".join(f"seed {each.seed}: {each.area:.1%} after {each.evaluation} evaluations" for each in self.rejected)
        value: list[JsonValue] = [each.model_dump(mode="json") for each in self.rejected]
        return ServiceError(Code.GATE_NOT_PASSED, f"no image passed the gate, {bounds}: {tries}", field="gate", value=value)


def selects(method: Method, trace: Trace) -> bool:
    """Whether a method selects any of the evaluations that a trace has; a network waits for the last one."""
    if method.network is not None:
        return False
    try:
        return bool(select_positions(method.evaluations, len(trace.evaluations), "evaluations"))
    except SelectionError:
        return False
