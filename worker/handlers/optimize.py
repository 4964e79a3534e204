"""Learn a token from annotated images, and keep the best one found."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

import ovam
from contracts import keys
from contracts.errors import Code, ServiceError
from contracts.jobs import Progress, utc_now
from contracts.masks import IGNORE, annotations
from contracts.models import ModelCard
from contracts.optimization import ConstantRate, CosineRate, OptimizeRequest, OptimizeResult, StepRate
from contracts.store import File
from contracts.tokens import TokenExample, TokenFacts
from ovam.schedules import Schedule, share_of_rate
from worker import tokens
from worker.attempts import Attempt
from worker.curves import loss_curve
from worker.gpu import Priority
from worker.models import Model
from worker.rendering import png
from worker.resources import Resources
from worker.selection import indices_of
from worker.traces import scene_of, source_of

CURVE, LOSSES = "curve.png", "losses.json"

Lesson = tuple[ovam.Trace, UInt8[Tensor, "height width"]]
"""A trace, and the labels of its image's pixels: 0 the background, k the k-th class, 255 does not count."""


@dataclass(frozen=True, eq=False)
class Beginning:
    """What an optimisation starts from."""

    classes: list[str | Tensor]
    """A word or a row for each class."""
    background: Tensor | None
    """A row; None for <SoT>."""


async def optimize(attempt: Attempt, request: OptimizeRequest, resources: Resources) -> OptimizeResult:
    """Fit the token and commit it with its losses; a job that is canceled meanwhile keeps the best token so far."""
    model, lessons = await lessons_of(request, resources)
    beginning = await beginning_of(request, model.card, resources)
    fit, iou = await attempt.on_device(Priority.OPTIMIZE, lambda: learn(attempt, model, request, lessons, beginning))
    attempt.check()
    files = await asyncio.to_thread(files_of, fit, request.epochs)
    artifacts = await resources.store.commit(attempt.job_id, attempt.number, files)
    facts = facts_of(attempt, request, model, fit, iou)
    await tokens.keep(attempt, resources.store, request.name, facts, fit.embedding)
    return OptimizeResult(
        token=request.name,
        model=facts.model,
        width=facts.width,
        classes=facts.classes,
        epochs=len(fit.losses),
        best_epoch=fit.best_epoch,
        best_loss=fit.best_loss,
        ended="canceled" if attempt.canceled or fit.ended == "callback" else fit.ended,
        example_iou=iou,
        losses=list(fit.losses),
        curve=artifacts[CURVE],
        curve_json=artifacts[LOSSES],
    )


async def lessons_of(request: OptimizeRequest, resources: Resources) -> tuple[Model, list[Lesson]]:
    """The traces and labels of the examples, all of one model. ServiceError, naming the example, when one is unusable."""
    sources = [
        await source_of(resources.ledger, example.job_id, example.image, field=f"examples.{number}.job_id")
        for number, example in enumerate(request.examples)
    ]
    names = {source.model for _, source in sources}
    if len(names) > 1:
        detail = f"the examples' images are by {len(names)} models: {', '.join(sorted(names))}; allowed: one"
        raise ServiceError(Code.EXAMPLES_OF_OTHER_MODELS, detail, field="examples")
    sizes = [(source.height, source.width) for _, source in sources]
    labels = await asyncio.to_thread(lambda: list(annotations(request, sizes)))
    model = await resources.models.get(names.pop())
    scenes = [
        await scene_of(record, example.image, model, cache=resources.scenes, store=resources.store)
        for example, (record, _) in zip(request.examples, sources, strict=True)
    ]
    return model, [(scene.trace, torch.from_numpy(one)) for scene, one in zip(scenes, labels, strict=True)]


async def beginning_of(request: OptimizeRequest, card: ModelCard, resources: Resources) -> Beginning:
    """What each class starts from: a word, a row, or a class of a token, the first of which lends its background, too."""
    classes: list[str | Tensor] = []
    background = None
    for place, (name, start) in enumerate(zip(request.classes, request.start or [None] * len(request.classes), strict=True)):
        if start is None or start.word is not None:
            classes.append(name if start is None else start.word or name)
        elif start.embedding is not None:
            classes.append(torch.tensor(start.embedding))
        else:
            field, reference = f"start.{place}", start.token or ""
            token, rows = await tokens.embedding_of(resources.redis, resources.store, reference, card, field=f"{field}.token")
            classes.append(rows[token.row(start.class_name, field=f"{field}.class_name")])
            background = rows[0] if background is None else background
    return Beginning(classes, background)


def learn(
    attempt: Attempt, model: Model, request: OptimizeRequest, lessons: Sequence[Lesson], beginning: Beginning
) -> tuple[ovam.TokenFit, float]:
    """Optimise the token, telling of every epoch; returns it with its mean IoU on its own examples."""
    # Half precision would lose small gradients, and on a CPU be converted anew in every epoch.
    examples = [(trace.to(device=model.device, dtype=torch.float32), labels) for trace, labels in lessons]

    def epoch_ended(epoch: int, loss: float) -> bool:
        attempt.report(Progress(done=epoch + 1, total=request.epochs, unit="epoch", loss=loss))
        attempt.keeps = True  # from now on there is a best token
        attempt.breathe()
        return not attempt.canceled

    fit = ovam.optimize_tokens(
        examples,
        ovam.initial_tokens(
            model.pipeline,
            *beginning.classes,
            background=beginning.background,
            noise=request.noise,
            seed=request.seed,
        ),
        loss=request.loss,
        optimizer=request.optimizer,
        learning_rate=request.learning_rate,
        epochs=request.epochs,
        schedule=schedule_of(request.schedule),
        patience=request.patience,
        blocks=request.blocks,
        evaluations=indices_of(request.evaluations),
        on_epoch=epoch_ended,
    )
    ious = [iou for trace, labels in examples for iou in ious_of(trace, labels, fit.embedding, request, model.card)]
    return fit, sum(ious) / len(ious)


def schedule_of(rate: ConstantRate | StepRate | CosineRate) -> Schedule:
    """The library's form of a schedule."""
    match rate:
        case ConstantRate():
            return ovam.Constant()
        case StepRate(every=every, factor=factor):
            return ovam.StepDecay(every, factor)
        case CosineRate(floor=floor):
            return ovam.Cosine(floor)


@torch.no_grad()
def ious_of(
    trace: ovam.Trace,
    labels: UInt8[Tensor, "height width"],
    embedding: Float[Tensor, "classes width"],
    request: OptimizeRequest,
    card: ModelCard,
) -> list[float]:
    """How well the mask of every class that an image has, cut as the model's masks of tokens are, agrees with its labels."""
    size = (labels.shape[0], labels.shape[1])
    chosen = card.token_defaults.model_dump(include={"tau", "normalize", "threshold"}, exclude_none=True)
    cut = ovam.method(f"{card.token_defaults.method}-optimized", chosen).rule()
    maps = ovam.heatmaps(trace, embedding, size=size, blocks=request.blocks, evaluations=indices_of(request.evaluations))
    found = []
    for label, heat in enumerate(maps[1:].cpu(), start=1):
        truth, mask = labels == label, ovam.binarize(heat, cut) & (labels != IGNORE)
        if bool(truth.any()):
            found.append(float((mask & truth).sum() / (mask | truth).sum()))
    return found


def files_of(fit: ovam.TokenFit, epochs: int) -> list[File]:
    """The loss of every epoch, as a picture and as numbers."""
    course = [
        {"epoch": epoch, "loss": loss, "learning_rate": fit.learning_rate * share_of_rate(fit.schedule, epoch, epochs)}
        for epoch, loss in enumerate(fit.losses)
    ]
    return [
        File(CURVE, "image/png", png(loss_curve(fit.losses, fit.best_epoch))),
        File(LOSSES, "application/json", json.dumps(course).encode()),
    ]


def facts_of(attempt: Attempt, request: OptimizeRequest, model: Model, fit: ovam.TokenFit, iou: float) -> TokenFacts:
    """What is known of the token."""
    settings = request.model_dump(mode="json", exclude={"name", "classes", "examples"})
    return TokenFacts(
        id=keys.token_id(attempt.job_id, attempt.number),
        model=model.card.name,
        width=fit.embedding.shape[1],
        classes=list(request.classes),
        origin="optimize",
        examples=[TokenExample(job_id=example.job_id, image=example.image) for example in request.examples],
        settings={**settings, "learning_rate": fit.learning_rate},
        epochs=len(fit.losses),
        best_epoch=fit.best_epoch,
        best_loss=fit.best_loss,
        example_iou=iou,
        job_id=attempt.job_id,
        created_at=utc_now(),
    )
