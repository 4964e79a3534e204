"""The pictures of docs/method.md: `python -m experiments.method_figures` draws each choice of the method on the bundled model.

What is written above a mask is its IoU with the annotator's. The seeds are for showing; no setting was chosen on them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

import ovam
from experiments.figures import Cell, sheet
from experiments.showing import CUT, PLAIN, SIZE, cut, heat_of, hot, pipeline, shown, solid
from experiments.tinyworld.render import REAL_IMAGES, example
from ovam.attention import resize

FOLDER = Path("docs/method")
CAR = "a photograph of a red car on the grass"
BOAT = "a photograph of a boat and a sun on the sea"

Rows = list[list[Cell]]


def laws() -> Rows:
    """Which half: attention to the prompt, and to the negative prompt."""
    scene = shown(CAR, 5, "a tree")
    asked = {
        "to prompt: car": heat_of(scene.trace, "car"),
        "to negative: car": heat_of(scene.against, "car"),
        "to negative: tree": heat_of(scene.against, "tree"),
    }
    return [[Cell("the image", scene.image), *(hot(name, heat) for name, heat in asked.items())]]


def blocks() -> Rows:
    """Which blocks: by resolution and by position."""
    scene = shown(CAR, 5)
    truth = scene.truth("car")
    choices: dict[str, Any] = {"16 x 16": [16], "8 x 8": [8], "4 x 4": "down_blocks.2|up_blocks.0", "down": "down", "mid": "mid"}
    heats = {
        name: heat_of(scene.trace, "car", blocks=choice) for name, choice in (choices | {"all but mid": ["down", "up"]}).items()
    }
    return [
        [hot(name, heat) for name, heat in heats.items()],
        [solid(name, cut(heat), truth) for name, heat in heats.items()],
    ]


def evaluations() -> Rows:
    """Which UNet evaluations: single ones, the first and last, all."""
    scene = shown(CAR, 5)
    truth = scene.truth("car")
    choices: dict[str, Any] = {
        "first": 0,
        "middle (0.5)": 0.5,
        "last": -1,
        "first 10": slice(10),
        "last 10": slice(-10, None),
        "all": None,
    }
    heats = {name: heat_of(scene.trace, "car", evaluations=choice) for name, choice in choices.items()}
    return [
        [hot(name, heat) for name, heat in heats.items()],
        [solid(name, cut(heat), truth) for name, heat in heats.items()],
    ]


def heads() -> Rows:
    """Every head of one block looks elsewhere."""
    scene = shown(CAR, 5)
    block = next(block for block in scene.trace.blocks if block.name.startswith("up_blocks.0"))
    return [[hot(f"head {head}", heat_of(scene.trace, "car", blocks=block.name, heads=head)) for head in range(block.heads)]]


def text() -> Rows:
    """Which softmax, and which words."""
    scene = shown(CAR, 5)
    embedding, tokens = ovam.encode(pipeline(), CAR)
    maps = ovam.heatmaps(scene.trace, embedding, size=SIZE)
    rows = [token.index for token in tokens if token.span]
    two = "a car and a car"
    return [
        [Cell("the image", scene.image)]
        + [hot(f"{word}, own tokens", heat_of(scene.trace, word, CAR)) for word in ("car", "grass")]
        + [hot(f"{word}, all 77", heat_of(scene.trace, word, CAR, padding="max_length")) for word in ("car", "grass")],
        [
            hot("<start>", maps[0]),
            hot("phrase: red car", heat_of(scene.trace, "red car", CAR)),
            hot("whole prompt", maps[rows].mean(0)),
        ]
        + [hot(f"two cars: {n}", heat_of(scene.trace, "car", two, occurrence=n)) for n in (0, 1)],
    ]


def received() -> Rows:
    """Eq. 8: weights by attention received, either way up."""
    scene = shown(CAR, 5)
    truth, heat = scene.truth("car"), heat_of(scene.trace, "car")
    layers = scene.trace.self_attention
    received = ovam.attention_received(layers)
    weights = [ovam.weighed(heat, received, 0.5, sign) for sign in (1, -1)]
    return [
        [hot("attention received", resize(received[None], SIZE)[0]), hot("heat", heat)]
        + [hot(f"alpha 0.5, sign {sign:+d}", weighed) for sign, weighed in zip((1, -1), weights, strict=True)],
        [Cell("the image", scene.image), solid("heat", cut(heat), truth)]
        + [solid(f"sign {sign:+d}", cut(heat, CUT, attention=received, alpha=0.5, sign=sign), truth) for sign in (1, -1)],
    ]


def affinity() -> Rows:
    """D <- A D: heat spread along the self-attention."""
    scene = shown(CAR, 5)
    truth, native = scene.truth("car"), heat_of(scene.trace, "car", size=None)
    heats = {"as it is": native}
    heats |= {f"affinity {steps}": ovam.affinity(native[None], scene.trace.self_attention, steps=steps)[0] for steps in (1, 2, 4)}
    shown_heats = {name: resize(heat[None], SIZE)[0] for name, heat in heats.items()}
    return [
        [hot(name, heat) for name, heat in shown_heats.items()],
        [solid(name, cut(heat), truth) for name, heat in shown_heats.items()],
    ]


def thresholds() -> Rows:
    """Where a heatmap is cut."""
    scene = shown(CAR, 5)
    truth, heat = scene.truth("car"), heat_of(scene.trace, "car")
    rules: dict[str, Any] = {f"tau {tau:g} of maximum": ovam.ShareOfMaximum(tau) for tau in (0.4, 0.6, 0.8)}
    rules |= {f"tau {tau:g} of min-max": ovam.ShareOfMaximum(tau, "minmax") for tau in (0.4, 0.5, 0.6)}
    rules |= {"level 0.28": ovam.Absolute(0.28), "Otsu": ovam.Otsu()}
    cells = [solid(name, cut(heat, rule), truth) for name, rule in rules.items()]
    return [[Cell("the image", scene.image), hot("heat", heat), *cells[:3]], cells[3:]]


def tidying() -> Rows:
    """What comes after the threshold."""
    scene = shown(BOAT, 6)
    truth, heat = scene.truth("sun"), heat_of(scene.trace, "sun")
    mask = cut(heat, ovam.ShareOfMaximum(0.3, "minmax"))
    ragged = mask.clone()
    ragged[::8, ::8] = True
    ragged[20:44:6, 40:60:6] = False
    tidy = ovam.remove_small(ragged, 20)
    crf = ovam.dense_crf(scene.image, cut(heat).numpy())
    cells = [Cell("the image", scene.image), solid("a ragged mask", ragged), solid("minimum_area 20", tidy)]
    return [
        [*cells, solid("and fill_holes", ovam.fill_holes(tidy)), solid("sun", cut(heat), truth), solid("sun, CRF", crf, truth)]
    ]


def semantic() -> Rows:
    """Several targets in one map, and one mask in several instances."""
    scene = shown(BOAT, 6)
    words = ("boat", "sun")
    heats = torch.stack([heat_of(scene.trace, word) for word in words])
    shares = torch.stack([(heat - heat.min()) / (heat.max() - heat.min()) for heat in heats])
    rule = ovam.ShareOfMaximum(0.5)
    coloured = [ovam.voc_palette()[ovam.semantic_map(shares, rule, margin=margin)] for margin in (0.0, 0.1)]
    both = (shares >= 0.5).any(0).numpy()
    parts = ovam.instances(both, minimum_area=20)
    return [
        [Cell("the image", scene.image), *(hot(word, heat) for word, heat in zip(words, heats, strict=True))]
        + [Cell("semantic map", coloured[0]), Cell("margin 0.1: 255 is pale", coloured[1])]
        + [solid(f"instance {number} of both", part) for number, part in enumerate(parts[:2])]
    ]


@dataclass(frozen=True)
class Lesson:
    """A way to learn a token, and its name in the pictures."""

    name: str
    options: dict[str, Any]


LESSONS = (
    Lesson("Adam, BCE", {"optimizer": "adam", "epochs": 300}),
    Lesson("SGD, BCE", {"optimizer": "sgd", "epochs": 500}),
    Lesson("SGD, other loss", {"optimizer": "sgd", "epochs": 500, "loss": "cross_entropy_minmax"}),
)


@cache
def learned() -> dict[str, ovam.TokenFit]:
    """The tokens of each lesson, from one image and its annotation."""
    scene = shown(PLAIN.format("car"), 3)
    example = (scene.trace, torch.from_numpy(scene.truth("car")))
    init = ovam.initial_tokens(pipeline(), "car")
    chosen: dict[str, Any] = {"patience": None, "blocks": ["down", "up"]}
    return {each.name: ovam.optimize_tokens([example], init, **chosen, **each.options) for each in LESSONS}


def tokens() -> Rows:
    """Tokens learned from one image, on it and on another."""
    rows = []
    for scene, title in ((shown(PLAIN.format("car"), 3), "learned from"), (shown(CAR, 5), "another image")):
        truth = scene.truth("car")
        heats = {"the word": heat_of(scene.trace, "car")}
        for name, fit in learned().items():
            heats[name] = ovam.heatmaps(scene.trace, fit.embedding, size=SIZE, blocks=["down", "up"])[1]
        rows.append([Cell(title, scene.image), *(hot(name, heat) for name, heat in heats.items())])
        rows.append([solid("annotation", truth), *(solid(name, cut(heat), truth) for name, heat in heats.items())])
    return rows


def real_images() -> Rows:
    """An image that the model did not make: heat and masks from noise, and along DDIM's path."""
    rows = []
    for number, name in enumerate(("car", "tree")):
        drawing, _ = example(REAL_IMAGES, 10_000 + number, (name,))
        truth = drawing.of_class(name)
        cells = [Cell("a render", drawing.image), solid("its exact mask", truth)]
        for way in ("none", "ddim"):
            trace = ovam.trace_image(pipeline(), drawing.image, inversion=way, self_attention=True)
            own = heat_of(trace, name, size=None)
            spread = resize(ovam.affinity(own[None], trace.self_attention), SIZE)[0]
            title = "noise" if way == "none" else "DDIM"
            cells += [hot(f"{name}, {title}", resize(own[None], SIZE)[0]), solid("affinity 1", cut(spread), truth)]
        rows.append(cells)
    return rows


def probe() -> Rows:
    """What is at a place: the words with most gain over two boxes of an image."""
    scene = shown(BOAT, 6)
    cells = [Cell("the image", scene.image)]
    for left, top in ((12, 24), (42, 24)):
        found = ovam.rank_words(
            scene.trace, pipeline(), BOAT, ["boat", "sun", "sea"], box=(left, top, 10, 10), blocks=["down", "up"]
        )
        marked = scene.image.copy()
        marked[[top, top + 9], left : left + 10] = marked[top : top + 10, [left, left + 9]] = 255
        cells.append(Cell(", ".join(f"{word.word} {word.gain:+.2f}" for word in found[:2]), marked))
    return [cells]


def gallery() -> Rows:
    """Nouns, grounds, parts and colours; the last two often fail, and that is shown as it is."""
    asked = (
        (CAR, 5, ("car", "grass", "wheel", "red")),
        (BOAT, 6, ("boat", "sun", "sea", "sail")),
        ("a photograph of a house and a tree on the snow", 6, ("house", "tree", "snow", "roof")),
        ("a photograph of a yellow star and a blue fish on the bricks", 2, ("star", "fish", "bricks", "blue")),
    )
    rows = []
    for prompt, seed, words in asked:
        scene = shown(prompt, seed)
        found: list[Cell] = []
        for word in words:
            own = heat_of(scene.trace, word, size=None)
            spread = resize(ovam.affinity(own[None], scene.trace.self_attention, steps=2), SIZE)[0]
            found += [hot(word, resize(own[None], SIZE)[0]), solid(f"{word}, affinity 2", cut(spread))]
        rows.append([Cell("the image", scene.image), *found])
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
    for name in names or FIGURES:
        sheet(FIGURES[name](), out / f"{name}.png")
        typer.echo(f"wrote {out / name}.png")


if __name__ == "__main__":
    typer.run(main)
