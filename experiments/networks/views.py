"""What networks see of images: squares of one side, in training with other sizes, places, sides and colours."""

import cv2
import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from experiments.evaluation.world import Labels, Picture
from ovam.core.label_maps import IGNORE

SCALES = (0.75, 1.5)  # of an image in training
GAIN, SHIFT = (0.8, 1.2), (-15, 15)  # of each colour
MEAN, DEVIATION = 0.5, 0.25  # of pixels in [0, 1]: the processors of transformers are told the same
GREY = round(255 * MEAN)

Generator = np.random.Generator


def training_view(rng: Generator, image: Picture, labels: Labels, side: int) -> tuple[Picture, Labels]:
    """A square of an image as training sees it, and its labels; 255 beyond the image."""
    scale = side / max(labels.shape) * float(np.exp(rng.uniform(*np.log(SCALES))))
    image, labels = resized(image, labels, scale)
    if rng.random() < 0.5:
        image, labels = image[:, ::-1], labels[:, ::-1]
    there, here = zip(*(placed(rng, extent, side) for extent in labels.shape), strict=True)
    square, known = np.full((side, side, 3), GREY, np.uint8), np.full((side, side), IGNORE, np.uint8)
    square[there], known[there] = recoloured(rng, image[here]), labels[here]
    return square, known


def resized(image: Picture, labels: Labels, scale: float) -> tuple[Picture, Labels]:
    """Image and labels at another size."""
    size = tuple(max(1, round(scale * extent)) for extent in reversed(labels.shape))
    smooth = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    nearest = cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST_EXACT)
    return cv2.resize(image, size, interpolation=smooth).astype(np.uint8), nearest.astype(np.uint8)


def placed(rng: Generator, extent: int, side: int) -> tuple[slice, slice]:
    """Where on a square's side a random part of an image's side comes, and which part: as much as fits."""
    free = abs(side - extent)
    start, length = int(rng.integers(free + 1)), min(side, extent)
    part, whole = slice(start, start + length), slice(0, length)
    return (part, whole) if extent <= side else (whole, part)


def recoloured(rng: Generator, image: Picture) -> Picture:
    """An image under another light."""
    return np.clip(image * rng.uniform(*GAIN, 3) + rng.uniform(*SHIFT, 3), 0, 255).astype(np.uint8)


def whole_view(image: Picture, side: int) -> tuple[Picture, tuple[int, int]]:
    """A whole image in the upper left of a square, and the height and width that it has there."""
    height, width = image.shape[:2]
    image, _ = resized(image, np.zeros((height, width), np.uint8), side / max(height, width))
    square = np.full((side, side, 3), GREY, np.uint8)
    square[: image.shape[0], : image.shape[1]] = image
    return square, image.shape[:2]


def pixels(images: UInt8[np.ndarray, "n side side 3"]) -> Float[Tensor, "n 3 side side"]:
    """Images as networks take them."""
    return ((torch.from_numpy(images).permute(0, 3, 1, 2) / 255 - MEAN) / DEVIATION).contiguous()


def targets(labels: UInt8[np.ndarray, "n side side"]) -> Int64[Tensor, "n side side"]:
    """Labels as losses take them."""
    return torch.from_numpy(labels.astype(np.int64))
