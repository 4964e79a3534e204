"""Where in a generated image is what? A heatmap and a mask for every target."""

import asyncio
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

import ovam
from contracts.attribution import AttributeRequest, AttributeResult, Segment, Target
from contracts.fields import Artifact, Rle
from contracts.models import Choice, ModelCard
from contracts.store import File
from ovam.heatmaps import resize
from worker import tokens
from worker.attempts import Attempt
from worker.gpu import Priority
from worker.models import Model
from worker.rendering import grey, npy, overlay, png
from worker.resources import Resources
from worker.traces import Scene, scene_of, source_of

BINARY = "application/octet-stream"


@dataclass(frozen=True, eq=False)
class Finding:
    """What was found of one target."""

    target: Target
    cut: Choice
    score: float
    mask: np.ndarray
    """bool, (height, width)."""
    files: tuple[File, File, File, File]
    """Heatmap PNG, heatmap .npy, mask PNG, overlay PNG."""


async def attribute(attempt: Attempt, request: AttributeRequest, resources: Resources) -> AttributeResult:
    """Find every target in the image and commit what was found."""
    record, source = await source_of(resources.ledger, request.job_id, request.image, field="job_id")
    model = await resources.models.get(source.model)
    scene = await scene_of(record, request.image, model, cache=resources.scenes, store=resources.store)
    learned = await learned_tokens(request, model, resources)
    heats = await attempt.on_device(Priority.ATTRIBUTE, lambda: heatmaps_of(attempt, model, scene, request, learned))
    cuts = [cut_of(target, request, model.card) for target in request.targets]
    findings = await asyncio.gather(
        *(
            asyncio.to_thread(finding_of, number, target, heat, scene.image, cut, dcrf=request.dcrf)
            for number, (target, heat, cut) in enumerate(zip(request.targets, heats, cuts, strict=True))
        )
    )
    attempt.check()
    files = [file for finding in findings for file in finding.files]
    artifacts = await resources.store.commit(attempt.job_id, attempt.number, files)
    height, width = scene.image.shape[:2]
    return AttributeResult(
        model=source.model,
        height=height,
        width=width,
        padding=request.padding,
        dcrf=request.dcrf,
        segments=[segment_of(finding, artifacts) for finding in findings],
    )


async def learned_tokens(request: AttributeRequest, model: Model, resources: Resources) -> dict[str, Tensor]:
    """The embeddings of all tokens that are asked for, by name."""
    fields = {target.token: f"targets.{number}.token" for number, target in enumerate(request.targets) if target.token}
    found = await asyncio.gather(
        *(tokens.embedding_of(resources.redis, resources.store, name, model.card, field=field) for name, field in fields.items())
    )
    return dict(zip(fields, found, strict=True))


@torch.inference_mode()
def heatmaps_of(
    attempt: Attempt, model: Model, scene: Scene, request: AttributeRequest, learned: dict[str, Tensor]
) -> list[Float[np.ndarray, "height width"]]:
    """A mean heatmap at the image's size for every target; prompts that several targets share are attributed once."""
    trace = scene.trace.to(device=model.device)
    size = (scene.image.shape[0], scene.image.shape[1])
    shared: dict[str, tuple[Tensor, tuple[ovam.Token, ...]]] = {}
    heats = []
    for target in request.targets:
        attempt.check()
        if target.prompt is None:
            heat = ovam.heatmaps(trace, learned[target.token or ""])[1:]
        else:
            if target.prompt not in shared:
                embedding, words = ovam.encode(model.pipeline, target.prompt, padding=request.padding)
                shared[target.prompt] = ovam.heatmaps(trace, embedding), words
            maps, words = shared[target.prompt]
            heat = maps[rows_of(target, words)].mean(dim=0, keepdim=True)
        heats.append(resize(heat, size)[0].cpu().numpy())
    return heats


def rows_of(target: Target, words: tuple[ovam.Token, ...]) -> list[int]:
    """The rows of a target's word in its prompt's embedding; of all words, if it names none."""
    if target.word is None:
        return [token.index for token in words if token.span is not None]
    found = ovam.word_tokens(words, target.prompt or "", target.word, occurrence=target.occurrence)
    return [token.index for token in found]


def cut_of(target: Target, request: AttributeRequest, card: ModelCard) -> Choice:
    """Where the target's mask is cut: as the request says, and where it says nothing as the model is used best."""
    own = card.word_defaults if target.token is None else card.token_defaults
    return own.model_copy(update={"tau": request.tau or own.tau or 0.4, "normalize": request.normalize or own.normalize or "max"})


def finding_of(
    number: int,
    target: Target,
    heat: Float[np.ndarray, "height width"],
    image: np.ndarray,
    cut: Choice,
    *,
    dcrf: bool,
) -> Finding:
    """Make a mask of a heatmap, and files of both."""
    values = torch.from_numpy(heat)
    mask = ovam.binarize(values, cut.tau, normalize=cut.normalize).numpy()
    if dcrf:
        mask = ovam.dense_crf(image, mask)
    files = (
        File(f"heatmap-{number}.png", "image/png", png(grey(heat))),
        File(f"heatmap-{number}.npy", BINARY, npy(heat)),
        File(f"mask-{number}.png", "image/png", png(mask.astype(np.uint8) * 255)),
        File(f"overlay-{number}.png", "image/png", png(overlay(image, heat, mask))),
    )
    return Finding(target, cut, ovam.score(values, torch.from_numpy(mask)), mask, files)


def segment_of(finding: Finding, artifacts: dict[str, Artifact]) -> Segment:
    """What the answer says of a target."""
    heatmap, heatmap_npy, mask, overlaid = (artifacts[file.name] for file in finding.files)
    runs = ovam.coco.encode_run_lengths(finding.mask)
    return Segment(
        target=finding.target,
        tau=finding.cut.tau,
        normalize=finding.cut.normalize,
        score=finding.score,
        area=ovam.coco.area(finding.mask),
        bbox=ovam.coco.bounding_box(finding.mask),
        rle=Rle(size=(runs["size"][0], runs["size"][1]), counts=runs["counts"]),
        polygons=ovam.coco.polygons(finding.mask),
        heatmap=heatmap,
        heatmap_npy=heatmap_npy,
        mask=mask,
        overlay=overlaid,
    )
