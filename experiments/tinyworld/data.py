"""The training set on disk: rendered images with several captions each, and later their latents. No mask is ever stored."""

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from experiments.tinyworld.captions import caption
from experiments.tinyworld.render import TRAINING
from experiments.tinyworld.scene import SIZE, draw, sample

CAPTIONS_AN_IMAGE = 3


def render_shard(rank: int, processes: int, folder: Path, count: int) -> None:
    """Render scenes rank, rank + processes, ... of `count` into images.npy, and their captions into a JSON-lines file."""
    path = folder / "images.npy"
    if rank == 0:
        folder.mkdir(parents=True, exist_ok=True)
        np.lib.format.open_memmap(path, "w+", np.uint8, (count, SIZE, SIZE, 3)).flush()
    if processes > 1:
        import torch.distributed as dist  # noqa: PLC0415  # rendering alone needs no torch

        dist.barrier()
    images = np.lib.format.open_memmap(path, "r+")
    with (folder / f"captions-{rank}.jsonl").open("w") as file:
        for seed in range(rank, count, processes):
            rng = np.random.default_rng((TRAINING, seed))
            scene = sample(rng)
            images[seed] = draw(scene, rng).image
            file.write(json.dumps([seed, [caption(rng, scene) for _ in range(CAPTIONS_AN_IMAGE)]]) + "\n")
    images.flush()


def images(folder: Path) -> NDArray[np.uint8]:
    """All rendered images, (count, 64, 64, 3), read from disk as they are needed."""
    return np.load(folder / "images.npy", mmap_mode="r")


def captions(folder: Path) -> list[list[str]]:
    """The captions of every image, in the images' order."""
    rows = [json.loads(line) for file in folder.glob("captions-*.jsonl") for line in file.open()]
    return [texts for _, texts in sorted(rows)]
