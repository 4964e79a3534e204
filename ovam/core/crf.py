"""Fitting a mask to the edges of its image with a dense conditional random field (section 3.4)."""

from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from annotated_types import Interval
from jaxtyping import Bool, UInt8

from ovam.core.pictures import Picture, rgb_of
from ovam.core.settings import Checked
from ovam.errors import InvalidArgumentError, MissingPackageError


@dataclass(frozen=True)
class CrfParameters(Checked):
    """Parameters of SimpleCRF's dense CRF; the defaults are the paper's."""

    bilateral_weight: Annotated[float, Interval(ge=0, le=1000)] = 10.0
    """Weight of the kernel over position and colour."""
    bilateral_distance: Annotated[float, Interval(gt=0, le=1000)] = 80.0
    """Its standard deviation in pixels."""
    bilateral_colour: Annotated[float, Interval(gt=0, le=255)] = 13.0
    """Its standard deviation in steps of 0 to 255."""
    gaussian_weight: Annotated[float, Interval(ge=0, le=1000)] = 3.0
    """Weight of the kernel over position alone."""
    gaussian_distance: Annotated[float, Interval(gt=0, le=1000)] = 3.0
    """Its standard deviation in pixels."""
    iterations: Annotated[int, Interval(ge=1, le=100)] = 5
    """Mean-field iterations."""


PAPER = CrfParameters()


def dense_crf(
    image: Picture, mask: Bool[np.ndarray, "height width"], parameters: CrfParameters = PAPER
) -> Bool[np.ndarray, "height width"]:
    """Refine a hard mask, given as probabilities [1-m, m], by the image's colours (section 3.4).

    Raises `InvalidArgumentError` when the mask is not boolean and of the image's size, `MissingPackageError` without simplecrf.

    >>> image = np.zeros((32, 32, 3), np.uint8)
    >>> image[8:24, 8:24] = 255
    >>> rough = np.zeros((32, 32), bool)
    >>> rough[10:24, 8:22] = True
    >>> bool((ovam.dense_crf(image, rough) == (image[..., 0] > 0)).all())
    True
    """
    pixels: UInt8[np.ndarray, "height width 3"] = rgb_of(image)
    mask = np.asarray(mask)
    if mask.dtype != np.bool_ or mask.shape != pixels.shape[:2]:
        raise InvalidArgumentError("mask", (mask.dtype.name, mask.shape), f"bool, {pixels.shape[:2]}")
    probabilities = np.stack([~mask, mask], axis=-1).astype(np.float32)
    values = (
        parameters.bilateral_weight,
        parameters.bilateral_distance,
        parameters.bilateral_colour,
        parameters.gaussian_weight,
        parameters.gaussian_distance,
        parameters.iterations,
    )
    return np.asarray(simplecrf().densecrf(pixels, probabilities, values)) == 1


def simplecrf() -> Any:  # noqa: ANN401 - a bare extension module
    """Import SimpleCRF's extension, which takes a compiler to install, when it is needed."""
    try:
        import denseCRF  # noqa: PLC0415
    except ImportError as error:
        raise MissingPackageError("simplecrf", "crf", "a dense CRF") from error
    return denseCRF
