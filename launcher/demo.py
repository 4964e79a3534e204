"""The main job over HTTP: generate, ask where things are, learn a token and use it on other images, ask a real image."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from launcher import story
from launcher.sheet import Cell, sheet
from launcher.story import Mask, Picture, Row
from ovam_client import Client, Example, Job, Progress, Segment
from ovam_client.answers import AttributeResult, ImagesResult, OptimizeResult


@dataclass(frozen=True)
class Scene:
    """An image and the job that keeps its trace."""

    job: Job[ImagesResult]
    image: Picture


Cells = tuple[str, list[Cell]]
"""A row of the sheet with its title."""


def bar(title: str) -> Callable[[Progress], None]:
    """Return a function that draws a job's progress on standard error: a bar, or in a log one line at the end."""

    def draw(progress: Progress) -> None:
        done, total = progress.done, progress.total
        filled = round(30 * done / total)
        loss = f"  loss {progress.loss:.4f}" if progress.loss is not None else ""
        line = f"   {title:24s} [{'#' * filled}{'.' * (30 - filled)}] {done}/{total} {progress.unit}s{loss}"
        if done == total:
            print(f"\r{line}" if sys.stderr.isatty() else line, file=sys.stderr, flush=True)
        elif sys.stderr.isatty():
            print(f"\r{line}", end="", file=sys.stderr, flush=True)

    return draw


def generate(client: Client, prompt: str, seed: int) -> Scene:
    """Generate an image."""
    return seen(client.generate(prompt, seed=seed).wait(bar(f"generate, seed {seed}")))


def look_at(client: Client, image: Path) -> Scene:
    """Let the model look at a real image."""
    return seen(client.images.upload(image).wait(bar("look at a real image")))


def seen(job: Job[ImagesResult]) -> Scene:
    """The first image of a job."""
    return Scene(job, np.array(job.image()))


def attribute(client: Client, scene: Scene, targets: Sequence[Any], **options: Any) -> Job[AttributeResult]:  # noqa: ANN401 - JSON
    """Ask for some targets in a scene."""
    return client.attribute(scene.job, *targets, **options).wait()


def learn(client: Client, scene: Scene, word: str, mask: Mask) -> OptimizeResult:
    """Learn a token of a class from one scene and its mask."""
    return client.learn(word, Example(scene.job, mask=mask)).wait(bar(f"learn the token {word!r}")).result


def keep(client: Client, out: Path, name: str, segment: Segment) -> None:
    """Write a segment's artifacts to `out`."""
    for kind in ("heatmap", "heatmap_npy", "mask", "overlay"):
        artifact = getattr(segment.data, kind)
        (out / f"{name}-{kind}{Path(artifact.name).suffix}").write_bytes(client.download(artifact))


def overlap(one: Mask, other: Mask) -> float:
    """Return the intersection over union of two masks; 1 if both are empty."""
    union = int((one | other).sum())
    return 1.0 if union == 0 else int((one & other).sum()) / union


def uncontested(mask: Mask, labels: NDArray[np.uint8], number: int) -> Mask:
    """A mask without what a map of labels gives to another target."""
    return mask & ((labels == number) | (labels == 0))


def told(label: str, mask: Mask, truth: Mask) -> str:
    """Say how well something was found."""
    iou = overlap(mask, truth)
    print(f"   {label:32s} IoU {iou:.3f}")
    return f"{label}, IoU {iou:.2f}"


def ask(client: Client, out: Path, row: Row) -> Cells:
    """Look for two words in an image, generated or real."""
    said = f'"{row.prompt}"' if row.prompt else "the image"
    print(f"{row.title}: {said}")
    real = look_at(client, story.PICTURES / "real.png") if not row.prompt else None
    scene = real or generate(client, row.prompt, row.seed)
    Image.fromarray(scene.image).save(out / f"{row.name}.png")
    options: dict[str, Any] = {"softmax": "together", "semantic": {}} if row.compete else {}
    found = attribute(client, scene, row.words, **options)
    labels = np.array(client.picture(found.result.semantic.map)) if found.result.semantic else None
    overlays, masks = [], []
    for number, (word, segment) in enumerate(zip(row.words, found.segments, strict=True), start=1):
        keep(client, out, f"{row.name}-{word}", segment)
        label = word if not row.prompt or word in row.prompt.split() else f"{word} (not in the prompt)"
        mask = segment.mask if labels is None else uncontested(segment.mask, labels, number)
        overlays.append(Cell(label, np.array(segment.overlay())))
        masks.append(Cell(told(label, mask, story.true_mask(row.name, word)), mask.astype(np.uint8) * 255))
    return f"{row.title}: {said}" if row.prompt else row.title, [Cell("the image", scene.image), *overlays, *masks]


def learn_and_apply(client: Client, out: Path) -> Cells:
    """Learn a token from one annotated image and compare it with the word on two others."""
    row = story.TOKEN_ROW
    title = f'A token learned from one annotated image, on other seeds: "{row.prompt}"'
    print(title)
    taught, truth = generate(client, row.prompt, row.taught), story.true_mask(row.word, row.taught)
    token = learn(client, taught, row.word, truth)
    print(f"   {token.token}: best loss {token.best_loss:.4f} at epoch {token.best_epoch} of {token.epochs}")
    cells = [Cell(f"annotated, seed {row.taught}", outlined(taught.image, truth))]
    targets = [{"label": "word", "word": row.word}, {"label": "token", "token": token.token}]
    for seed in row.others:
        scene = generate(client, row.prompt, seed)
        Image.fromarray(scene.image).save(out / f"{row.word}-{seed}.png")
        for target, segment in zip(targets, attribute(client, scene, targets).segments, strict=True):
            keep(client, out, f"{row.word}-{seed}-{target['label']}", segment)
            label = told(f"by {target['label']}, seed {seed}", segment.mask, story.true_mask(row.word, seed))
            cells.append(Cell(label, np.array(segment.overlay())))
    return title, cells


def outlined(image: Picture, mask: Mask) -> Picture:
    """The image, darker outside of a mask."""
    return np.where(mask[..., None], image, image // 3)


def main(url: str, out: Path) -> None:
    """Run the demo against the service at `url` and write its pictures to `out`. Raises OvamServiceError."""
    out.mkdir(parents=True, exist_ok=True)
    with Client(url, timeout=120) as client:
        rows = [ask(client, out, row) for row in story.ROWS]
        rows += [learn_and_apply(client, out), ask(client, out, story.REAL)]
    sheet([cells for _, cells in rows], out / "sheet.png", [title for title, _ in rows])
    print(f"wrote {out / 'sheet.png'} and {len(list(out.iterdir())) - 1} more files beside it")
