"""Pictures, masks and heatmaps between programs and the service: PIL images, NumPy arrays, files."""

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ovam_client.answers import Rle

PictureLike = str | Path | bytes | Image.Image | NDArray[np.uint8]
"""A file by its path, a file's bytes, a PIL image, or an array (height, width[, 3 or 4]) of 0..255."""
MaskLike = str | Path | bytes | Image.Image | NDArray[Any] | Mapping[str, Any] | Sequence[Sequence[float]] | Rle
"""The same, arrays (height, width) being bool or 0..255; or COCO's run lengths or polygons."""


def file_of(picture: PictureLike) -> str:
    """Return a picture as requests take it: a file in base64. Files go as they are, everything else as PNG.

    Raises TypeError or ValueError for what is no picture, and OSError for a file that cannot be read.
    """
    match picture:
        case str() | Path():
            data = Path(picture).read_bytes()
        case bytes():
            data = picture
        case Image.Image():
            data = png(picture)
        case np.ndarray():
            data = png(image_of(picture))
        case _:
            raise TypeError(f"a picture is a path, bytes, a PIL image or an array; not {type(picture).__name__}")
    return base64.b64encode(data).decode()


def mask_of(mask: MaskLike) -> str | dict[str, Any] | list[list[float]]:
    """Return a mask as requests take it: a PNG in base64, COCO's run lengths, or polygons.

    Raises TypeError or ValueError for what is no mask, and OSError for a file that cannot be read.
    """
    match mask:
        case Rle():
            return mask.model_dump()
        case Mapping():
            counts = mask.get("counts")
            return {**mask, "counts": counts.decode() if isinstance(counts, bytes) else counts}  # pycocotools has bytes
        case np.ndarray() if mask.dtype == np.bool_:
            return file_of(mask.astype(np.uint8) * 255)
        case str() | Path() | bytes() | Image.Image() | np.ndarray():
            return file_of(mask)
        case Sequence():
            return [[float(number) for number in outline] for outline in mask]
        case _:
            raise TypeError(f"a mask is a path, bytes, a PIL image, an array, run lengths or polygons; not {type(mask).__name__}")


def image_of(array: NDArray[np.uint8]) -> Image.Image:
    """Return an array as a PIL image."""
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)):
        raise ValueError(
            f"a picture's array is {array.dtype} of shape {array.shape}; allowed: uint8 of (height, width[, 3 or 4]), "
            "and bool for a mask"
        )
    return Image.fromarray(array)


def png(image: Image.Image) -> bytes:
    """Return a PIL image as the bytes of a PNG."""
    file = io.BytesIO()
    image.save(file, format="PNG")
    return file.getvalue()


def opened(data: bytes) -> Image.Image:
    """Return a file's bytes as a PIL image, read whole."""
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def picture_of(url: str) -> Image.Image:
    """Return the picture, or the mask, of a preview, whose `data:` URL holds it.

    Raises ValueError for another URL.
    """
    head, comma, data = url.partition(";base64,")
    if not head.startswith("data:image/") or not comma:
        raise ValueError(f"the picture's URL begins {url[:32]!r}; allowed: data:image/...;base64,...")
    return opened(base64.b64decode(data))


def array_of(data: bytes) -> NDArray[Any]:
    """Return the array of a `.npy` file."""
    return np.load(io.BytesIO(data), allow_pickle=False)


def decoded(rle: Rle) -> NDArray[np.bool_]:
    """Return the mask (height, width) of COCO's compressed run lengths.

    Each length is written in groups of 5 bits, the lowest first, in characters from '0' on; the sixth bit says that another group
    follows, the fifth of the last one is the sign. From the fourth length on, it is the difference to the one before the last.
    """
    lengths: list[int] = []
    value = shift = 0
    for code in rle.counts.encode():
        group = code - 48
        value |= (group & 31) << shift
        shift += 5
        if not group & 32:
            value -= (1 << shift) if group & 16 else 0
            lengths.append(value + (lengths[-2] if len(lengths) > 2 else 0))
            value = shift = 0
    height, width = rle.size
    inside = np.arange(len(lengths)) % 2 == 1
    return np.repeat(inside, lengths).reshape(width, height).T
