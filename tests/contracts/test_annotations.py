"""Annotations mean the same in every form they come in, and what teaches nothing is refused by name."""

import base64
import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from contracts.rules.annotations import IGNORE, annotations, check
from contracts.schema.errors import Code, ServiceError
from contracts.schema.masks import RunLengths
from contracts.schema.optimize import OptimizeRequest
from ovam.core.coco import encode_run_lengths, polygons
from ovam.core.label_maps import indexed_png

JOB = "0" * 26
SIZE = (64, 96)
BOX = np.zeros(SIZE, np.bool_)
BOX[16:40, 24:72] = True
ANY_MASK = arrays.arrays(np.bool_, st.tuples(st.integers(2, 12), st.integers(2, 12))).filter(lambda mask: 0 < mask.mean() < 1)


def png(pixels: np.ndarray, mode: str | None = None, **options: Any) -> str:
    buffer = io.BytesIO()
    image = Image.fromarray(pixels.astype(np.uint8) * 255 if pixels.dtype == np.bool_ else pixels)
    (image if mode is None else image.convert(mode)).save(buffer, "PNG", **options)
    return base64.b64encode(buffer.getvalue()).decode()


def rle(mask: np.ndarray) -> RunLengths:
    return RunLengths(**encode_run_lengths(mask))


def runs(mask: np.ndarray) -> RunLengths:
    """A mask's uncompressed run lengths."""
    column = mask.T.reshape(-1)
    edges = np.flatnonzero(np.diff(column, prepend=False, append=not column[-1]))
    return RunLengths(size=mask.shape, counts=np.diff(edges, prepend=0).tolist())


def request(*examples: dict[str, Any], classes: tuple[str, ...] = ("cat",)) -> OptimizeRequest:
    return OptimizeRequest(name="t", classes=list(classes), examples=[{"job_id": JOB, **example} for example in examples])


def labels(example: dict[str, Any], classes: tuple[str, ...] = ("cat",), size: tuple[int, int] = SIZE) -> np.ndarray:
    (found,) = annotations(request(example, classes=classes), [size])
    return found


def refusal(asked: OptimizeRequest, size: tuple[int, int] = SIZE) -> ServiceError:
    with pytest.raises(ServiceError) as caught:
        check(asked, [size] * len(asked.examples))
    return caught.value


@given(ANY_MASK)
def test_a_mask_is_the_same_as_png_as_run_lengths_of_either_kind_and_as_polygons(mask: np.ndarray) -> None:
    forms = (png(mask), rle(mask), runs(mask), polygons(mask))
    for form in forms:
        found = labels({"mask": form}, size=mask.shape)
        assert found.dtype == np.uint8
        assert np.array_equal(found, mask)


@pytest.mark.parametrize("mode", ["L", "1", "P", "RGB", "RGBA", "LA"])
def test_a_mask_may_be_any_kind_of_png(mode: str) -> None:
    assert np.array_equal(labels({"mask": png(BOX, mode)}), BOX)


def test_a_mask_with_16_bits_is_scaled_and_a_cut_out_is_read_by_its_opaque_pixels() -> None:
    assert np.array_equal(labels({"mask": png(BOX.astype(np.uint16) * 65_535)}), BOX)
    white = np.full((*SIZE, 4), 255, np.uint8)
    white[..., 3] = np.where(BOX, 255, 0)
    assert np.array_equal(labels({"mask": png(white)}), BOX)


def test_a_mask_whose_pixels_do_not_count_says_so_in_the_labels() -> None:
    palette = np.where(BOX, 7, 0).astype(np.uint8)
    palette[:4] = IGNORE
    mask = base64.b64encode(indexed_png(palette)).decode()
    wanted = np.where(palette == 7, 1, palette)
    assert np.array_equal(labels({"mask": mask}), wanted)
    dogs = np.zeros(SIZE, np.bool_)
    dogs[:9, :9] = True
    for masks in ({"cat": mask, "dog": png(dogs)}, {"dog": png(dogs), "cat": mask}):
        both = labels({"masks": masks}, ("cat", "dog"))
        assert (both[:4] == IGNORE).all()
        assert np.array_equal(both[4:9, :9], np.full((5, 9), 2))


def test_pixels_above_127_of_the_grey_form_belong_to_the_class() -> None:
    grey = np.array([[0, 127, 128, 255, 255]], np.uint8)
    assert labels({"mask": png(grey)}, size=(1, 5)).tolist() == [[0, 0, 1, 1, 1]]
    colours = np.array([[[255, 255, 0], [0, 0, 255]]], np.uint8)
    assert labels({"mask": png(colours)}, size=(1, 2)).tolist() == [[1, 0]]


@pytest.mark.parametrize("size", [(32, 48), (128, 192), (50, 77), (1000, 3)])
def test_a_mask_of_another_size_comes_by_the_nearest_pixel_(size: tuple[int, int]) -> None:
    mask = np.zeros(size, np.bool_)
    mask[size[0] // 4 : size[0] // 2 + 1, size[1] // 4 : size[1] // 2 + 1] = True
    expected = np.array(Image.fromarray(mask).resize(SIZE[::-1], Image.Resampling.NEAREST))
    for form in (png(mask), rle(mask)):
        assert np.array_equal(labels({"mask": form}), expected)
    grey = np.where(mask, 2, 0).astype(np.uint8)
    grey[: size[0] // 8] = 1
    both = labels({"labels": png(grey)}, ("cat", "dog"))
    assert np.array_equal(both == 2, expected)
    assert set(np.unique(both).tolist()) == {0, 1, 2}


def test_a_png_of_labels_may_be_indexed_or_grey_and_means_its_indices() -> None:
    wanted = np.zeros(SIZE, np.uint8)
    wanted[:9, :9], wanted[30:50, 40:80], wanted[60:] = 1, 2, IGNORE
    for data in (base64.b64encode(indexed_png(wanted)).decode(), png(wanted)):
        assert np.array_equal(labels({"labels": data}, ("cat", "dog")), wanted)
    few = np.where(wanted == IGNORE, 0, wanted)
    image = Image.fromarray(few)
    image.putpalette([9, 9, 9] * 3)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", bits=2)
    assert np.array_equal(labels({"labels": base64.b64encode(buffer.getvalue()).decode()}, ("cat", "dog")), few)


def test_masks_by_class_become_labels_and_where_they_overlap_pixels_do_not_count() -> None:
    other = np.zeros(SIZE, np.bool_)
    other[30:60, 60:90] = True
    found = labels({"masks": {"dog": rle(other), "cat": png(BOX)}}, ("cat", "dog"))
    assert np.array_equal(found == 1, BOX & ~other)
    assert np.array_equal(found == 2, other & ~BOX)
    assert np.array_equal(found == IGNORE, other & BOX)


def test_a_class_may_be_in_some_of_the_examples_only() -> None:
    check(request({"masks": {"cat": png(BOX)}}, {"masks": {"dog": png(~BOX)}}, classes=("cat", "dog")), [SIZE, SIZE])


def damaged() -> str:
    whole = base64.b64decode(png(BOX))
    return base64.b64encode(whole[: len(whole) // 2]).decode()


def bomb() -> str:
    whole = bytearray(base64.b64decode(png(BOX)))
    whole[16:24] = (65_535).to_bytes(4, "big") * 2
    return base64.b64encode(bytes(whole)).decode()


def jpeg() -> str:
    buffer = io.BytesIO()
    Image.fromarray(BOX.astype(np.uint8) * 255).save(buffer, "JPEG")
    return base64.b64encode(buffer.getvalue()).decode()


ALL, NONE = np.ones(SIZE, np.bool_), np.zeros(SIZE, np.bool_)
CORNER = np.zeros((6400, 96), np.bool_)
CORNER[0, 0] = True
SQUARE = [10.0, 10.0, 20.0, 10.0, 20.0, 20.0]
BAD_MASKS = [
    ("not base64!", Code.MASK_NOT_AN_IMAGE),
    ("ünicode", Code.MASK_NOT_AN_IMAGE),
    (base64.b64encode(b"text, no image").decode(), Code.MASK_NOT_AN_IMAGE),
    (jpeg(), Code.MASK_NOT_AN_IMAGE),
    (damaged(), Code.MASK_NOT_AN_IMAGE),
    (bomb(), Code.IMAGE_TOO_LARGE),
    (png(NONE), Code.MASK_EMPTY),
    (png(ALL), Code.MASK_FULL),
    (png(CORNER), Code.MASK_EMPTY),  # its one pixel is lost on the way to the image's size
    (rle(NONE), Code.MASK_EMPTY),
    (rle(ALL), Code.MASK_FULL),
    (RunLengths(size=SIZE, counts=""), Code.MASK_UNREADABLE),
    (RunLengths(size=SIZE, counts=rle(BOX).counts[:-1]), Code.MASK_UNREADABLE),
    (RunLengths(size=SIZE, counts="~" + rle(BOX).counts), Code.MASK_UNREADABLE),
    (RunLengths(size=SIZE, counts="ü"), Code.MASK_UNREADABLE),
    (RunLengths(size=SIZE, counts="oooooooooooooooooooooooo1"), Code.MASK_UNREADABLE),
    (RunLengths(size=SIZE, counts="o"), Code.MASK_UNREADABLE),
    (RunLengths(size=(64, 97), counts=rle(BOX).counts), Code.MASK_UNREADABLE),
    (RunLengths(size=(0, 96), counts="0"), Code.MASK_UNREADABLE),
    (RunLengths(size=(-64, -96), counts=rle(BOX).counts), Code.MASK_UNREADABLE),
    (RunLengths(size=(1 << 30, 1 << 30), counts="0"), Code.IMAGE_TOO_LARGE),
    ([SQUARE, [*SQUARE, 1.0]], Code.MASK_UNREADABLE),
    ([SQUARE, [0.0, 0.0, 97.5, 0.0, 0.0, 9.0]], Code.MASK_UNREADABLE),
    ([[0.0, 0.0, 1e300, 0.0, 0.0, 9.0]], Code.MASK_UNREADABLE),
    ([[0.0, -1.1, 9.0, 0.0, 0.0, 9.0]], Code.MASK_UNREADABLE),
    ([[0.0, 0.0, 96.0, 64.0] * 5000] * 2, Code.IMAGE_TOO_LARGE),
    (png(np.where(BOX, 1, 0).astype(np.uint8), "L"), Code.MASK_UNREADABLE),
    (RunLengths(size=SIZE, counts=[10, 20]), Code.MASK_UNREADABLE),
    (RunLengths(size=SIZE, counts=[1 << 62, 1 << 62]), Code.MASK_UNREADABLE),
    ([[9.0, 9.0] * 3], Code.MASK_EMPTY),
    ([[0.0, 0.0, 96.0, 0.0, 96.0, 64.0, 0.0, 64.0]], Code.MASK_FULL),
]


@pytest.mark.parametrize(("mask", "code"), BAD_MASKS, ids=range(len(BAD_MASKS)))
def test_a_bad_mask_is_refused_by_its_path(mask: Any, code: Code) -> None:
    error = refusal(request({"mask": png(BOX)}, {"mask": mask}))
    assert (error.code, error.field) == (code, "examples.1.mask")
    error = refusal(request({"masks": {"cat": png(BOX), "dog": mask}}, classes=("cat", "dog")))
    assert (error.code, error.field) == (code, "examples.0.masks.dog")


BAD_LABELS = [
    ("not base64!", Code.MASK_NOT_AN_IMAGE),
    (damaged(), Code.MASK_NOT_AN_IMAGE),
    (bomb(), Code.IMAGE_TOO_LARGE),
    (png(BOX, "RGB"), Code.MASK_UNREADABLE),
    (png(BOX, "1"), Code.MASK_UNREADABLE),
    (png(BOX, "I;16"), Code.MASK_UNREADABLE),
    (png(BOX.astype(np.uint8) * 3), Code.MASK_UNREADABLE),
    (png(BOX.astype(np.uint8) * 254), Code.MASK_UNREADABLE),
    (png(NONE.astype(np.uint8)), Code.MASK_EMPTY),
    (png(ALL.astype(np.uint8) * IGNORE), Code.MASK_EMPTY),
    (png(np.where(BOX, 0, IGNORE).astype(np.uint8)), Code.MASK_EMPTY),
    (png(np.where(BOX, 2, IGNORE).astype(np.uint8)), Code.MASK_FULL),
]


@pytest.mark.parametrize(("data", "code"), BAD_LABELS, ids=range(len(BAD_LABELS)))
def test_bad_labels_are_refused_by_their_path(data: str, code: Code) -> None:
    error = refusal(request({"labels": data}, classes=("cat", "dog")))
    assert (error.code, error.field) == (code, "examples.0.labels")


def test_a_class_that_no_example_has_is_refused_by_its_name() -> None:
    error = refusal(request({"masks": {"cat": png(BOX)}}, {"masks": {"cat": png(BOX)}}, classes=("cat", "dog")))
    assert (error.code, error.field, error.value) == (Code.MASK_EMPTY, "classes.1", "dog")


def test_of_long_text_that_is_no_base64_the_beginning_is_quoted() -> None:
    assert refusal(request({"mask": "!" * 1000})).value == "!" * 40


def test_masks_that_leave_nothing_are_refused() -> None:
    error = refusal(request({"masks": {"cat": png(BOX), "dog": png(BOX)}}, classes=("cat", "dog")))
    assert (error.code, error.field) == (Code.MASK_EMPTY, "examples.0")
    error = refusal(request({"masks": {"cat": png(BOX), "dog": png(~BOX)}}, classes=("cat", "dog")))
    assert (error.code, error.field) == (Code.MASK_FULL, "examples")
