"""The pictures of docs/method.md: `python -m experiments.method_figures` draws each choice of the method on the bundled model.

What is written above a mask is its IoU with the annotator's. The seeds are for showing; no setting was chosen on them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from numpy.typing import NDArray

import ovam
from experiments.bundled import STEPS, Bundle, Mask, bundle, generator, photograph
from experiments.evaluation.subjects import overlap
from experiments.world.commands import run
from launcher.sheet import Cell, sheet
from ovam.attention.refinement import affinity as spread_along
from ovam.attention.refinement import attention_received
from ovam.attention.scores import resize
from ovam.core.label_maps import labels_of, voc_palette
from ovam.core.masks import filled, instances, weighted, without_small_regions
from ovam.core.selection import FeatureChoice
from ovam.core.thresholds import Absolute, Otsu, Share, min_max
from ovam.trained.networks import network_of
from ovam.trained.pyramid import pyramid

FOLDER = Path("docs/method")
CUT = Share(0.5, "minmax")
LEARN_FROM = 3  # the seed of the annotated image


@dataclass(frozen=True)
class Shown:
    """A prompt whose image shows the choices, its seed, and the classes and grounds looked for in it."""

    prompt: str
    seed: int
    words: tuple[str, ...]


SHOWN: tuple[Shown, ...] = (
    Shown("a photograph of a red car on the grass", 5, ("car", "grass", "wheel", "red")),
    Shown("a photograph of a cat and a ball on the sand", 6, ("cat", "ball", "sand", "tail")),
    Shown("a photograph of a dog wearing a hat", 6, ("dog", "hat", "ground", "ear")),
    Shown("a photograph of a bird and a tree in the snow", 2, ("bird", "tree", "snow", "leaf")),
)
"""One thing, two things, and two more for the gallery."""
ONE, TWO, *_ = SHOWN
PAIR = Shown("a photograph of a cat and a car on the grass", 6, ("cat", "car"))
"""Two things that the trained networks know."""

Rows = list[list[Cell]]


@dataclass(frozen=True, eq=False)
class Scene:
    """A generated image, its traces of both guidance branches, and what the annotator sees in it."""

    ours: Bundle
    shown: Shown
    image: NDArray[np.uint8]
    trace: ovam.Trace
    against: ovam.Trace

    def truth(self, name: str) -> Mask:
        """Where the annotator sees a class."""
        return self.ours.truth(self.image, name)

    def heat(self, word: str, prompt: str = "", *, trace: ovam.Trace | None = None, **choices: Any) -> torch.Tensor:  # noqa: ANN401
        """A word's heatmap at the image's size."""
        settings: dict[str, Any] = {"size": self.trace.image_size} | choices
        return ovam.word_heatmap(trace or self.trace, self.ours.pipeline, prompt or photograph(word), word, **settings)

    def sized(self, heat: torch.Tensor) -> torch.Tensor:
        """A heatmap at the image's size."""
        return resize(heat[None], self.trace.image_size)[0]

    def spread(self, heat: torch.Tensor, steps: int = 1) -> torch.Tensor:
        """A heatmap spread along the self-attention, at the image's size."""
        return self.sized(spread_along(heat[None], self.trace.self_attention, steps=steps)[0])


@cache
def scene_of(shown: Shown, negative_prompt: str = "", *, features: bool = False) -> Scene:
    """One image, with everything kept."""
    ours = bundle()
    with (
        ovam.capture(ours.pipeline, half="unconditional") as against,
        ovam.capture(ours.pipeline, self_attention=True, features=FeatureChoice() if features else None) as to,
    ):
        image = ours.pipeline(
            shown.prompt,
            negative_prompt=negative_prompt,
            guidance_scale=ours.guidance_scale,
            num_inference_steps=STEPS,
            generator=generator(shown.seed),
        ).images[0]
    return Scene(ours, shown, np.asarray(image), to[0], against[0])


def hot(label: str, heat: torch.Tensor | NDArray[Any]) -> Cell:
    """A heatmap, coolest pixel dark and hottest bright, with its range in the label."""
    values = np.asarray(heat, np.float32)
    return Cell(f"{label}, {values.min():.2f}-{values.max():.2f}", np.rint(min_max(values) * 255).astype(np.uint8), heat=True)


def solid(label: str, mask: Mask, truth: Mask | None = None) -> Cell:
    """A mask, with its IoU where truth is known."""
    note = "" if truth is None else f"  IoU {overlap(mask, truth):.2f}"
    return Cell(f"{label}{note}", mask.astype(np.uint8) * 255)


def cut(heat: torch.Tensor | NDArray[Any], threshold: Any = CUT, **options: Any) -> Mask:  # noqa: ANN401
    """A heatmap's mask."""
    return ovam.binarize(heat, threshold, **options)


def with_masks(heats: dict[str, torch.Tensor], truth: Mask) -> Rows:
    """Heatmaps above their masks."""
    return [
        [hot(name, heat) for name, heat in heats.items()],
        [solid(name, cut(heat), truth) for name, heat in heats.items()],
    ]


def laws() -> Rows:
    """Which guidance branch: attention to the prompt, and to the negative prompt."""
    scene = scene_of(ONE, "a tree")
    word = scene.shown.words[0]
    heats = {
        f"to prompt: {word}": scene.heat(word),
        f"to negative: {word}": scene.heat(word, trace=scene.against),
        "to negative: tree": scene.heat("tree", trace=scene.against),
    }
    return [[Cell("the image", scene.image), *(hot(name, heat) for name, heat in heats.items())]]


def blocks() -> Rows:
    """Which blocks: by resolution and by position."""
    scene = scene_of(ONE)
    word = scene.shown.words[0]
    sides = sorted({max(block.grid) for block in scene.trace.blocks}, reverse=True)
    choices: dict[str, Any] = {f"{side} x {side}": side for side in sides} | {"down": "down", "up": "up", "all": "all"}
    return with_masks({name: scene.heat(word, blocks=choice) for name, choice in choices.items()}, scene.truth(word))


def evaluations() -> Rows:
    """Which UNet evaluations: single ones, the first and last, all."""
    scene = scene_of(ONE)
    word = scene.shown.words[0]
    choices: dict[str, Any] = {
        "first": 0,
        "middle (0.5)": 0.5,
        "last": -1,
        "first 10": slice(10),
        "last 10": slice(-10, None),
        "all": "all",
    }
    return with_masks({name: scene.heat(word, evaluations=choice) for name, choice in choices.items()}, scene.truth(word))


def heads() -> Rows:
    """Every head of one block looks elsewhere."""
    scene = scene_of(ONE)
    block = next(block for block in scene.trace.blocks if block.name.startswith("up_blocks.1"))
    word = scene.shown.words[0]
    return [[hot(f"head {head}", scene.heat(word, blocks=block.name, heads=head)) for head in range(block.heads)]]


def text() -> Rows:
    """Which softmax, and which words."""
    scene = scene_of(ONE)
    prompt, (thing, ground, *_) = scene.shown.prompt, scene.shown.words
    embedding, tokens = ovam.encode(scene.ours.pipeline, prompt)
    length = scene.ours.pipeline.tokenizer.model_max_length
    maps = ovam.heatmaps(scene.trace, embedding, size=scene.trace.image_size)
    rows = [token.index for token in tokens if token.span]
    two = f"a {thing} and a {thing}"
    phrase = f"red {thing}"
    return [
        [Cell("the image", scene.image)]
        + [hot(f"{word}, own tokens", scene.heat(word, prompt)) for word in (thing, ground)]
        + [hot(f"{word}, all {length}", scene.heat(word, prompt, padding="max_length")) for word in (thing, ground)],
        [hot("<start>", maps[0]), hot(f"phrase: {phrase}", scene.heat(phrase, prompt)), hot("whole prompt", maps[rows].mean(0))]
        + [hot(f"two of it: {n}", scene.heat(thing, two, occurrence=n)) for n in (0, 1)],
    ]


def received() -> Rows:
    """Eq. 8: weights by attention received, with either sign."""
    scene = scene_of(ONE)
    word = scene.shown.words[0]
    truth, heat = scene.truth(word), scene.heat(word)
    attention = attention_received(scene.trace.self_attention)
    weights = {sign: weighted(heat.numpy(), attention.numpy(), 0.5, sign) for sign in (1, -1)}
    return [
        [hot("attention received", scene.sized(attention)), hot("heat", heat)]
        + [hot(f"alpha 0.5, sign {sign:+d}", one) for sign, one in weights.items()],
        [Cell("the image", scene.image), solid("heat", cut(heat), truth)]
        + [solid(f"sign {sign:+d}", cut(heat, CUT, attention=attention, alpha=0.5, sign=sign), truth) for sign in weights],
    ]


def affinity() -> Rows:
    """D <- A D: heat spread along the self-attention."""
    scene = scene_of(ONE)
    word = scene.shown.words[0]
    native = scene.heat(word, size=None)
    heats = {"as it is": scene.sized(native)} | {f"affinity {steps}": scene.spread(native, steps) for steps in (1, 2, 4)}
    return with_masks(heats, scene.truth(word))


def thresholds() -> Rows:
    """Where a heatmap is cut."""
    scene = scene_of(ONE)
    word = scene.shown.words[0]
    truth, heat = scene.truth(word), scene.heat(word)
    rules: dict[str, Any] = {f"tau {tau:g} of maximum": Share(tau) for tau in (0.4, 0.6, 0.8)}
    rules |= {f"tau {tau:g} of min-max": Share(tau, "minmax") for tau in (0.4, 0.5, 0.6)}
    rules |= {"level 0.28": Absolute(0.28), "Otsu": Otsu()}
    cells = [solid(name, cut(heat, rule), truth) for name, rule in rules.items()]
    return [[Cell("the image", scene.image), hot("heat", heat), *cells[:3]], cells[3:]]


def tidying() -> Rows:
    """What comes after the threshold."""
    scene = scene_of(TWO)
    word, side = scene.shown.words[1], scene.trace.image_size[0]
    truth, heat = scene.truth(word), scene.heat(word)
    ragged = cut(heat, Share(0.3, "minmax"))
    ragged[:: side // 8, :: side // 8] = True
    ragged[side * 5 // 16 : side * 11 // 16 : side // 10, side * 5 // 8 : side * 15 // 16 : side // 10] = False
    tidy = without_small_regions(ragged, 20)
    crf = ovam.dense_crf(scene.image, cut(heat))
    cells = [Cell("the image", scene.image), solid("a ragged mask", ragged), solid("minimum_area 20", tidy)]
    return [[*cells, solid("and fill_holes", filled(tidy)), solid(word, cut(heat), truth), solid(f"{word}, CRF", crf, truth)]]


def semantic() -> Rows:
    """Several targets in one map, and one mask in several instances."""
    scene = scene_of(TWO)
    words = scene.shown.words[:2]
    heats = [scene.heat(word) for word in words]
    margins = np.stack([min_max(heat.numpy()) - 0.5 for heat in heats])
    coloured = [voc_palette()[labels_of(margins, least_gap=gap)] for gap in (0.0, 0.1)]
    parts = instances(np.any(margins >= 0, axis=0), minimum_area=20)
    return [
        [Cell("the image", scene.image), *(hot(word, heat) for word, heat in zip(words, heats, strict=True))]
        + [Cell("semantic map", coloured[0]), Cell("least gap 0.1: 255 is pale", coloured[1])]
        + [solid(f"instance {number} of both", part) for number, part in enumerate(parts[:2])]
    ]


RECIPES: dict[str, dict[str, Any]] = {
    "Adam, BCE": {"optimizer": "adam", "epochs": 300},
    "SGD, BCE": {"optimizer": "sgd", "epochs": 500},
    "SGD, other loss": {"optimizer": "sgd", "epochs": 500, "loss": "cross_entropy_minmax"},
}
"""Ways to learn a token, by their names in the pictures."""


def tokens() -> Rows:
    """Tokens learned from one image, on it and on another."""
    word = ONE.words[0]
    annotated = scene_of(Shown(photograph(word), LEARN_FROM, (word,)))
    chosen: dict[str, Any] = {"pipeline": annotated.ours.pipeline, "patience": None}
    example = (annotated.trace, annotated.truth(word))
    learned = {name: ovam.optimize_tokens([example], word, **chosen, **options) for name, options in RECIPES.items()}
    rows = []
    for scene, title in ((annotated, "learned from"), (scene_of(ONE), "another image")):
        truth = scene.truth(word)
        heats = {"the word": scene.heat(word)}
        for name, fit in learned.items():
            maps = ovam.heatmaps(scene.trace, fit.embedding, size=scene.trace.image_size)
            heats[name] = maps[1]
        rows.append([Cell(title, scene.image), *(hot(name, heat) for name, heat in heats.items())])
        rows.append([solid("annotation", truth), *(solid(name, cut(heat), truth) for name, heat in heats.items())])
    return rows


def networks() -> Rows:
    """The methods with networks: the features that they take, and what they find by words and by a token."""
    pipeline, (word, other) = bundle().pipeline, PAIR.words
    scene = scene_of(PAIR, features=True)
    annotated = scene_of(Shown(photograph(word), LEARN_FROM, (word,)))
    fit = ovam.optimize_tokens([(annotated.trace, annotated.truth(word))], word, pipeline=pipeline, optimizer="adam", epochs=60)
    network = network_of(pipeline, "grounded-diffusion")
    levels = pyramid(scene.trace, network.card.blocks)
    fused = network.module.fusion([level[None] for level in levels])[-1][0]
    seen = {f"features, {level.shape[1]} x {level.shape[2]}": level for level in levels} | {"fused": fused}
    rows = [[Cell("the image", scene.image), *(Cell(name, coloured(maps)) for name, maps in seen.items())]]
    for name in ("grounded-diffusion", "datasetdm"):
        asked = {word: word, "a token of it": ovam.Rows(fit.embedding), other: other}
        found = [ovam.segment(scene.trace, pipeline, target, name) for target in asked.values()]
        rows.append([Cell(name, scene.image)])
        for label, one in zip(asked, found, strict=True):
            truth = scene.truth(other if label == other else word)
            rows[-1] += [hot(label, one.heatmap), solid(label, one.mask, truth)]
    return rows


def coloured(maps: torch.Tensor) -> NDArray[np.uint8]:
    """Maps (channels, height, width) as a picture: their three main components as red, green and blue."""
    flat = maps.flatten(1).T
    _, _, main = torch.pca_lowrank(flat, 3, niter=8)
    parts = min_max(((flat - flat.mean(dim=0)) @ main).T.unflatten(1, maps.shape[1:]).numpy())
    return np.rint(255 * parts.transpose(1, 2, 0)).astype(np.uint8)


def real_images() -> Rows:
    """An image that the model did not make: heat and masks from noise, and along DDIM's path."""
    ours, rows = bundle(), []
    for number, shown in enumerate((ONE, TWO)):
        word = shown.words[0]
        real = ours.world.real_image(word, 10_000 + number, 1)
        truth = real.labels == ours.world.label(word)
        cells = [Cell("a real image", real.image), solid("its exact mask", truth)]
        for inversion, title in (("none", "noise"), ("ddim", "DDIM")):
            trace = ovam.trace_image(ours.pipeline, real.image, inversion=inversion, self_attention=True)
            scene = Scene(ours, shown, real.image, trace, trace)
            own = scene.heat(word, size=None)
            cells += [hot(f"{word}, {title}", scene.sized(own)), solid("affinity 1", cut(scene.spread(own)), truth)]
        rows.append(cells)
    return rows


def probe() -> Rows:
    """What is at a place: the words with most gain over two boxes of an image."""
    scene = scene_of(TWO)
    cells = [Cell("the image", scene.image)]
    for word in scene.shown.words[:2]:
        box = box_in(scene.truth(word))
        found = ovam.rank_words(scene.trace, scene.ours.pipeline, scene.shown.prompt, list(scene.shown.words[:3]), box=box)
        cells.append(Cell(", ".join(f"{word.word} {word.gain:+.2f}" for word in found[:2]), framed(scene.image, box)))
    return [cells]


def box_in(mask: Mask, side: int = 20) -> tuple[int, int, int, int]:
    """A box (left, top, width, height) in the middle of a thing."""
    down, across = (int(np.median(places)) for places in np.nonzero(mask))
    height, width = mask.shape
    return min(max(across - side // 2, 0), width - side), min(max(down - side // 2, 0), height - side), side, side


def framed(image: NDArray[np.uint8], box: tuple[int, int, int, int]) -> NDArray[np.uint8]:
    """The image with a white frame around a box."""
    left, top, width, height = box
    marked = image.copy()
    marked[[top, top + height - 1], left : left + width] = marked[top : top + height, [left, left + width - 1]] = 255
    return marked


def gallery() -> Rows:
    """Nouns, grounds, parts and colours; the last two often fail, and that is shown as it is."""
    rows = []
    for shown in SHOWN:
        scene = scene_of(shown)
        cells: list[Cell] = []
        for word in shown.words:
            own = scene.heat(word, size=None)
            cells += [hot(word, scene.sized(own)), solid(f"{word}, affinity 2", cut(scene.spread(own, 2)))]
        rows.append([Cell("the image", scene.image), *cells])
    return rows


FIGURES: dict[str, Callable[[], Rows]] = {
    each.__name__: each
    for each in (
        laws,
        blocks,
        evaluations,
        heads,
        text,
        received,
        affinity,
        thresholds,
        tidying,
        semantic,
        tokens,
        networks,
        real_images,
        probe,
        gallery,
    )
}


def main(
    names: Annotated[list[str] | None, typer.Argument(help="which; all without it")] = None,
    out: Annotated[Path, typer.Option(help="folder to write to")] = FOLDER,
) -> None:
    """Draw the figures."""
    chosen: Sequence[str] = names or list(FIGURES)
    for name in chosen:
        sheet(FIGURES[name](), out / f"{name}.png")
        typer.echo(f"wrote {out / name}.png")


if __name__ == "__main__":
    run(main)
