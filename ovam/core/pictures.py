"""Images in the forms that callers have, converted to one; and heat shown over an image."""

from typing import TYPE_CHECKING, Any, Union

import cv2
import numpy as np
from jaxtyping import UInt8

from ovam.core.arrays import array_of
from ovam.errors import InvalidArgumentError

if TYPE_CHECKING:
    from PIL import Image

Picture = Union["Image.Image", np.ndarray]
"""A PIL image, or an array: uint8 (height, width, 3) RGB, or (height, width) grey, or floats in [0, 1] of these shapes."""

HEAT = 0.55  # weight of the heat's colours over the image
OUTLINE = (255, 255, 255)


def rgb_of(image: Picture) -> UInt8[np.ndarray, "height width 3"]:
    """Return an image as uint8 RGB; transparent parts become white, 16-bit grey is scaled.

    Raises `InvalidArgumentError` for what is no image.

    >>> rgb_of(np.array([[0.0, 1.0]])).tolist()
    [[[0, 0, 0], [255, 255, 255]]]
    """
    if hasattr(image, "convert"):  # PIL's; its class need not be imported to recognise it
        return rgb_of_pil(image)
    pixels = np.asarray(image)
    grey = pixels.ndim == 2
    if not (grey or (pixels.ndim == 3 and pixels.shape[2] == 3)) or pixels.size == 0:
        raise InvalidArgumentError("image", pixels.shape, "a PIL image, or an array (height, width, 3)")
    if np.issubdtype(pixels.dtype, np.floating):
        if not np.isfinite(pixels).all() or pixels.min() < 0 or pixels.max() > 1:
            raise InvalidArgumentError("image", f"{pixels.dtype.name} from {pixels.min()} to {pixels.max()}", "floats in [0, 1]")
        pixels = np.rint(pixels * 255).astype(np.uint8)
    if pixels.dtype != np.uint8:
        raise InvalidArgumentError("image", pixels.dtype.name, "uint8, or floats in [0, 1]")
    return pixels[..., None].repeat(3, axis=2) if grey else pixels


def rgb_of_pil(image: Any) -> UInt8[np.ndarray, "height width 3"]:  # noqa: ANN401 - PIL's image
    """Return a PIL image of any mode as uint8 RGB."""
    if image.mode.startswith(("I", "F")):
        values = np.asarray(image, np.float64) if image.mode == "F" else np.asarray(image, np.float64) / 65535
        return rgb_of(values)
    if image.has_transparency_data:
        clear = image.convert("RGBA")
        white = clear.copy()
        white.paste("white", (0, 0, *clear.size))
        white.alpha_composite(clear)
        image = white
    return np.asarray(image.convert("RGB"))


def overlay(
    image: Picture,
    heat: Any,  # noqa: ANN401 - an array or a tensor
    mask: Any = None,  # noqa: ANN401 - an array or a tensor
) -> UInt8[np.ndarray, "height width 3"]:
    """Lay heat over its image (coolest pixel dark, hottest bright), and outline a mask in white.

    `heat` is an array or a tensor (height, width) and is resized to the image; `mask` has the image's size.

    Raises `InvalidArgumentError` for heat that is not finite and for a mask of another size.

    >>> ovam.overlay(np.zeros((64, 96, 3), np.uint8), np.random.rand(8, 12)).shape
    (64, 96, 3)
    """
    pixels = rgb_of(image)
    values = array_of(heat).astype(np.float32)
    if values.ndim != 2 or not values.size or not np.isfinite(values).all():
        raise InvalidArgumentError("heat", values.shape, "(height, width), finite numbers")
    height, width = pixels.shape[:2]
    if values.shape != (height, width):
        values = cv2.resize(values, (width, height), interpolation=cv2.INTER_LINEAR)
    low, high = float(values.min()), float(values.max())
    level = (values - low) / (high - low) if high > low else np.zeros_like(values)
    colours = cv2.applyColorMap(np.rint(level * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)[..., ::-1]
    blended = cv2.addWeighted(pixels, 1 - HEAT, np.ascontiguousarray(colours), HEAT, 0)
    if mask is not None:
        solid = (array_of(mask) > 0).astype(np.uint8)
        if solid.shape != (height, width):
            raise InvalidArgumentError("mask", solid.shape, f"(height, width) of the image, {(height, width)}")
        inside = cv2.erode(solid, np.ones((3, 3), np.uint8), borderType=cv2.BORDER_CONSTANT, borderValue=0)
        blended[solid > inside] = OUTLINE
    return blended
