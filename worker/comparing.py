"""What is compared beside a job's segments: with the same targets in another image, and with the image without their words."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Bool

from contracts.schema import comparing
from contracts.schema.attribute import AttributeJob, Segment
from contracts.schema.fields import Artifact
from contracts.state.store import File
from ovam.attention.targets import Rows, Words
from ovam.core.differences import Change, Difference, difference, diverging
from ovam.cutting import Fit, cuts
from worker.attempts import Attempt
from worker.device import Priority
from worker.questions import heats_of, wanted_by
from worker.redrawing import Redrawn, redrawn
from worker.rendering import BINARY, npy, png
from worker.resources import Resources
from worker.scenes import Scene
from worker.segments import Heat
from worker.traces import Traces, model_for

Mask = Bool[np.ndarray, "height width"]
Artifacts = Mapping[str, Artifact]


@dataclass(frozen=True, eq=False)
class Beside:
    """What is said of a job's segments beside what they are, for each in order; its files are not stored yet."""

    differences: Sequence[Difference] = ()
    redrawn: Redrawn | None = None
    changes: Sequence[Change] = ()
    causal: comparing.Causal | None = None
    files: Sequence[File] = field(default_factory=list)

    def added(self, segment: Segment, number: int, artifacts: Artifacts) -> Segment:
        """Return a segment with what is said of it, given the artifacts of the files."""
        more: dict[str, Any] = {}
        if self.differences:
            more["difference"] = described(number, self.differences[number], artifacts)
        if self.redrawn:
            more["causal"] = self.redrawn.described(number, self.changes[number], artifacts)
        return segment.model_copy(update=more)


async def compared(
    attempt: Attempt,
    job: AttributeJob,
    scene: Scene,
    wanted: Sequence[Words | Rows],
    heats: Sequence[Heat],
    masks: Sequence[Mask],
    resources: Resources,
) -> Beside:
    """Compare what the job asks to; `wanted` are its targets, found in its own image at `heats` and in `masks`."""
    differences: list[Difference] = []
    if job.against is not None:
        its = await model_for(job.model, job.against, resources, field="against")  # with its own image's adapters
        traces = Traces(attempt, resources, its, Priority.INTERACTIVE)
        selection = wanted_by([each.settings for each in job.targets])
        other = await traces.scene(job.against, job.against_image, selection, field="against")
        there = await attempt.on_device(Priority.INTERACTIVE, lambda: heats_of(its, other, job, wanted))
        differences = await asyncio.to_thread(differences_of, job, heats, masks, there, other, resources.crf.fit)
    again = await redrawn(attempt, job, resources)
    changes = again.changes(masks) if again else []
    files = [file for number, each in enumerate(differences) for file in files_of(number, each)]
    files += [file for number, each in enumerate(changes) if again for file in again.files(number, each)]
    return Beside(differences, again, changes, again.causal(scene.image) if again else None, files)


def differences_of(
    job: AttributeJob, heats: Sequence[Heat], masks: Sequence[Mask], there: Sequence[Heat], other: Scene, fit: Fit
) -> list[Difference]:
    """Compare each target's heat and mask with those in another image."""
    other_masks = cuts([each.settings for each in job.targets], [heat.refined for heat in there], other.image, fit)
    return [
        difference(here.heatmap, heat.heatmap, mask, other_mask)
        for here, heat, mask, other_mask in zip(heats, there, masks, other_masks, strict=True)
    ]


def files_of(number: int, found: Difference) -> list[File]:
    """Write a difference, signed, and its picture."""
    return [
        File(f"difference-{number}.npy", BINARY, npy(found.heat)),
        File(f"difference-{number}.png", "image/png", png(diverging(found.heat))),
    ]


def described(number: int, found: Difference, artifacts: Artifacts) -> comparing.Difference:
    """Return a difference, given the artifacts of its files."""
    return comparing.Difference(
        inside=found.inside,
        outside=found.outside,
        total=found.total,
        iou=found.iou,
        npy=artifacts[f"difference-{number}.npy"],
        picture=artifacts[f"difference-{number}.png"],
    )
