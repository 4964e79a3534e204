"""Fitting a mask to the edges of its image with a dense conditional random field."""

from dataclasses import astuple, dataclass

import denseCRF  # pyrefly: ignore[missing-import]  # a bare extension module
import numpy as np
from jaxtyping import Bool, UInt8

from ovam.errors import InvalidArgumentError


@dataclass(frozen=True)
class CrfParameters:
    """What SimpleCRF's dense CRF is run with; the defaults are the paper's."""

    bilateral_weight: float = 10.0
    bilateral_distance: float = 80.0
    """Standard deviation in pixels."""
    bilateral_colour: float = 13.0
    """Standard deviation in steps of 0 to 255."""
    gaussian_weight: float = 3.0
    gaussian_distance: float = 3.0
    """Standard deviation in pixels."""
    iterations: int = 5


PAPER = CrfParameters()


def dense_crf(
    image: UInt8[np.ndarray, "height width 3"],
    mask: Bool[np.ndarray, "mask_height mask_width"],
    parameters: CrfParameters = PAPER,
) -> Bool[np.ndarray, "height width"]:
    """Refine a hard mask, given as probabilities [1-m, m], by the image's colours (section 3.4).

    Raises `InvalidArgumentError` when the image is not uint8 RGB or the mask not boolean and of the image's
    size.
    """
    image, mask = np.asarray(image), np.asarray(mask)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise InvalidArgumentError("image", (image.dtype.name, image.shape), "uint8, (height, width, 3)")
    if mask.dtype != np.bool_ or mask.shape != image.shape[:2]:
        raise InvalidArgumentError("mask", (mask.dtype.name, mask.shape), f"bool, {image.shape[:2]}")
    probabilities = np.stack([~mask, mask], axis=-1).astype(np.float32)
    labels = denseCRF.densecrf(np.ascontiguousarray(image), probabilities, astuple(parameters))
    return np.asarray(labels) == 1
