"""Arrays as files: images, heatmaps, masks and overlays."""

from functools import cache
from io import BytesIO

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image
from PIL.PngImagePlugin import PngInfo

COMPRESSION = {"compress_level": 1, "compress_type": 3}  # runs alone: photographs get smaller than by searching, and sooner
HEAT = 0.55  # weight of the heat's colours over the image
OUTLINE = (255, 255, 255)


def png(pixels: UInt8[np.ndarray, "height width *channels"], notes: dict[str, str] | None = None) -> bytes:
    """A PNG, with notes as its text chunks."""
    info = PngInfo()
    for name, text in (notes or {}).items():
        info.add_itxt(name, text)
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", pnginfo=info, **COMPRESSION)
    return buffer.getvalue()


def npy(values: Float[np.ndarray, "height width"]) -> bytes:
    """A .npy file of 32-bit floats."""
    buffer = BytesIO()
    np.save(buffer, values.astype(np.float32), allow_pickle=False)
    return buffer.getvalue()


def grey(heat: Float[np.ndarray, "height width"]) -> UInt8[np.ndarray, "height width"]:
    """Heat as a share of the hottest pixel's, 0 to 255."""
    highest = float(heat.max())
    return np.zeros(heat.shape, np.uint8) if highest <= 0 else np.rint(heat * (255 / highest)).astype(np.uint8)


def overlay(
    image: UInt8[np.ndarray, "height width 3"],
    heat: Float[np.ndarray, "height width"],
    mask: Bool[np.ndarray, "height width"],
) -> UInt8[np.ndarray, "height width 3"]:
    """The image under the heat's colours (coolest pixel dark, hottest bright), the mask's border in white."""
    low, high = float(heat.min()), float(heat.max())
    share = (heat - low) / (high - low) if high > low else np.zeros_like(heat)
    colours = inferno()[np.rint(share * 255).astype(np.uint8)]
    blended = cv2.addWeighted(image, 1 - HEAT, colours, HEAT, 0)
    solid = mask.astype(np.uint8)
    inside = cv2.erode(solid, np.ones((3, 3), np.uint8), borderType=cv2.BORDER_CONSTANT, borderValue=0)
    blended[solid > inside] = OUTLINE
    return blended


@cache
def inferno() -> UInt8[np.ndarray, "256 3"]:
    """The colours of heat, from dark to bright."""
    return cv2.applyColorMap(np.arange(256, dtype=np.uint8)[None], cv2.COLORMAP_INFERNO)[0, :, ::-1].copy()
