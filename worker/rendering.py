"""Arrays as files: images, heatmaps and masks."""

from io import BytesIO

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image
from PIL.PngImagePlugin import PngInfo

BINARY = "application/octet-stream"
COMPRESSION = {"compress_level": 1, "compress_type": 3}  # runs alone: photographs get smaller than by searching, and sooner


def png(pixels: UInt8[np.ndarray, "height width *channels"], notes: dict[str, str] | None = None) -> bytes:
    """Encode pixels as a PNG, with notes as its text chunks."""
    info = PngInfo()
    for name, text in (notes or {}).items():
        info.add_itxt(name, text)
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", pnginfo=info, **COMPRESSION)
    return buffer.getvalue()


def npy(values: Float[np.ndarray, "..."]) -> bytes:
    """Encode numbers as a `.npy` file of 32-bit floats."""
    buffer = BytesIO()
    np.save(buffer, values.astype(np.float32), allow_pickle=False)
    return buffer.getvalue()


def grey(heat: Float[np.ndarray, "height width"]) -> UInt8[np.ndarray, "height width"]:
    """Show heat as grey: 255 for the hottest pixel, 0 for none."""
    highest = float(heat.max())
    return np.zeros(heat.shape, np.uint8) if highest <= 0 else np.rint(heat * (255 / highest)).astype(np.uint8)
