"""The teacher of the trained networks: renders of the world, whose masks are exact, seen by the UNet as real images are.

No annotator has a part in it. What a generated image shows is known to an annotator alone, and one of them is the truth of the
evaluation; a render's masks are known from how it was drawn.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from experiments.evaluation.world import article
from experiments.world import atlas
from experiments.world.render import NETWORK_TRAINING, example
from experiments.world.scene import WORLD, Recipe

VOC = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "cat", "chair", "cow", "diningtable", "horse", "motorbike", "person",
    "pottedplant", "sheep", "tvmonitor", "car", "dog", "sofa", "train",
)  # fmt: skip
SPLITS: dict[int, tuple[str, ...]] = {
    1: ("tvmonitor", "car", "dog", "sofa", "train"),
    2: ("horse", "motorbike", "person", "pottedplant", "sheep"),
    3: ("bus", "cat", "chair", "cow", "diningtable"),
}
"""The five classes that each of Grounded Diffusion's published splits leaves out of its training."""
IMAGES_A_CLASS = 5
"""Annotated images that DatasetDM has of every class."""
LARGE = replace(WORLD, sizes=(0.5, 0.8), shares=(1.0, 0.0, 0.0, 0.0))
"""Scenes of one large thing, as DatasetDM takes its images."""
SCALES = (0.5, 3.0)

Picture = NDArray[np.uint8]  # (height, width, 3)
Masks = NDArray[np.bool_]  # (classes, height, width)


@dataclass(frozen=True, eq=False)
class Example:
    """A render as a network's training example."""

    image: Picture
    prompt: str
    """What the UNet is told of it."""
    classes: tuple[str, ...]
    """Those that are asked for."""
    masks: Masks


def seen_of(split: int) -> tuple[str, ...]:
    """The classes that a split trains on."""
    return tuple(name for name in VOC if name not in SPLITS[split])


def grounded(number: int, classes: Sequence[str]) -> Example:
    """Example `number` of Grounded Diffusion: half of them name one class, half name two."""
    rng = np.random.default_rng((NETWORK_TRAINING, number, 1))
    names = tuple(str(name) for name in rng.choice(classes, 1 + number % 2, replace=False))
    image, masks = rendered(number, WORLD, names)
    return Example(image, f"a photograph of {' and '.join(article(word_of(name)) for name in names)}", names, masks)


def perceived(number: int, classes: Sequence[str], views: int) -> Example:
    """Example `number` of DatasetDM: one of `views` of a render, scaled and cropped."""
    render, view = divmod(number, views)
    name = classes[render % len(classes)]
    image, masks = rendered(1_000_000 + render, LARGE, (name,))
    if view:
        image, masks = cropped(np.random.default_rng((NETWORK_TRAINING, number, 2)), image, masks)
    return Example(image, f"a photo of {article(word_of(name))}", (name,), masks)


def rendered(number: int, recipe: Recipe, names: tuple[str, ...]) -> tuple[Picture, Masks]:
    """A render of some classes, and where each of them is."""
    drawing, _ = example(NETWORK_TRAINING, number, recipe, names)
    labels = drawing.labels()
    return drawing.image, np.stack([labels == atlas.load().label(name) for name in names])


def cropped(rng: np.random.Generator, image: Picture, masks: Masks) -> tuple[Picture, Masks]:
    """An image that is scaled by 0.5 to 3, and as large a piece of it as it was, in which the thing still is."""
    side = image.shape[0]
    for _ in range(20):
        scale = float(np.exp(rng.uniform(*np.log(SCALES))))
        shift = rng.uniform(min(0, 1 - scale), max(0, 1 - scale), 2) * side
        move = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]], np.float32)
        inside = [cv2.warpAffine(mask.astype(np.uint8), move, (side, side), flags=cv2.INTER_NEAREST) > 0 for mask in masks]
        if 0.05 < np.mean(inside) < 0.9:
            how = {"flags": cv2.INTER_LINEAR, "borderMode": cv2.BORDER_REFLECT_101}
            return cv2.warpAffine(image, move, (side, side), **how).astype(np.uint8), np.stack(inside)
    return image, masks


def word_of(class_name: str) -> str:
    """The plainest word of a class."""
    return atlas.load().kind(class_name).words[0]
