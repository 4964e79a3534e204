"""The atlas: every sprite of the world, by class and by set.

`experiments/world/atlas/` holds one sheet (PNG) a set and `index.json`; `make_atlas.py` makes them from open emoji packages.
Sets that are held out serve as "real" images: neither the generator nor an annotator may see them.
"""

import hashlib
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

FOLDER = Path(__file__).parent / "atlas"
INDEX = "index.json"

Pixels = NDArray[np.uint8]  # (height, width, 4) RGBA; colour is 0 where alpha is 0


class AtlasError(Exception):
    """The atlas is missing, damaged, of another version, or knows no such class."""


@dataclass(frozen=True)
class Sprite:
    """One drawing of a class, cut to its outline."""

    name: str  # "noto/airplane"
    kind: str  # its class
    box: tuple[int, int, int, int]  # left, top, width, height in its set's sheet
    colour: str | None  # its main colour where it plainly has one
    hue: int | None  # of the main colour, in OpenCV's half degrees; None where it has no hue
    paints: tuple[str, ...]  # colours it may be painted in instead
    start: bool  # among the few sprites that a first training sees
    head: tuple[float, float, float] | None  # where a hat sits: across, down, its width, as shares of the box

    @property
    def set(self) -> str:
        """The set it belongs to."""
        return self.name.split("/")[0]


@dataclass(frozen=True)
class Kind:
    """A class: the words people use for it (the plainest first) and whether Pascal VOC has it."""

    name: str
    words: tuple[str, ...]
    voc: bool


@dataclass(frozen=True, eq=False)
class Atlas:
    """All sprites and their pixels."""

    version: str
    kinds: dict[str, Kind]
    sprites: dict[str, Sprite]
    held_out: frozenset[str]
    sheets: dict[str, Pixels]

    @property
    def classes(self) -> tuple[str, ...]:
        """Every class, Pascal VOC's twenty first."""
        return tuple(self.kinds)

    @property
    def training_sets(self) -> tuple[str, ...]:
        """The sets that are not held out."""
        return tuple(name for name in self.sheets if name not in self.held_out)

    def kind(self, name: str) -> Kind:
        """A class by its name."""
        if name not in self.kinds:
            raise AtlasError(f"The atlas has no class {name!r}; it has {', '.join(self.kinds)}.")
        return self.kinds[name]

    def label(self, name: str) -> int:
        """The label of a class in maps of labels, where 0 is the ground."""
        return 1 + self.classes.index(self.kind(name).name)

    def of(self, name: str, sets: tuple[str, ...], *, start: bool = False) -> tuple[Sprite, ...]:
        """The sprites of a class in some sets, or only those of the START recipe."""
        self.kind(name)
        return tuple(s for s in self.sprites.values() if s.kind == name and s.set in sets and (s.start or not start))

    def pixels(self, name: str) -> Pixels:
        """A sprite's pixels."""
        left, top, width, height = self.sprites[name].box
        return self.sheets[self.sprites[name].set][top : top + height, left : left + width]


def digest(sheets: dict[str, Pixels], described: object) -> str:
    """The version of an atlas: a digest of its pixels and of what the index says about them."""
    total = hashlib.sha256(json.dumps(described, sort_keys=True).encode())
    for name in sorted(sheets):
        total.update(f"{name} {sheets[name].shape}".encode() + sheets[name].tobytes())
    return total.hexdigest()[:12]


def sheet(file: Path) -> Pixels:
    """The pixels of a set's sheet."""
    with Image.open(file) as picture:
        return np.array(picture.convert("RGBA"))


def sprite(name: str, entry: dict[str, Any]) -> Sprite:
    """A sprite as the index describes it."""
    left, top, width, height = entry["box"]
    head = tuple(entry["head"]) if entry["head"] else None
    box = (left, top, width, height)
    return Sprite(name, entry["class"], box, entry["colour"], entry["hue"], tuple(entry["paints"]), entry["start"], head)


def read(folder: Path) -> Atlas:
    """The atlas in a folder; an `AtlasError` says what is missing or damaged."""
    try:
        index = json.loads((folder / INDEX).read_text())
        sheets = {name: sheet(folder / f"{name}.png") for name in index["sets"]}
        described = {key: index[key] for key in ("classes", "held_out", "sprites")}
        kinds = {k: Kind(k, tuple(v["words"]), v["voc"]) for k, v in index["classes"].items()}
        sprites = {name: sprite(name, entry) for name, entry in index["sprites"].items()}
        found = digest(sheets, described)
        stated, held_out = index["version"], frozenset(index["held_out"])
    except FileNotFoundError as error:
        raise AtlasError(f"The atlas in {folder} is missing {Path(error.filename).name}: run make_atlas.py.") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise AtlasError(f"The atlas in {folder} is damaged ({error}): run make_atlas.py.") from error
    if found != stated:
        raise AtlasError(f"The atlas in {folder} is damaged: its files are not of version {stated}. Run make_atlas.py.")
    return Atlas(stated, kinds, sprites, held_out, sheets)


@cache
def load(folder: Path = FOLDER) -> Atlas:
    """The atlas, read once a process."""
    return read(folder)


def check(version: str, folder: Path = FOLDER) -> None:
    """Refuse weights that were made with another atlas."""
    if (here := load(folder).version) != version:
        raise AtlasError(f"These weights were made with version {version} of the atlas; {folder} holds version {here}.")
