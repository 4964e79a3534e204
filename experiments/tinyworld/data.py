"""The training set on disk: rendered images with several captions each, and later their latents. No mask is ever stored."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from experiments.tinyworld.captions import caption
from experiments.tinyworld.render import TRAINING
from experiments.tinyworld.scene import CROWDED, SIZE, USUAL, Shares, draw, sample
from experiments.tinyworld.training import wait_for_all

CAPTIONS_AN_IMAGE = 3


@dataclass(frozen=True)
class Recipe:
    """What the scenes of a training set and their captions are like."""

    shares: Shares = USUAL
    silence: float = 0.0
    """Share of captions of several things that leave some of them out."""
    parts: float = 0.08
    """Share of things whose caption names a part."""


RECIPES = {"usual": Recipe(), "crowded": Recipe(CROWDED, silence=0.6, parts=0.2)}


def render_shard(rank: int, processes: int, folder: Path, first: int, count: int, recipe: Recipe) -> None:
    """Render every `processes`-th of `count` scenes into images.npy, and their captions into a JSON-lines file."""
    partial = folder / "images.partial.npy"
    if rank == 0:
        folder.mkdir(parents=True, exist_ok=True)
        np.lib.format.open_memmap(partial, "w+", np.uint8, (count, SIZE, SIZE, 3)).flush()
    wait_for_all()
    images = np.lib.format.open_memmap(partial, "r+")
    with (folder / f"captions-{rank}.jsonl").open("w") as file:
        for number in range(rank, count, processes):
            rng = np.random.default_rng((TRAINING, first + number))
            scene = sample(rng, shares=recipe.shares)
            images[number] = draw(scene, rng).image
            texts = [caption(rng, scene, silence=recipe.silence, parts=recipe.parts) for _ in range(CAPTIONS_AN_IMAGE)]
            file.write(json.dumps([number, texts]) + "\n")
    images.flush()
    wait_for_all()
    if rank == 0:
        partial.replace(folder / "images.npy")


def images(folder: Path) -> NDArray[np.uint8]:
    """All rendered images, (count, 64, 64, 3), read from disk as they are needed."""
    return np.load(folder / "images.npy", mmap_mode="r")


def captions(folder: Path) -> list[list[str]]:
    """The captions of every image, in the images' order."""
    rows = [json.loads(line) for file in folder.glob("captions-*.jsonl") for line in file.read_text().splitlines()]
    return [texts for _, texts in sorted(rows)]
