"""Masks that people have are read as they mean them, or refused with what to send instead."""

from io import BytesIO
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image
from pycocotools import mask as tools

from ovam.core import coco, mask_files
from ovam.core.label_maps import indexed_png
from ovam.core.mask_files import labels_of_png, marks_of, mask_of, resized_to
from ovam.errors import ImageTooLargeError, InvalidArgumentError, MaskNotAnImageError, MaskUnreadableError

INSIDE = np.zeros((12, 16), np.bool_)
INSIDE[3:9, 4:13] = True


def png(pixels: np.ndarray | Image.Image, **options: Any) -> bytes:
    file = BytesIO()
    (pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)).save(file, "PNG", **options)
    return file.getvalue()


def with_palette(indices: np.ndarray, *colours: tuple[int, int, int], **options: Any) -> bytes:
    image = Image.fromarray(indices.astype(np.uint8), mode="P")
    image.putpalette([value for colour in colours for value in colour])
    return png(image, **options)


GREY = np.where(INSIDE, 255, 0).astype(np.uint8)
CUT_OUT = np.full((12, 16, 4), 255, np.uint8)
CUT_OUT[~INSIDE, 3], CUT_OUT[INSIDE, :3] = 0, (20, 20, 20)
GREY_CUT_OUT = np.stack([255 - GREY, GREY], axis=-1)
OPAQUE = np.dstack([GREY, GREY, GREY, np.full_like(GREY, 255)])
VEILED = np.dstack([GREY, GREY, GREY, np.full_like(GREY, 128)])
SOFT = np.where(INSIDE, 200, 60).astype(np.uint8)
JPEG = BytesIO()
Image.fromarray(GREY).save(JPEG, "JPEG", quality=100)
MARKS = {
    "grey": png(GREY),
    "colour": png(np.dstack([GREY] * 3)),
    "one bit": png(Image.fromarray(INSIDE)),
    "soft edges": png(SOFT),
    "16 bits": png(np.where(INSIDE, 65535, 0).astype(np.uint16)),
    "a whole-number PIL image": Image.fromarray(np.where(INSIDE, 65535, 0).astype(np.int32)),
    "a stray 1 beside white": png(np.where(np.arange(192).reshape(12, 16) == 0, 1, GREY).astype(np.uint8)),
    "a whole-number PIL image, dim": Image.fromarray(np.where(INSIDE, 40000, 20000).astype(np.int32)),
    "16 bits, dim": png(np.where(INSIDE, 40000, 20000).astype(np.uint16)),
    "a cut-out": png(CUT_OUT),
    "a grey cut-out": png(Image.fromarray(GREY_CUT_OUT, mode="LA")),
    "a quantised cut-out": png(Image.fromarray(CUT_OUT).quantize(4)),
    "opaque with alpha": png(OPAQUE),
    "as transparent everywhere": png(VEILED),
    "indexed": with_palette(np.where(INSIDE, 3, 0), (0, 0, 0), (1, 1, 1), (2, 2, 2), (255, 0, 0)),
    "indexed, black last": with_palette(np.where(INSIDE, 0, 1), (255, 255, 255), (0, 0, 0)),
    "indexed, dark colours": with_palette(np.where(INSIDE, 1, 0), (200, 200, 200), (9, 9, 9)),
    "a label map of one class": indexed_png(np.where(INSIDE, 7, 0).astype(np.uint8)),
    "a PIL image": Image.fromarray(GREY),
    "a floating PIL image": Image.fromarray(INSIDE.astype(np.float32)),
    "a JPEG": Image.open(JPEG),
    "a CMYK image": Image.fromarray(GREY).convert("CMYK"),
    "bool": INSIDE,
    "floats": INSIDE * 0.9,
    "0 and 1": INSIDE.astype(np.int64),
    "0 and 255": GREY,
    "a tensor": torch.from_numpy(INSIDE),
    "a half tensor": torch.from_numpy(INSIDE).bfloat16(),
    "run lengths": coco.encode_run_lengths(INSIDE),
    "pycocotools' bytes": tools.encode(np.asfortranarray(INSIDE, dtype=np.uint8)),
    "plain run lengths": {"size": [12, 16], "counts": [51, 6, *[6, 6] * 8, 39]},
    "a polygon": [[4, 3, 13, 3, 13, 9, 4, 9]],
    "two polygons": [[4, 3, 9, 3, 9, 9, 4, 9], [9, 3, 13, 3, 13, 9, 9, 9]],
}


@pytest.mark.parametrize("name", MARKS)
def test_a_mask_is_read_in_every_form(name: str) -> None:
    marks = marks_of(MARKS[name], (12, 16))
    assert (marks.dtype, marks.shape) == (np.uint8, (12, 16))
    assert np.array_equal(marks == 1, INSIDE)
    assert np.array_equal(mask_of(MARKS[name], (12, 16)), INSIDE)


def test_pixels_that_do_not_count_stay_so() -> None:
    labels = np.where(INSIDE, 1, 0).astype(np.uint8)
    labels[3] = 255
    assert np.array_equal(marks_of(indexed_png(labels)), labels)
    assert np.array_equal(mask_of(indexed_png(labels)), labels == 1)


def test_half_is_not_more_than_half() -> None:
    clear = np.zeros((1, 3, 4), np.uint8)
    clear[..., 3] = [127, 128, 255]
    halves = [
        (png(clear), [0, 1, 1]),
        (png(np.array([[127, 128, 255]], np.uint8)), [0, 1, 1]),
        (png(np.array([[32767, 32768, 65535]], np.uint16)), [0, 1, 1]),
        (np.array([[0.5, 0.501, 1.0]]), [0, 1, 1]),
    ]
    for mask, expected in halves:
        assert marks_of(mask).tolist() == [expected]


def test_an_index_is_a_class_even_where_it_is_black_and_the_only_one() -> None:
    assert marks_of(with_palette(np.ones((2, 3)), (9, 9, 9), (0, 0, 0))).all()


ALL_CLEAR = CUT_OUT * np.array([1, 1, 1, 0], np.uint8)
ALMOST_LABELS = np.where(INSIDE, 1, 0).astype(np.uint8)
ALMOST_LABELS[0] = 255
REFUSED = {
    "1 is dark": (png(INSIDE.astype(np.uint8)), "brightest pixel of the mask is 1 of 255, which is dark.*`labels`"),
    "127 is dark": (png(INSIDE.astype(np.uint8) * 127), "brightest pixel of the mask is 127 of 255, which is dark"),
    "more than all": (np.full((2, 2), 1.5), "1.5 to 1.5; allowed: floats from 0 to 1"),
    "a size that is a number": ({"size": 4, "counts": [4]}, "not COCO run lengths"),
    "2 is dark": (png(INSIDE.astype(np.uint16)), "brightest pixel of the mask is 1 of 65535, which is dark"),
    "numbers of classes": (np.where(INSIDE, 2, 0), "brightest pixel of the mask is 2 of 255"),
    "labels with 255": (png(ALMOST_LABELS), "0, 1 to 1 and 255, which look like labels; send them as `labels`"),
    "several indices": (
        indexed_png(np.tile(np.arange(16, dtype=np.uint8), (12, 1))),
        r"indices are 1, 2, .*a class each; .*`labels`",
    ),
    "nothing opaque": (png(ALL_CLEAR), "alpha channel is transparent everywhere"),
    "a stack": (np.zeros((2, 3, 4)), r"shape is \(2, 3, 4\); allowed: \(height, width\)"),
    "no pixel": (np.zeros((0, 4)), "shape is"),
    "logits": (np.full((2, 2), -3.0), "-3.0 to -3.0; allowed: floats from 0 to 1"),
    "not finite": (np.full((2, 2), np.nan), "allowed: floats from 0 to 1"),
    "beyond a byte": (np.full((2, 2), 300), "300 to 300; allowed: 0 to 255"),
    "counts that do not fill": ({"size": [2, 2], "counts": [1, 2]}, "not COCO run lengths: .*add up to 2 x 2"),
    "no counts": ({"size": [2, 2]}, "not COCO run lengths: .*counts"),
    "no size": ({"counts": [4]}, "not COCO run lengths: .*size"),
    "counts of text in a list": ({"size": [2, 2], "counts": ["4"]}, "not COCO run lengths: .*whole numbers"),
    "counts of fractions": ({"size": [2, 2], "counts": [1.5, 2.5]}, "not COCO run lengths: .*whole numbers"),
    "a size of text": ({"size": ["2", "2"], "counts": [4]}, "not COCO run lengths"),
    "nothing to read": ({"size": [0, 2], "counts": []}, "0 high and 2 wide; allowed: at least 1"),
    "an odd polygon": ([[1, 2, 3, 4, 5]], "polygon has 5 numbers"),
    "a line": ([[1, 2, 3, 4]], "polygon has 4 numbers"),
    "a polygon elsewhere": ([[0, 0, 18, 0, 18, 9]], r"leaves its image with x 0.0 to 18.0.*x from 0 to 16, y from 0 to 12"),
    "a polygon above": ([[0, -1.5, 9, 0, 9, 9]], "leaves its image"),
    "a polygon without place": ([[0, 0, float("nan"), 0, 9, 9]], "leaves its image"),
    "a polygon of words": ([["a", "b", "c", "d", "e", "f"]], "holds what is no number"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_meant_is_refused_with_what_to_send(name: str) -> None:
    mask, message = REFUSED[name]
    with pytest.raises(MaskUnreadableError, match=message):
        marks_of(mask, (12, 16))


@pytest.mark.parametrize("data", [b"", b"GIF89a", b"\x89PNG\r\n\x1a\n", MARKS["grey"][:60], MARKS["grey"][:-30] + b"\0" * 30])
def test_bytes_that_are_no_png_are_refused(data: bytes) -> None:
    with pytest.raises(MaskNotAnImageError, match=r"this is not a PNG|the PNG is damaged"):
        marks_of(data)


def test_a_mask_that_promises_too_much_is_not_unpacked() -> None:
    bomb = bytearray(MARKS["grey"])
    bomb[16:24] = (1 << 20).to_bytes(4, "big") * 2
    for mask in (bytes(bomb), {"size": [1 << 20, 1 << 20], "counts": [1 << 40]}, [[0, 0, 4096, 0, 4096, 4097]] * 99):
        with pytest.raises(ImageTooLargeError):
            marks_of(mask, (4097, 4096) if isinstance(mask, list) else None)
    for large in (Image.new("1", (4096, 4097)), {"size": [4096, 4097], "counts": [4096 * 4097]}):
        with pytest.raises(ImageTooLargeError, match=r"4097 .*allowed: 16777216 pixels"):
            marks_of(large)
    assert not marks_of({"size": [4096, 4096], "counts": [4096 * 4096]}).any()
    with pytest.raises(ImageTooLargeError, match="pixels long; allowed"):
        marks_of([[0, 0, 4000, 0, 4000, 4000, 0, 4000]] * 99, (4000, 4000))


def test_polygons_that_leave_their_image_by_a_pixel_are_clipped() -> None:
    over = [[-0.4, -1, 16.5, -0.2, 17, 13, -1, 12.7]]
    assert mask_of(over, (12, 16)).all()
    assert np.array_equal(mask_of([[-1, 3, 5, 3, 5, 9, -1, 9]], (12, 16)), mask_of([[0, 3, 5, 3, 5, 9, 0, 9]], (12, 16)))
    with pytest.raises(MaskUnreadableError, match="polygons need the size"):
        marks_of(over)
    assert not marks_of([], (3, 4)).any()


@given(arrays.arrays(np.bool_, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_every_form_of_a_mask_is_the_same_mask(mask: np.ndarray) -> None:
    runs = np.diff(np.flatnonzero(np.diff(mask.T.ravel(), prepend=False, append=not mask[-1, -1])), prepend=0)
    forms: list[Any] = [
        mask,
        coco.encode_run_lengths(mask),
        {"size": mask.shape, "counts": runs.tolist()},
        png(Image.fromarray(mask)),
    ]
    for form in [*forms, coco.polygons(mask), png(np.where(mask, 65535, 0).astype(np.uint16))]:
        assert np.array_equal(mask_of(form, mask.shape), mask)


def test_labels_are_the_numbers_in_the_file() -> None:
    labels = np.array([[0, 1, 2], [255, 2, 0]], np.uint8)
    for data in (indexed_png(labels), png(labels)):
        assert np.array_equal(labels_of_png(data, 2), labels)
        with pytest.raises(MaskUnreadableError, match="labels of 1 classes hold 2; allowed: 0 to 1, and 255"):
            labels_of_png(data, 1)
    for other in (png(np.dstack([labels] * 3)), png(labels.astype(np.uint16)), png(Image.fromarray(labels > 1))):
        with pytest.raises(MaskUnreadableError, match="labels are a PNG of mode"):
            labels_of_png(other, 2)


@given(arrays.arrays(np.uint8, st.tuples(st.integers(1, 6), st.integers(1, 6))), st.integers(1, 4))
def test_marks_are_resized_by_the_nearest_pixel(marks: np.ndarray, factor: int) -> None:
    large = resized_to(marks, (marks.shape[0] * factor, marks.shape[1] * factor))
    assert np.array_equal(large, marks.repeat(factor, axis=0).repeat(factor, axis=1))
    assert np.array_equal(resized_to(large, marks.shape), marks)


def test_run_lengths_of_other_kinds_are_refused_by_name() -> None:
    for counts in ([1, -1, 4], [1.0, 3], [1 << 80], "~"):
        with pytest.raises(InvalidArgumentError, match=r"^counts is "):
            coco.decode_run_lengths({"size": [2, 2], "counts": counts})
    assert mask_files.MOST_PIXELS == 1 << 24
