"""Learn a token from annotated images, and keep the best one."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from contracts.rules.annotations import annotations
from contracts.schema.fields import Artifact
from contracts.schema.jobs import Progress, utc_now
from contracts.schema.optimize import EmbeddingInitial, OptimizeJob, OptimizeResult, TokenInitial, WordInitial
from contracts.schema.tokens import TokenExample, TokenFacts
from contracts.state import keys
from contracts.state.store import File
from ovam.attention.heatmaps import heatmaps
from ovam.core.label_maps import IGNORE
from ovam.core.masks import binarize
from ovam.core.methods import METHODS
from ovam.core.schedules import decay
from ovam.core.thresholds import Threshold
from ovam.learning.initial import initial_tokens
from ovam.learning.optimization import TokenFit, optimize_tokens
from ovam.tracing.trace import Trace
from worker.attempts import Attempt
from worker.curves import loss_curve
from worker.device import Priority
from worker.models import Model
from worker.outcomes import Outcome
from worker.rendering import png
from worker.resources import Resources
from worker.tokens import UnregisteredToken, rows_of_token
from worker.traces import Traces, Wanted, model_for

CURVE, LOSSES = "curve.png", "losses.json"

TrainingExample = tuple[Trace, UInt8[np.ndarray, "height width"]]
"""A trace, and the labels of its image's pixels: 0 the background, k the k-th class, 255 does not count."""


@dataclass(frozen=True, eq=False)
class Initial:
    """What an optimisation starts from."""

    classes: list[str | Tensor]
    """A word or a row for each class."""
    background: Tensor | None
    """A row; None for <SoT>."""


async def optimize(attempt: Attempt, job: OptimizeJob, resources: Resources) -> Outcome:
    """Fit the token, and commit its losses. A job that is canceled meanwhile keeps the best token so far."""
    model = await model_for(job.model, job.examples[0].job_id, resources, field="examples.0.job_id")
    examples = await training_examples(attempt, job, model, resources)
    initial = await initial_of(job, resources)
    fit, iou = await attempt.on_device(Priority.OPTIMIZE, lambda: learn(attempt, model, job, examples, initial))
    attempt.check()
    files = await asyncio.to_thread(files_of, fit, job.epochs)
    artifacts = await resources.store.commit(attempt.job_id, attempt.number, files)
    canceled = attempt.canceled or fit.ended == "callback"
    token = UnregisteredToken(job.name, facts_of(attempt, job, fit, iou), fit.embedding)
    return Outcome(result_of(job, fit, iou, artifacts, canceled=canceled), (token,), canceled=canceled)


async def training_examples(attempt: Attempt, job: OptimizeJob, model: Model, resources: Resources) -> list[TrainingExample]:
    """Read the examples' traces and annotations. ServiceError, naming the example, when one cannot be used."""
    traces, wanted = Traces(attempt, resources, model, Priority.OPTIMIZE), Wanted([(job.blocks, job.evaluations)])
    scenes = [
        await traces.scene(example.job_id, example.image, wanted, field=f"examples.{number}.job_id")
        for number, example in enumerate(job.examples)
    ]
    sizes = [scene.trace.image_size for scene in scenes]
    labels = await asyncio.to_thread(lambda: [*annotations(job, sizes)])
    return [(scene.trace, one) for scene, one in zip(scenes, labels, strict=True)]


async def initial_of(job: OptimizeJob, resources: Resources) -> Initial:
    """Read what each class starts from. The first token among them brings the background's row, too."""
    classes: list[str | Tensor] = []
    background = None
    for place, start in enumerate(job.initial):
        match start:
            case WordInitial(word=word):
                classes.append(word)
            case EmbeddingInitial(embedding=embedding):
                classes.append(torch.tensor(embedding))
            case TokenInitial(token=token, class_name=class_name):
                field = f"initial.{place}"
                card, rows = await rows_of_token(resources.registry, resources.store, token, field=f"{field}.token")
                classes.append(rows[card.row(class_name, field=f"{field}.class_name")])
                background = rows[0] if background is None else background
    return Initial(classes, background)


def learn(
    attempt: Attempt, model: Model, job: OptimizeJob, examples: Sequence[TrainingExample], initial: Initial
) -> tuple[TokenFit, float]:
    """Optimise the token and report every epoch; returns it with its mean IoU on its own examples."""
    # Half precision would lose small gradients, and on a CPU be converted anew in every epoch.
    moved = [(trace.to(device=model.device, dtype=torch.float32), labels) for trace, labels in examples]

    def epoch_ended(epoch: int, loss: float) -> bool:
        attempt.report(Progress(done=epoch + 1, total=job.epochs, unit="epoch", loss=loss))
        attempt.keeps = True  # from now on there is a best token
        attempt.breathe()
        return not attempt.canceled

    fit = optimize_tokens(
        moved,
        initial_tokens(model.pipeline, *initial.classes, background=initial.background, noise=job.noise, seed=job.seed),
        loss=job.loss,
        optimizer=job.optimizer,
        learning_rate=job.learning_rate,
        epochs=job.epochs,
        schedule=job.schedule,
        patience=job.patience,
        blocks=job.blocks,
        evaluations=job.evaluations,
        on_epoch=epoch_ended,
    )
    best = model.card.token_defaults
    threshold = replace(METHODS[best.method].tokens, **best.settings.changes()).threshold
    ious = [iou for trace, labels in moved for iou in ious_of(trace, labels, fit.embedding, job, threshold)]
    return fit, sum(ious) / len(ious)


@torch.no_grad()
def ious_of(
    trace: Trace,
    labels: UInt8[np.ndarray, "height width"],
    embedding: Float[Tensor, "classes width"],
    job: OptimizeJob,
    threshold: Threshold,
) -> list[float]:
    """Compare the masks of the classes that an image has with its labels: the IoU of each class."""
    maps = heatmaps(trace, embedding, size=trace.image_size, blocks=job.blocks, evaluations=job.evaluations)
    ious = []
    for label, heat in enumerate(maps[1:].cpu(), start=1):
        truth, mask = labels == label, binarize(heat, threshold) & (labels != IGNORE)
        if truth.any():
            ious.append(float((mask & truth).sum() / (mask | truth).sum()))
    return ious


def files_of(fit: TokenFit, epochs: int) -> list[File]:
    """Show the loss of every epoch, as a picture and as numbers."""
    course = [
        {"epoch": epoch, "loss": loss, "learning_rate": fit.learning_rate * decay(fit.schedule, epoch, epochs)}
        for epoch, loss in enumerate(fit.losses)
    ]
    return [
        File(CURVE, "image/png", png(loss_curve(fit.losses, fit.best_epoch))),
        File(LOSSES, "application/json", json.dumps(course).encode()),
    ]


def facts_of(attempt: Attempt, job: OptimizeJob, fit: TokenFit, iou: float) -> TokenFacts:
    """Describe the token; `settings` is what a request sends to learn it again."""
    return TokenFacts(
        id=keys.token_id(attempt.job_id, attempt.number),
        model=job.model,
        width=fit.embedding.shape[1],
        family=fit.family,
        classes=[*job.classes],
        origin="optimize",
        examples=[TokenExample(job_id=example.job_id, image=example.image) for example in job.examples],
        settings=job.model_dump(mode="json", exclude={"kind", "model", "name", "classes", "examples"}),
        epochs=len(fit.losses),
        best_epoch=fit.best_epoch,
        best_loss=fit.best_loss,
        example_iou=iou,
        job_id=attempt.job_id,
        created_at=utc_now(),
    )


def result_of(job: OptimizeJob, fit: TokenFit, iou: float, artifacts: dict[str, Artifact], *, canceled: bool) -> OptimizeResult:
    """Describe how the optimisation went."""
    return OptimizeResult(
        token=job.name,
        model=job.model,
        width=fit.embedding.shape[1],
        classes=[*job.classes],
        epochs=len(fit.losses),
        best_epoch=fit.best_epoch,
        best_loss=fit.best_loss,
        ended="canceled" if canceled or fit.ended == "callback" else fit.ended,
        example_iou=iou,
        losses=[*fit.losses],
        curve=artifacts[CURVE],
        curve_json=artifacts[LOSSES],
    )
