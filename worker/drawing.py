"""Drawing images on the device: calls of the pipeline, each for a batch of images of one job or of several, and what is kept."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from math import ceil

import numpy as np
import torch
from PIL.Image import Image

from contracts.rules.capabilities import steps_made
from contracts.schema.errors import Code, ServiceError
from contracts.schema.images import GenerateJob
from contracts.schema.jobs import Progress
from contracts.schema.models import ModelCard
from ovam.core.selection import FeatureChoice, select_positions
from ovam.tracing.capture import Live, capture_live, capture_replay
from ovam.tracing.model import Pipeline
from ovam.tracing.recorder import Choice
from ovam.tracing.trace import Trace
from worker.batches import Member, breathe
from worker.calling import called, steps_of
from worker.emphasis import prompts_of
from worker.keeping import Taken, in_either_form, needs_self_attention, queries_bytes
from worker.models import Model, lent
from worker.questions import heats_of
from worker.scenes import Scene
from worker.schedulers import set_steps
from worker.segments import Heat
from worker.starting import Start
from worker.watching import NonePasses, Planned, Watcher


@dataclass(frozen=True, eq=False)
class Drawn:
    """An image that was drawn, what is kept of it, and where its targets are."""

    planned: Planned
    taken: Taken
    heats: Sequence[Heat]


@dataclass(eq=False)
class Drawing(Member):
    """A job that is drawn, and what looks for its targets meanwhile."""

    watcher: Watcher | None = None
    start: Start = field(default_factory=Start)


def images_of(members: Sequence[Drawing], batch: int, model: Model, room: int) -> dict[Drawing, list[Drawn]]:
    """Run the pipeline, a batch of images at a time, until none is pending; image k of a job depends on its own seed alone.

    Several members differ in prompts and seeds alone, and are drawn in one batch. `room` is how large a trace can be, in bytes,
    to be kept in memory. ServiceError (gate-not-passed) for a job without any image; Abandoned.
    """
    job, watcher = members[0].job, members[0].watcher  # one with targets is by itself
    drawn: dict[Drawing, list[Drawn]] = {member: [] for member in members}
    with lent(model, job.scheduler, start=members[0].start.kind) as pipeline:
        evaluations = kept_evaluations(pipeline, job)
        of_one = queries_bytes(pipeline, job.capture, model.card, (job.height, job.width), len(evaluations))
        if watcher is not None:
            watcher.check(len(evaluations))
        pending, calls = [(member, each) for member in members for each in enumerate(seeds_of(member.job))], 0
        while pending:
            rows, pending = pending[:batch], pending[batch:]
            breathe(members)
            in_memory = (sum(map(len, drawn.values())) + len(rows)) * of_one <= room
            run = partial(run_pipeline, pipeline, rows, (calls, calls + 1 + ceil(len(pending) / batch)))
            take = partial(captured, pipeline, model.card, job, evaluations, run, in_memory or watcher is not None)
            try:
                taken = in_either_form(take, replay=job.capture.keep == "replay", label=f"job {members[0].attempt.job_id}")
            except NonePasses:
                taken = []
            calls += 1
            for (member, planned), each in zip(rows, taken, strict=False):
                if watcher is None or watcher.passes(planned):
                    drawn[member].append(looked_at(planned, each, model, job, watcher, in_memory=in_memory))
            if watcher is not None:
                again = [(member, watcher.next_seed(each)) for member, each in rows if not watcher.passes(each)]
                pending += [(member, each) for member, each in again if each is not None]
    if watcher is not None and not drawn[members[0]]:
        raise watcher.nothing_passed()
    return {member: sorted(images, key=lambda each: each.planned) for member, images in drawn.items()}


def looked_at(
    planned: Planned, taken: Taken, model: Model, job: GenerateJob, watcher: Watcher | None, *, in_memory: bool
) -> Drawn:
    """Look for the targets in an image, in its trace as a later question finds it; a trace without room in memory goes then."""
    if watcher is None:
        return Drawn(planned, taken, [])
    scene = taken.scene(job.capture.precision)
    if scene is None:  # it is stored with less precision than it has
        scene = Scene(Trace.from_bytes(taken.file(0, job.capture.precision).data, model.pipeline), taken.image)
    heats = heats_of(model, scene, job, watcher.wanted)
    return Drawn(planned, taken if in_memory or taken.replay is None else replace(taken, trace=None), heats)


def captured(
    pipeline: Pipeline,
    card: ModelCard,
    job: GenerateJob,
    evaluations: tuple[int, ...],
    run: Callable[[Live | None], list[Image]],
    in_memory: bool,  # noqa: FBT001
    replay: bool,  # noqa: FBT001
) -> list[Taken]:
    """Draw images and keep their traces, unless these have no room in memory and need not be stored, and their replays."""
    options = job.capture
    if replay:
        pixels = needs_self_attention(card) or any(target.settings.needs_self_attention for target in job.targets)
    else:
        pixels = options.self_attention
    kept = {
        "half": options.branch,
        "blocks": options.blocks,
        "evaluations": evaluations,
        "heads": options.heads,
        "mid_block": options.mid_block,
    }
    with ExitStack() as stack:
        features = FeatureChoice() if any(target.settings.network for target in job.targets) else None
        automatic = any(target.settings.aggregation == "automatic" for target in job.targets)
        choice = Choice(**kept, self_attention=pixels, features=features, contributions=automatic)
        traced = capture_live(pipeline, choice) if in_memory or not replay else None
        live = None if traced is None else stack.enter_context(traced)
        replays = stack.enter_context(capture_replay(pipeline, **kept)) if replay else None
        images = run(live)
    nothing = [None] * len(images)
    return [
        Taken(np.asarray(image), trace, again)
        for image, trace, again in zip(images, live.traces if live else nothing, replays or nothing, strict=True)
    ]


def run_pipeline(
    pipeline: Pipeline, rows: Sequence[tuple[Drawing, Planned]], call: tuple[int, int], live: Live | None
) -> list[Image]:
    """Draw one batch and report every step. The noise is drawn on the CPU, so that a seed means the same everywhere."""
    members, (number, calls) = [*dict.fromkeys(member for member, _ in rows)], call
    job, watcher = members[0].job, members[0].watcher

    def step_ended(running: Pipeline, step: int) -> None:
        steps = steps_of(running)
        progress = Progress(done=number * steps + step + 1, total=calls * steps, unit="step")
        for member in members:
            member.attempt.report(progress)
        if watcher is not None and live is not None:
            watcher.look(live, [planned for _, planned in rows], progress)
        breathe(members)

    return called(
        pipeline,
        step_ended=step_ended,
        **prompts_of(pipeline, job, [member.job.prompt for member, _ in rows]),
        # Without a negative prompt SDXL is guided away from zeros, not from an empty text.
        negative_prompt=[member.job.negative_prompt for member, _ in rows] if job.negative_prompt else None,
        **members[0].start.arguments(job, len(rows)),
        clip_skip=job.clip_skip,
        num_inference_steps=job.num_inference_steps,
        guidance_scale=job.guidance_scale,
        generator=[torch.Generator().manual_seed(seed) for _, (_, seed) in rows],
    ).images


def kept_evaluations(pipeline: Pipeline, job: GenerateJob) -> tuple[int, ...]:
    """Return which UNet evaluations are kept. How many there are is known to the scheduler alone.

    ServiceError (settings-contradict) when the scheduler does not take that many steps; SelectionError.
    """
    steps = job.num_inference_steps
    try:
        set_steps(pipeline.scheduler, steps)
    except ValueError as error:
        detail = f"{job.scheduler} does not take {steps} steps: {error}"
        raise ServiceError(Code.SETTINGS_CONTRADICT, detail, field="num_inference_steps", value=steps) from error
    left_out = (steps - steps_made(job)) * pipeline.scheduler.order
    return select_positions(job.capture.evaluations, len(pipeline.scheduler.timesteps) - left_out, "capture.evaluations")


def seeds_of(job: GenerateJob) -> range:
    """Return the seed of every image."""
    return range(job.seed, job.seed + job.num_images)
