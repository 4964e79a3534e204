"""The demo's images: `python -m experiments.demo search` looks for good ones, `draw` writes the pictures of those chosen.

To be run again whenever the bundled model changes. A candidate counts as good as the word that is found worst.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Annotated, cast

import numpy as np
import typer
from PIL import Image

import ovam
from experiments.bundled import MODEL, Mask, bundle
from experiments.evaluation.defaults import method_of
from experiments.evaluation.subjects import CLEAR, overlap
from experiments.evaluation.world import Picture
from experiments.world import atlas
from experiments.world.captions import article
from experiments.world.commands import plainly
from launcher import story
from launcher.demo import uncontested
from launcher.sheet import Cell, sheet
from launcher.story import Row
from ovam.core.label_maps import labels_of
from ovam.core.methods import TargetKind
from ovam.cutting import margin

FIRST_SEED = 1
REAL_SEEDS = 1_000_000  # of real images, above those of the evaluation
AGREED = 0.75  # IoU of two annotators, below which a candidate's truth is in doubt
ANIMALS = ("cat", "dog", "cow", "pig", "bear")  # that wear hats in the world
PAIRS = (
    ("red car", "tree"), ("cat", "dog"), ("bird", "house"), ("blue bus", "bicycle"), ("horse", "chair"), ("dog", "ball"),
    ("train", "tree"), ("sheep", "flower"), ("cow", "bicycle"), ("cat", "umbrella"),
)  # fmt: skip
OUT, SHOWN = Path("runs/demo"), 12
TAUGHT = 2  # images of a class that a token is learned from
app = typer.Typer(no_args_is_help=True)


@dataclass(frozen=True, eq=False)
class Candidate:
    """A row that may be shown, and how well its words are found."""

    row: Row
    image: Picture
    ious: tuple[float, ...]
    overlays: tuple[Picture, ...]

    @property
    def worst(self) -> float:
        """The IoU of the word that is found worst."""
        return min(self.ious)


@lru_cache(maxsize=4)
def drawn(prompt: str, seed: int) -> tuple[Picture, ovam.Trace]:
    """An image and its trace; several rows may ask about one."""
    return bundle().generate(prompt, seed, self_attention=True)


def class_of(word: str) -> str | None:
    """The class that a word is one for; none: it is a ground's."""
    kinds = atlas.load().kinds.values()
    return next((kind.name for kind in kinds if word == kind.name or word in kind.words), None)


def truth(image: Picture, word: str) -> Mask:
    """Where the annotator sees what a word means."""
    name, labels = class_of(word), bundle().world.annotate(image)
    return labels == (0 if name is None else bundle().world.label(name))


def certain(image: Picture, word: str) -> bool:
    """Whether something is clearly there, and two annotators agree where, if there are two."""
    name, again = class_of(word), bundle().world.annotate_again(image)
    label = 0 if name is None else bundle().world.label(name)
    mask = truth(image, word)
    return CLEAR < mask.mean() < 1 and (again is None or overlap(mask, again == label) > AGREED)


def answered(row: Row, image: Picture, trace: ovam.Trace, truths: Sequence[Mask]) -> Candidate:
    """A row with the IoU of its answers, found as the service finds them."""
    words, method = list(row.words), method_of(MODEL, "words")
    softmax = "together" if row.compete else "each"
    segments = ovam.segment(trace, bundle().pipeline, words, method, image, softmax=softmax)
    masks = [segment.mask for segment in segments]
    if row.compete:
        labels = labels_of(np.stack([margin(method, segment.heatmap) for segment in segments]))
        masks = [uncontested(mask, labels, number) for number, mask in enumerate(masks, start=1)]
    ious = tuple(overlap(mask, known) for mask, known in zip(masks, truths, strict=True))
    overlays = (ovam.overlay(image, segment.heatmap, mask) for segment, mask in zip(segments, masks, strict=True))
    return Candidate(row, image, ious, tuple(overlays))


def judged(row: Row) -> Candidate | None:
    """Generate a row's image and look for its words; None if what they mean is not clearly there."""
    image, trace = drawn(row.prompt, row.seed)
    if not all(certain(image, word) for word in row.words):
        return None
    return answered(row, image, trace, [truth(image, word) for word in row.words])


def unnamed(seed: int) -> Iterator[Row]:
    """Images of one named thing in which something else is clearly to be seen."""
    for kind in atlas.load().kinds.values():
        if kind.voc:
            prompt = f"a photograph of {article(kind.words[0])}"
            image, _ = drawn(prompt, seed)
            labels = bundle().world.annotate(image)
            for other in {atlas.load().classes[label - 1] for label in np.unique(labels[labels > 0])} - {kind.name}:
                if (labels == bundle().world.label(other)).mean() > CLEAR:
                    words = (kind.words[0], atlas.load().kind(other).words[0])
                    yield replace(story.ROWS[0], prompt=prompt, seed=seed, words=words)


def named(seed: int) -> Iterator[Row]:
    """Two things that the prompt names."""
    for one, other in PAIRS:
        prompt = f"{article(one)} next to {article(other)}"
        words = (one.split()[-1], other.split()[-1])
        yield replace(story.ROWS[1], prompt=prompt, seed=seed, words=words)


def unsaid(seed: int) -> Iterator[Row]:
    """One thing, asked for by its other words."""
    for kind in atlas.load().kinds.values():
        for synonym in kind.words[1:]:
            prompt, words = f"a photograph of {article(kind.words[0])}", (kind.words[0], synonym)
            yield replace(story.ROWS[2], prompt=prompt, seed=seed, words=words)


def hats(seed: int) -> Iterator[Row]:
    """A hat on an animal."""
    for animal in ANIMALS:
        prompt = f"{article(animal)} wearing a hat"
        yield replace(story.ROWS[3], prompt=prompt, seed=seed, words=(animal, "hat"))


def real_images(seeds: range) -> Iterator[Candidate]:
    """Scenes of two things in the style that is held out."""
    world = bundle().world
    for seed in seeds:
        for one in world.vocabulary:
            real = world.real_image(one.name, REAL_SEEDS + seed, 2)
            masks = [real.labels == world.label(name) for name in (one.name, str(class_of(real.others[0])))]
            if min(mask.mean() for mask in masks) > CLEAR:
                row = replace(story.REAL, seed=REAL_SEEDS + seed, words=(one.word, real.others[0]))
                trace = ovam.trace_image(bundle().pipeline, real.image, self_attention=True)
                yield answered(row, real.image, trace, masks)


ASKED: dict[str, Callable[[int], Iterator[Row]]] = {"unnamed": unnamed, "named": named, "unsaid": unsaid, "hat": hats}


def candidates(name: str, seeds: range) -> Iterator[Candidate]:
    """Everything that may be shown in a row."""
    if name == "real":
        yield from real_images(seeds)
    else:
        yield from (found for seed in seeds for row in ASKED[name](seed) if (found := judged(row)))


def told(one: Candidate) -> str:
    """A candidate in a line."""
    words = ", ".join(f"{word} {iou:.2f}" for word, iou in zip(one.row.words, one.ious, strict=True))
    return f"{one.worst:.2f}  seed {one.row.seed}  {one.row.prompt!r}: {words}"


def token_rows(word: str, seeds: range) -> Iterator[tuple[float, str]]:
    """How well the tokens of single images do on two others, beside the word."""
    prompt = f"a photograph of a {word}"
    scenes = {seed: bundle().generate(prompt, seed, self_attention=True) for seed in seeds}
    known = {seed: truth(image, word) for seed, (image, _) in scenes.items() if certain(image, word)}

    def iou(seed: int, target: ovam.Words | ovam.Rows, kind: TargetKind) -> float:
        image, trace = scenes[seed]
        return overlap(ovam.segment(trace, bundle().pipeline, target, method_of(MODEL, kind), image).mask, known[seed])

    by_word = {seed: iou(seed, ovam.Words(prompt, word), "words") for seed in known}
    for taught in [*known][:TAUGHT]:
        fit = ovam.optimize_tokens(
            [(scenes[taught][1], known[taught])], word, pipeline=bundle().pipeline, optimizer="adam", epochs=300
        )
        rows = ovam.Rows(fit.embedding)
        ranked = sorted(((iou(seed, rows, "tokens"), seed) for seed in known if seed != taught), reverse=True)
        if len(ranked) > 1:
            found = (f"seed {seed}: {token:.2f}, word {by_word[seed]:.2f}" for token, seed in ranked)
            yield ranked[1][0], f"{word}, taught seed {taught}; {'; '.join(found)}"


@app.command()
def search(
    names: Annotated[list[str] | None, typer.Argument(help=f"which of: {', '.join(ASKED)}, token, real; all without it")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="of every prompt")] = 8,
    first: Annotated[int, typer.Option(min=0, help="the first seed")] = FIRST_SEED,
    out: Annotated[Path, typer.Option(help="folder for a contact sheet of each row's best")] = OUT,
) -> None:
    """Generate candidates, print the best and draw them."""
    space = range(first, first + seeds)
    for name in names or [*ASKED, "real", "token"]:
        print(f"-- {name}", flush=True)
        if name == "token":
            found = (line for one in bundle().world.vocabulary for line in token_rows(one.word, space))
            print("\n".join(line for _, line in sorted(found, reverse=True)[:SHOWN]), flush=True)
            continue
        best = sorted(candidates(name, space), key=lambda one: one.worst, reverse=True)[:SHOWN]
        print("\n".join(map(told, best)), flush=True)
        if best:
            cells = [[Cell(f"seed {one.row.seed}", one.image), *(Cell("", each) for each in one.overlays)] for one in best]
            sheet(cells, out / f"{name}.png", list(map(told, best)))


@app.command()
def draw() -> None:
    """Write the masks of launcher/story.py's images, and the real image."""
    story.PICTURES.mkdir(exist_ok=True)
    for row in story.ROWS:
        image, _ = bundle().generate(row.prompt, row.seed)
        for word in row.words:
            keep(truth(image, word), row.name, word)
    for seed in (story.TOKEN_ROW.taught, *story.TOKEN_ROW.others):
        image, _ = bundle().generate(story.TOKEN_ROW.prompt, seed)
        keep(truth(image, story.TOKEN_ROW.word), story.TOKEN_ROW.word, seed)
    first, second = (cast("str", class_of(word)) for word in story.REAL.words)
    real = bundle().world.real_image(first, story.REAL.seed, 2)
    Image.fromarray(real.image).save(story.PICTURES / "real.png", optimize=True)
    for name, word in zip((first, second), story.REAL.words, strict=True):
        keep(real.labels == bundle().world.label(name), story.REAL.name, word)


def keep(mask: Mask, name: str, thing: str | int) -> None:
    """Write a mask."""
    path = story.mask_file(name, thing)
    Image.fromarray(mask).save(path, optimize=True)
    print(f"{path.name}: {100 * mask.mean():.0f} % of the image")


if __name__ == "__main__":
    plainly(app)
