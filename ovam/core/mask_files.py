"""Masks in the forms that people have: PNG files, PIL images, arrays, run lengths, polygons; all to the same marks.

Marks are uint8 (height, width): 0 background, 1 the class, 255 pixels that do not count.
"""

import struct
import zlib
from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any, Final

import numpy as np
from jaxtyping import Bool, Shaped, UInt8
from PIL import Image, UnidentifiedImageError

from ovam.core.arrays import array_of
from ovam.core.coco import decode_run_lengths, fill_polygons
from ovam.core.label_maps import IGNORE
from ovam.errors import ImageTooLargeError, InvalidArgumentError, MaskNotAnImageError, MaskUnreadableError

Size = tuple[int, int]
"""(height, width)."""

BRIGHT: Final = 127  # brighter pixels of a grey image, and more opaque ones, belong to the class
BRIGHT_16: Final = 32767  # the same of 16 bits
MOST_PIXELS: Final = 1 << 24
LONGEST_OUTLINE: Final = 1 << 20  # pixels; filling takes memory for each of them
OUTSIDE: Final = 1.0  # pixels that a polygon may leave its image by: annotation tools round, and draw along the border
HEADER: Final = struct.Struct(">8s4x4sIIBB")  # signature, length, "IHDR", width, height, bit depth, colour type
SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
GREY, INDEXED = 0, 3  # colour types
UNREADABLE = (OSError, ValueError, SyntaxError, EOFError, struct.error, zlib.error, Image.DecompressionBombError)


def mask_of(mask: Any, size: Size | None = None) -> Bool[np.ndarray, "height width"]:  # noqa: ANN401 - see marks_of
    """Return the class's pixels of a mask in any form that `marks_of` takes.

    >>> mask_of({"size": [2, 2], "counts": [1, 3]}).tolist()
    [[False, True], [True, True]]
    """
    return marks_of(mask, size) == 1


def marks_of(mask: Any, size: Size | None = None) -> UInt8[np.ndarray, "height width"]:  # noqa: ANN401 - five forms
    """Return what a mask marks, at its own size; polygons are drawn at `size` (height, width).

    A mask is one of these:

    - the bytes of a PNG, or a PIL image; see `marks_of_image`
    - an array or a tensor (height, width): bool; floats, above 0.5 being the class; or whole numbers, read as a grey image
      is, or 0 and 1
    - COCO run lengths: a mapping with `size` and `counts`, which are text, bytes, or a list of numbers
    - COCO polygons: lists of x0, y0, x1, y1, ..., at most one pixel outside of the image, to which they are clipped

    Raises `MaskNotAnImageError` for bytes that are no PNG, `ImageTooLargeError`, and `MaskUnreadableError`.
    """
    match mask:
        case bytes() | bytearray():
            return marks_of_image(png(bytes(mask)))
        case Mapping():
            return marks_of_run_lengths(mask)
        case list() | tuple() if not mask or isinstance(mask[0], Sequence):
            if size is None:
                raise MaskUnreadableError("polygons need the size (height, width) of their image")
            return filled(mask, size).astype(np.uint8)
        case _ if hasattr(mask, "convert"):  # a PIL image
            check_pixels(mask.height, mask.width)
            return marks_of_image(mask)
        case _:
            return marks_of_array(mask)


def marks_of_image(image: Image.Image) -> UInt8[np.ndarray, "height width"]:
    """Return what a PIL image marks.

    - Where transparency varies, the image is a cut-out: its opaque pixels are the class.
    - Of an indexed image, index 0 is the background, the one other index the class, and 255 does not count. Several other
      indices are labels, which say more than a mask can. An image of black and white alone is grey, whatever its indices.
    - Of any other image the bright half is the class.

    Raises `MaskUnreadableError` for labels, and where nothing is bright although something is marked.
    """
    opacity = opacity_of(image)
    if opacity is not None:
        return (opacity > BRIGHT).astype(np.uint8)
    if image.mode == "P":
        return marks_of_indices(image)
    if image.mode.startswith("I"):
        return marks_of_grey(np.asarray(image).astype(np.int64), BRIGHT_16)
    if image.mode == "F":
        return marks_of_array(np.asarray(image))
    return marks_of_grey(np.asarray(image.convert("L")), BRIGHT)


def labels_of_png(data: bytes, classes: int) -> UInt8[np.ndarray, "height width"]:
    """Return the labels of a PNG as they stand in its pixels: 0 to `classes`, and 255 for what does not count.

    Raises what `marks_of` raises, and `MaskUnreadableError` for other labels, and for a PNG that is neither indexed nor grey
    with 8 bits.
    """
    image = png(data)
    depth, kind = HEADER.unpack_from(data)[4:]
    if kind != INDEXED and (kind, depth) != (GREY, 8):
        raise MaskUnreadableError(f"the labels are a PNG of mode {image.mode}; allowed: indexed, or grey with 8 bits")
    labels = np.asarray(image, np.uint8)
    outside = sorted(label for label in np.unique(labels).tolist() if label > classes and label != IGNORE)
    if outside:
        raise MaskUnreadableError(f"the labels of {classes} classes hold {outside[0]}; allowed: 0 to {classes}, and {IGNORE}")
    return labels


def png(data: bytes) -> Image.Image:
    """Read a PNG, unpacking it only if its header does not promise too much."""
    size = size_of_png(data)
    if size is None:
        raise MaskNotAnImageError(f"this is not a PNG; it begins with {data[:8]!r}")
    check_pixels(*size)
    try:
        image = Image.open(BytesIO(data), formats=["PNG"])
        image.load()
    except UNREADABLE as error:
        raise MaskNotAnImageError(f"the PNG is damaged: {reason_of(error)}") from error
    return image


def size_of_png(data: bytes) -> Size | None:
    """Return the (height, width) that the first bytes of a PNG promise; `None` for bytes that are no PNG's."""
    signature, chunk, width, height, *_ = HEADER.unpack_from(data) if len(data) >= HEADER.size else (b"", b"", 0, 0)
    return (height, width) if signature == SIGNATURE and chunk == b"IHDR" else None


def reason_of(error: Exception) -> str:
    """Return what is wrong with an image, without the address of an object in memory that Pillow names."""
    return "no image is in it" if isinstance(error, UnidentifiedImageError) else str(error) or type(error).__name__


def check_pixels(height: int, width: int) -> None:
    """Raise `MaskUnreadableError` for a mask without pixels, `ImageTooLargeError` for one with too many."""
    if min(height, width) < 1:
        raise MaskUnreadableError(f"the mask is {height} high and {width} wide; allowed: at least 1")
    if height * width > MOST_PIXELS:
        raise ImageTooLargeError(f"the mask is {height} high and {width} wide; allowed: {MOST_PIXELS} pixels")


def opacity_of(image: Image.Image) -> UInt8[np.ndarray, "height width"] | None:
    """Return the opacity of a cut-out; `None` for an image that is equally opaque everywhere.

    Raises `MaskUnreadableError` for an image that is transparent everywhere.
    """
    if not image.has_transparency_data:
        return None
    opacity = np.asarray(image.convert("RGBA").getchannel("A"))
    if opacity.max() == 0:
        raise MaskUnreadableError("the mask's alpha channel is transparent everywhere; opaque pixels are the class")
    return None if opacity.min() == opacity.max() else opacity


def marks_of_indices(image: Image.Image) -> UInt8[np.ndarray, "height width"]:
    """Return what an indexed image marks."""
    indices = np.asarray(image)
    used = np.unique(indices).tolist()
    colours = image.getpalette("RGB") or []
    if {tuple(colours[3 * index : 3 * index + 3]) for index in used} == {(0, 0, 0), (255, 255, 255)}:
        return marks_of_grey(np.asarray(image.convert("L")), BRIGHT)
    classes = [index for index in used if index not in (0, IGNORE)]
    if len(classes) > 1:
        named = ", ".join(map(str, classes[:5]))
        raise MaskUnreadableError(f"the mask's indices are {named}: a class each; send them as `labels`, or one class alone")
    return np.where(np.isin(indices, classes), 1, np.where(indices == IGNORE, IGNORE, 0)).astype(np.uint8)


def marks_of_grey(pixels: Shaped[np.ndarray, "height width"], bright: int) -> UInt8[np.ndarray, "height width"]:
    """Mark the bright half of the pixels. Raises `MaskUnreadableError` where dark values look like labels."""
    brightest = int(pixels.max())
    if 0 < brightest <= bright:
        raise MaskUnreadableError(
            f"the brightest pixel of the mask is {brightest} of {2 * bright + 1}, which is dark, so that no pixel is the class; "
            f"send the class as {2 * bright + 1} (white), or send the numbers as `labels`"
        )
    values, counts = np.unique(pixels, return_counts=True)
    dark = [value for value in values.tolist() if 0 < value < IGNORE]
    numbered = bool(dark) and dark == [*range(1, len(dark) + 1)]
    if bright == BRIGHT and brightest == IGNORE and numbered and counts[np.isin(values, dark)].sum() > counts[-1]:
        raise MaskUnreadableError(
            f"the mask holds 0, {dark[0]} to {dark[-1]} and {IGNORE}, which look like labels; "
            f"send them as `labels`, or the class as {IGNORE} and all else as 0"
        )
    return (pixels > bright).astype(np.uint8)


def marks_of_array(mask: Any) -> UInt8[np.ndarray, "height width"]:  # noqa: ANN401 - an array or a tensor
    """Return what an array or a tensor marks."""
    if hasattr(mask, "detach"):  # a tensor; NumPy knows no bfloat16
        mask = mask.detach().cpu()
        mask = mask.float() if mask.is_floating_point() else mask
    pixels = np.asarray(mask)
    if pixels.ndim != 2 or not pixels.size:
        raise MaskUnreadableError(f"the mask's shape is {pixels.shape}; allowed: (height, width)")
    if pixels.dtype == np.bool_:
        return pixels.astype(np.uint8)
    if np.issubdtype(pixels.dtype, np.integer) and pixels.max() > 1:
        if pixels.min() < 0 or pixels.max() > IGNORE:
            raise MaskUnreadableError(f"the mask's numbers are {pixels.min()} to {pixels.max()}; allowed: 0 to {IGNORE}")
        return marks_of_grey(pixels, BRIGHT)
    shares = array_of(pixels)
    if not np.isfinite(shares).all() or shares.min() < 0 or shares.max() > 1:
        raise MaskUnreadableError(f"the mask's numbers are {shares.min()} to {shares.max()}; allowed: floats from 0 to 1")
    return (shares > 0.5).astype(np.uint8)


def marks_of_run_lengths(mask: Mapping[str, Any]) -> UInt8[np.ndarray, "height width"]:
    """Return the pixels of COCO run lengths, compressed or not."""
    try:
        height, width = mask["size"]
        check_pixels(height, width)
        return decode_run_lengths({"size": [height, width], "counts": mask["counts"]}).astype(np.uint8)
    except (KeyError, TypeError, ValueError) as error:
        reason = str(error) if isinstance(error, InvalidArgumentError) else f"{error!r} in {list(mask)}"
        raise MaskUnreadableError(f"these are not COCO run lengths: {reason}") from error


def filled(outlines: Sequence[Any], size: Size) -> Bool[np.ndarray, "height width"]:
    """Return the union of COCO polygons, clipped to an image of `size` and filled as pycocotools does."""
    check_pixels(*size)
    clipped = [clipped_outline(outline, size) for outline in outlines]
    corners = [np.reshape(outline, (-1, 2)) for outline in clipped]
    length = sum(float(abs(each - np.roll(each, 1, axis=0)).max(axis=1).sum()) for each in corners)
    if length > LONGEST_OUTLINE:
        raise ImageTooLargeError(f"the polygons are {length:.0f} pixels long; allowed: {LONGEST_OUTLINE}")
    return fill_polygons(clipped, size)


def clipped_outline(outline: Sequence[Any], size: Size) -> list[float]:
    """Return a polygon with the corners that lie less than a pixel outside moved to the border."""
    if len(outline) < 6 or len(outline) % 2:
        raise MaskUnreadableError(f"a polygon has {len(outline)} numbers; allowed: x and y of three or more corners in turn")
    try:
        corners = np.asarray(outline, np.float64).reshape(-1, 2)
    except (TypeError, ValueError) as error:
        raise MaskUnreadableError(f"a polygon holds what is no number: {error}") from error
    limits = np.array([size[1], size[0]])
    if not ((corners >= -OUTSIDE) & (corners <= limits + OUTSIDE)).all():
        (left, top), (right, bottom) = corners.min(axis=0), corners.max(axis=0)
        detail = f"a polygon leaves its image with x {left} to {right}, y {top} to {bottom}"
        raise MaskUnreadableError(f"{detail}; allowed: x from 0 to {size[1]}, y from 0 to {size[0]}, and a pixel more")
    return corners.clip(0, limits).reshape(-1).tolist()


def resized_to(pixels: Shaped[np.ndarray, "height width"], size: Size) -> Shaped[np.ndarray, "new_height new_width"]:
    """Resize labels or marks to `size` (height, width) by the nearest pixel: no new values."""
    rows, columns = ((2 * np.arange(wanted) + 1) * have // (2 * wanted) for have, wanted in zip(pixels.shape, size, strict=True))
    return pixels[rows][:, columns]
