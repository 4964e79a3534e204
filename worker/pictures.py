"""Uploaded images as the models take them."""

from io import BytesIO

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps

HIGH_BYTE = 8  # bits, of 16


def read_picture(data: bytes, size: tuple[int, int]) -> UInt8[np.ndarray, "height width 3"]:
    """Read an image: upright, in RGB, resized to (height, width). Of a file with several images the first is read."""
    with Image.open(BytesIO(data)) as image:
        upright = opaque(ImageOps.exif_transpose(image))
    return np.asarray(upright.resize((size[1], size[0]), Image.Resampling.LANCZOS))


def opaque(image: Image.Image) -> Image.Image:
    """Convert an image of any mode to RGB: what is transparent becomes white, and of 16 bits the upper 8 are kept."""
    if image.mode.startswith("I"):
        return Image.fromarray((np.asarray(image) >> HIGH_BYTE).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")
