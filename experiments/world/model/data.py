"""The training set on disk: drawn scenes with several captions each, and later their latents. No mask is ever stored."""

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from transformers import CLIPTokenizer

from experiments.world import atlas, scene
from experiments.world.captions import caption
from experiments.world.model.parallel import wait_for_all
from experiments.world.scene import SIZE, Recipe

RECIPES = {"start": (scene.START,), "world": (scene.WORLD,), "both": (scene.START, scene.WORLD)}  # taken in turn
CAPTIONS_AN_IMAGE = 4
SEEDS = 11  # first entry of the seeds of training scenes; nothing that is measured may use it
READY = "latents.count"  # how many scenes are encoded
UNSEEN = 12  # of scenes that are only measured


class DatasetError(ValueError):
    """A training set that cannot be used."""


def drawn(recipes: tuple[Recipe, ...], number: int, seeds: int = SEEDS) -> tuple[NDArray[np.uint8], list[str]]:
    """Scene `number`: its image (128, 128, 3) and captions."""
    rng = np.random.default_rng((seeds, number))
    sampled = scene.sample(rng, recipes[number % len(recipes)])
    return scene.draw(sampled).image, [caption(rng, sampled) for _ in range(CAPTIONS_AN_IMAGE)]


def render_shard(rank: int, processes: int, folder: Path, first: int, count: int, recipe: str) -> None:
    """Draw every `processes`-th of `count` scenes into images.npy, and their captions into a JSON-lines file."""
    partial = folder / "images.partial.npy"
    if rank == 0:
        folder.mkdir(parents=True, exist_ok=True)
        np.lib.format.open_memmap(partial, "w+", np.uint8, (count, SIZE, SIZE, 3)).flush()
    wait_for_all()
    images = np.lib.format.open_memmap(partial, "r+")
    with (folder / f"captions-{rank}.jsonl").open("w") as file:
        for number in range(rank, count, processes):
            images[number], texts = drawn(RECIPES[recipe], first + number)
            file.write(json.dumps([number, texts]) + "\n")
    images.flush()
    wait_for_all()
    if rank == 0:
        about = {"atlas": atlas.load().version, "recipe": recipe, "first": first, "count": count}
        (folder / "set.json").write_text(json.dumps(about))
        partial.replace(folder / "images.npy")


def marks(folder: Path) -> dict[str, str]:
    """What weights that are trained on this set must agree with: the atlas's version.

    Raises DatasetError if the set was drawn from another atlas than today's.
    """
    drawn_from, today = json.loads((folder / "set.json").read_text())["atlas"], atlas.load().version
    if drawn_from != today:
        raise DatasetError(f"{folder}: drawn from atlas {drawn_from}, the atlas here is {today}; train in another folder")
    return {"atlas": today}


def recipe(folder: Path) -> str:
    """Which of `RECIPES` a training set's scenes are by."""
    return json.loads((folder / "set.json").read_text())["recipe"]


def images(folder: Path) -> NDArray[np.uint8]:
    """All drawn images, (count, 128, 128, 3), read from disk as they are needed."""
    return np.load(folder / "images.npy", mmap_mode="r")


def ready(folder: Path) -> int:
    """How many scenes are encoded, from the first one on."""
    path = folder / READY
    return int(path.read_text() or 0) if path.exists() else 0


def unseen(folder: Path, count: int) -> NDArray[np.uint8]:
    """Images (count, 128, 128, 3) by the recipe of a training set that no training sees."""
    return np.stack([drawn(RECIPES[recipe(folder)], number, UNSEEN)[0] for number in range(count)])


def captions(folder: Path) -> list[list[str]]:
    """The captions of every image, in the images' order."""
    rows = [json.loads(line) for file in folder.glob("captions-*.jsonl") for line in file.read_text().splitlines()]
    return [texts for _, texts in sorted(rows)]


def token_ids(folder: Path, tokenizer: CLIPTokenizer) -> NDArray[np.int16]:
    """The token ids of every caption, (count, captions, tokens of a prompt); kept in the folder."""
    path = folder / "tokens.npy"
    if not path.exists():
        texts = captions(folder)
        flat = [text for several in texts for text in several]
        ids = tokenizer(flat, padding="max_length", truncation=True, return_tensors="np").input_ids
        np.save(path, ids.astype(np.int16).reshape(len(texts), CAPTIONS_AN_IMAGE, -1))
    return np.load(path)
