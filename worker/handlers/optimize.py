"""Learn a token from annotated images, and shelve it under its name."""

import asyncio
import base64
import binascii
import json
from dataclasses import dataclass
from io import BytesIO
from typing import Final

import numpy as np
import torch
from jaxtyping import Bool
from PIL import Image, UnidentifiedImageError
from torch import Tensor

import ovam
from contracts import keys
from contracts.errors import Code, ServiceError
from contracts.jobs import Progress, utc_now
from contracts.models import Choice
from contracts.optimization import Example, OptimizeRequest, OptimizeResult
from contracts.store import File
from contracts.tokens import TokenCard, TokenExample
from worker import tokens
from worker.attempts import Attempt
from worker.gpu import Priority
from worker.models import Model
from worker.resources import Resources
from worker.traces import Scene, scene_of, source_of

INSIDE: Final = 127  # brighter pixels of a mask belong to the class


@dataclass(frozen=True, eq=False)
class Lesson:
    """An image, its trace, and where the class is in it."""

    scene: Scene
    mask: Bool[np.ndarray, "height width"]


async def optimize(attempt: Attempt, request: OptimizeRequest, resources: Resources) -> OptimizeResult:
    """Fit the token, commit it with its losses, and take its name; token-exists if another job has it."""
    await tokens.require_free(resources.redis, request.name, attempt.job_id)
    model, lessons = await lessons_of(request, resources)
    fit, iou = await attempt.on_device(Priority.OPTIMIZE, lambda: learn(attempt, model, request, lessons))
    attempt.check()
    card = card_of(attempt, request, model, fit, iou)
    embedding = tokens.write_embedding(fit.embedding, card.model_dump(mode="json"))
    files = [
        File("token.safetensors", "application/octet-stream", embedding),
        File("losses.json", "application/json", json.dumps(list(fit.losses)).encode()),
    ]
    await resources.store.commit(attempt.job_id, attempt.number, files)
    await resources.store.put(keys.token_object(request.name, attempt.job_id), embedding)
    attempt.check()
    await tokens.shelve(resources.redis, card)
    return OptimizeResult(
        token=request.name,
        model=card.model,
        width=card.width,
        epochs=card.epochs,
        best_epoch=card.best_epoch,
        best_loss=card.best_loss,
        losses=list(fit.losses),
    )


async def lessons_of(request: OptimizeRequest, resources: Resources) -> tuple[Model, list[Lesson]]:
    """The traces and masks of the examples, all of one model. ServiceError, naming the example, when one is unusable."""
    sources = [
        await source_of(resources.ledger, example.job_id, example.image, field=f"examples.{number}.job_id")
        for number, example in enumerate(request.examples)
    ]
    names = {source.model for _, source in sources}
    if len(names) > 1:
        detail = f"the examples are by several models ({', '.join(sorted(names))}); allowed: one"
        raise ServiceError(Code.EXAMPLES_OF_OTHER_MODELS, detail, field="examples")
    masks = [
        await asyncio.to_thread(read_mask, example, (source.height, source.width), f"examples.{number}.mask")
        for number, (example, (_, source)) in enumerate(zip(request.examples, sources, strict=True))
    ]
    model = await resources.models.get(names.pop())
    scenes = [
        await scene_of(record, example.image, model, cache=resources.scenes, store=resources.store)
        for example, (record, _) in zip(request.examples, sources, strict=True)
    ]
    return model, [Lesson(scene, mask) for scene, mask in zip(scenes, masks, strict=True)]


def read_mask(example: Example, size: tuple[int, int], field: str) -> Bool[np.ndarray, "height width"]:
    """Decode a mask. ServiceError: mask-not-an-image, mask-of-other-size, mask-empty, mask-full."""
    try:
        with Image.open(BytesIO(base64.b64decode(example.mask, validate=True))) as image:
            found = (image.height, image.width)
            mask = np.asarray(image.convert("L")) > INSIDE if found == size else None
    except (binascii.Error, UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError) as error:
        raise ServiceError(Code.MASK_NOT_AN_IMAGE, f"{field} is not an image in base64", field=field) from error
    if mask is None:
        detail = f"{field} is {found[0]} x {found[1]} pixels (height x width), its image {size[0]} x {size[1]}"
        raise ServiceError(Code.MASK_UNREADABLE, detail, field=field)
    if not mask.any():
        raise ServiceError(Code.MASK_EMPTY, f"{field} marks no pixel", field=field)
    if mask.all():
        raise ServiceError(Code.MASK_FULL, f"{field} marks every pixel", field=field)
    return mask


def learn(attempt: Attempt, model: Model, request: OptimizeRequest, lessons: list[Lesson]) -> tuple[ovam.TokenFit, float]:
    """Optimise the token, telling of every epoch; returns it with its mean IoU on its own examples."""
    # Half precision would lose small gradients, and on a CPU be converted anew in every epoch.
    examples = [
        (lesson.scene.trace.to(device=model.device, dtype=torch.float32), torch.from_numpy(lesson.mask)) for lesson in lessons
    ]

    def epoch_ended(epoch: int, loss: float) -> None:
        attempt.report(Progress(done=epoch + 1, total=request.epochs, unit="epoch", loss=loss))
        attempt.breathe()

    fit = ovam.optimize_tokens(
        examples,
        ovam.initial_tokens(model.pipeline, *request.classes),
        loss=request.loss,
        optimizer=request.optimizer,
        learning_rate=request.learning_rate,
        epochs=request.epochs,
        on_epoch=epoch_ended,
    )
    ious = [iou_of(trace, fit.embedding, mask, model.card.token_defaults) for trace, mask in examples]
    return fit, sum(ious) / len(ious)


@torch.no_grad()
def iou_of(trace: ovam.Trace, embedding: Tensor, mask: Bool[Tensor, "height width"], cut: Choice) -> float:
    """How well the token's own mask, cut as the model is used best, agrees with the annotation."""
    heat = ovam.heatmaps(trace, embedding, size=(mask.shape[0], mask.shape[1]))[1]
    found = ovam.binarize(heat, cut.tau, normalize=cut.normalize).cpu()
    return float((found & mask).sum() / (found | mask).sum())


def card_of(attempt: Attempt, request: OptimizeRequest, model: Model, fit: ovam.TokenFit, iou: float) -> TokenCard:
    """What is known of the token."""
    return TokenCard(
        name=request.name,
        model=model.card.name,
        width=fit.embedding.shape[1],
        classes=list(request.classes),
        examples=[TokenExample(job_id=example.job_id, image=example.image) for example in request.examples],
        optimizer=fit.optimizer,
        learning_rate=fit.learning_rate,
        loss=fit.loss,
        epochs=len(fit.losses),
        best_epoch=fit.best_epoch,
        best_loss=fit.best_loss,
        example_iou=iou,
        job_id=attempt.job_id,
        created_at=utc_now(),
    )
