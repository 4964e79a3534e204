"""Images with labels: folders as Pascal VOC has them, and renders of the style that neither generator nor annotator has seen."""

from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image, UnidentifiedImageError

from experiments.evaluation.world import Labels, Picture, others
from experiments.world.render import SEGMENTATION
from experiments.world.scene import HELD_OUT, WORLD, classes_of, draw, sample
from ovam.core.export.entries import drawn
from ovam.core.label_maps import BACKGROUND, IGNORE, read_indexed_png
from ovam.errors import LabelMapError

VOC = ("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog", "horse",
       "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor")  # fmt: skip
"""Pascal VOC's classes; label 0 is the background, label k + 1 is class k."""
CLASSES = len(VOC) + 1
SHARES = (0.4, 0.35, 0.25)  # of renders of 1, 2 and 3 things
LISTS, IMAGES, MASKS = Path("ImageSets/Segmentation"), Path("JPEGImages"), Path("SegmentationClass")
YEARS = "VOC20*"  # folders of a VOCdevkit


class BadFolderError(Exception):
    """A folder that networks cannot be trained on; the message says where and why."""


class Examples(Protocol):
    """Images (height, width, 3) with a label a pixel, 255 where nobody knows."""

    def __len__(self) -> int:
        """Count them."""
        ...

    def __getitem__(self, index: int) -> tuple[Picture, Labels]:
        """One of them."""
        ...

    def part(self, share: float) -> "Examples":
        """A share of them, always the same."""
        ...


@dataclass(frozen=True)
class Renders:
    """Drawn scenes with exact labels, classes in turn: what counts as real in the bundled world."""

    first_seed: int
    count: int

    def __len__(self) -> int:
        """Count them."""
        return self.count

    def __getitem__(self, index: int) -> tuple[Picture, Labels]:
        """One of them; things that Pascal VOC does not have are background."""
        return rendered(self.first_seed + index)

    def part(self, share: float) -> "Renders":
        """The first of them, so that classes stay in turn."""
        return Renders(self.first_seed, round(share * self.count))


@cache
def rendered(seed: int) -> tuple[Picture, Labels]:
    """A scene of a class and up to two other things; it is drawn once and kept, 64 KB."""
    rng, name = np.random.default_rng((SEGMENTATION, seed)), VOC[seed % len(VOC)]
    drawable = [one for one in classes_of(HELD_OUT) if one in classes_of(WORLD)]
    count = int(rng.choice(len(SHARES), p=SHARES))
    drawing = draw(sample(rng, HELD_OUT, (name, *others(rng, name, count, drawable))))
    labels = drawing.labels()
    return drawing.image, np.where(labels < CLASSES, labels, BACKGROUND).astype(np.uint8)


@dataclass(frozen=True)
class VocFolder:
    """The images of a list in a folder as Pascal VOC has it."""

    folder: Path
    names: tuple[str, ...] = field(repr=False)

    def __len__(self) -> int:
        """Count them."""
        return len(self.names)

    def __getitem__(self, index: int) -> tuple[Picture, Labels]:
        """One of them. BadFolderError for a file that cannot be read, and for a label of no class."""
        image, mask = self.files(self.names[index])
        try:
            labels = read_indexed_png(mask.read_bytes())
            with Image.open(image) as opened:
                picture = np.asarray(opened.convert("RGB"))
        except (LabelMapError, OSError) as error:
            raise BadFolderError(f"{self.names[index]} of {self.folder} cannot be read: {error}") from error
        unknown = sorted(set(np.unique(labels).tolist()) - {*range(CLASSES), IGNORE})
        if unknown:
            raise BadFolderError(
                f"{mask} has label {unknown[0]}; allowed: 0 to {CLASSES - 1}, those of Pascal VOC, and 255 for unsure"
            )
        return picture, labels

    def part(self, share: float) -> "VocFolder":
        """A share of them, drawn by their names."""
        kept = sorted(self.names, key=lambda name: drawn(name, 0, "part"))[: round(share * len(self.names))]
        return VocFolder(self.folder, tuple(kept))

    def files(self, name: str) -> tuple[Path, Path]:
        """The image and its labels."""
        return self.folder / IMAGES / f"{name}.jpg", self.folder / MASKS / f"{name}.png"


def voc_folder(folder: Path, *lists: str) -> VocFolder:
    """The images of the first of some lists that a folder has, or the newest year in a VOCdevkit.

    BadFolderError without a list, without images or masks, and where sizes differ.
    """
    years = sorted(folder.glob(YEARS))
    top = folder if (folder / LISTS).is_dir() or not years else years[-1]
    there = [path for name in lists if (path := top / LISTS / f"{name}.txt").is_file()]
    if not there:
        known = ", ".join(sorted(one.stem for one in (top / LISTS).glob("*.txt"))) or "no list at all"
        wanted = " or ".join(f"{name}.txt" for name in lists)
        raise BadFolderError(f"{top} has no {wanted} in {LISTS}; it has {known}")
    found = VocFolder(top, tuple(there[0].read_text().split()))
    if not found.names:
        raise BadFolderError(f"the list {there[0]} is empty")
    for name in found.names:
        check_files(*found.files(name))
    return found


def check_files(image: Path, mask: Path) -> None:
    """Raise BadFolderError unless both files are there and of one size."""
    for what, path in (("image", image), ("mask", mask)):
        if not path.is_file():
            raise BadFolderError(f"the {what} {path} is missing")
    sizes = [size_of(path) for path in (image, mask)]
    if sizes[0] != sizes[1]:
        pixels = ["{} x {}".format(*size) for size in sizes]
        raise BadFolderError(f"{image} is {pixels[0]} pixels, its mask {mask} is {pixels[1]}; allowed: one size")


def size_of(path: Path) -> tuple[int, int]:
    """Width and height, by the file's head."""
    try:
        with Image.open(path) as opened:
            return opened.size
    except (UnidentifiedImageError, OSError) as error:
        raise BadFolderError(f"{path} is no picture: {error}") from error
