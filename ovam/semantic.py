"""Several targets in one map: labels per pixel, instances, and the indexed PNG that VOC tools read."""

from io import BytesIO
from typing import Final

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from PIL import Image
from torch import Tensor

from ovam.errors import InvalidArgumentError, LabelMapError
from ovam.masks import checked
from ovam.thresholds import Threshold, level_of

BACKGROUND: Final = 0
IGNORE: Final = 255
MOST_TARGETS: Final = 254
MOST_PIXELS: Final = 1 << 26


def semantic_map(
    heat: Float[Tensor, "targets height width"],
    background: float | Threshold | Float[Tensor, "background_height background_width"],
    *,
    margin: float = 0.0,
) -> UInt8[np.ndarray, "height width"]:
    """Label every pixel with the target that leads the background by most, from 1, or with 0 for the background.

    ``background`` is how hot background is: a level, a heatmap of its own, or a threshold, whose level is
    found for each target's map by itself. The heats must be in one unit: maps of one embedding are, others
    are brought to it by a division by their maxima. A pixel whose winner is less than ``margin`` ahead of
    the second is unsure and labelled 255, which VOC tools ignore; with ``margin=0`` no pixel is. Of equals
    the first target wins, the background last, so that one target's label is its mask.

    Raises `InvalidArgumentError` for no or more than 254 targets, for heat that is negative or no number,
    and for a background of another size.
    """
    if heat.ndim != 3 or not 1 <= heat.shape[0] <= MOST_TARGETS:
        raise InvalidArgumentError("heat", tuple(heat.shape), f"(1 to {MOST_TARGETS} targets, height, width)")
    checked(heat)
    return labels_of(torch.stack([_lead(one, background) for one in heat]), margin=margin)


def labels_of(leads: Float[Tensor, "targets height width"], *, margin: float = 0.0) -> UInt8[np.ndarray, "height width"]:
    """Label every pixel as `semantic_map` does, given how far each target is ahead of the background there."""
    if not 1 <= leads.shape[0] <= MOST_TARGETS:
        raise InvalidArgumentError("leads", tuple(leads.shape), f"(1 to {MOST_TARGETS} targets, height, width)")
    if not margin >= 0:
        raise InvalidArgumentError("margin", margin, "0 or more")
    contest = torch.cat([leads, torch.zeros_like(leads[:1])])
    first, winner = contest.max(dim=0)
    labels = torch.where(winner == leads.shape[0], BACKGROUND, winner + 1)
    if margin > 0:
        second = contest.topk(2, dim=0).values[1]
        labels = torch.where(first - second < margin, IGNORE, labels)
    return labels.to(torch.uint8).cpu().numpy()


def _lead(one: Float[Tensor, "height width"], background: float | Threshold | Tensor) -> Float[Tensor, "height width"]:
    """Say how far a target is ahead of the background."""
    if isinstance(background, Tensor):
        if background.shape != one.shape:
            raise InvalidArgumentError("background", tuple(background.shape), f"a heatmap of {tuple(one.shape)}")
        return one - checked(background).to(one)
    if isinstance(background, Threshold):
        return one - level_of(one, background)
    if not 0 <= background < float("inf"):
        raise InvalidArgumentError("background", background, "0 or more, finite")
    return one - background


def instances(
    mask: Bool[np.ndarray, "height width"], *, minimum_area: int = 1, connectivity: int = 8
) -> list[Bool[np.ndarray, "height width"]]:
    """Split a mask into its connected regions of at least ``minimum_area`` pixels, the largest first."""
    if connectivity not in (4, 8):
        raise InvalidArgumentError("connectivity", connectivity, "4 or 8")
    if minimum_area < 1:
        raise InvalidArgumentError("minimum_area", minimum_area, "1 or more pixels")
    pixels = np.ascontiguousarray(mask, dtype=np.uint8)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(pixels, connectivity=connectivity)
    areas = stats[:, cv2.CC_STAT_AREA]
    order = sorted(range(1, len(areas)), key=lambda label: -int(areas[label]))
    return [labels == label for label in order if areas[label] >= minimum_area]


def voc_palette() -> UInt8[np.ndarray, "256 3"]:
    """Make the colours of Pascal VOC: each label's bits, dealt in turn to red, green and blue from the top."""
    labels = np.arange(256)
    palette = np.zeros((256, 3), dtype=np.uint8)
    for bit in range(8):
        for channel in range(3):
            palette[:, channel] |= ((labels >> (3 * bit + channel)) & 1).astype(np.uint8) << (7 - bit)
    return palette


def indexed_png(labels: UInt8[np.ndarray, "height width"]) -> bytes:
    """Write labels as a PNG with VOC's palette."""
    image = Image.fromarray(np.ascontiguousarray(labels), mode="L")
    image.putpalette(voc_palette().tobytes())
    buffer = BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def read_indexed_png(data: bytes) -> UInt8[np.ndarray, "height width"]:
    """Read the labels of an indexed or greyscale PNG, as they are in the file.

    Raises `LabelMapError` for other bytes, other modes and more than 64 million pixels.
    """
    try:
        with Image.open(BytesIO(data), formats=["PNG"]) as image:
            if image.mode not in ("P", "L"):
                raise LabelMapError(f"the PNG has mode {image.mode}; allowed: indexed (P) or greyscale (L)")
            if image.width * image.height > MOST_PIXELS:
                raise LabelMapError(f"the PNG is {image.height} x {image.width}; allowed: {MOST_PIXELS} pixels")
            return np.array(image, dtype=np.uint8)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise LabelMapError(f"{len(data)} bytes that are not a PNG of labels: {error}") from error
