"""COCO forms give back the very mask, however thin it is."""

import json

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pycocotools import mask as pycocotools

from ovam import coco
from ovam.errors import InvalidArgumentError

ANY_MASK = arrays.arrays(np.bool_, st.tuples(st.integers(1, 12), st.integers(1, 12)))


def mask_of(*rows: str) -> np.ndarray:
    return np.array([[letter == "#" for letter in row] for row in rows])


ONE_PIXEL = mask_of("....", ".#..", "....")
RING_WITH_ISLAND = mask_of("#####", "#...#", "#.#.#", "#...#", "#####")
TWO_HOLES = mask_of("#######", "#.#.#.#", "#######")
DIAGONAL = mask_of("#..", ".#.", "..#")
CHECKERS = mask_of("#.#.", ".#.#", "#.#.")


@settings(deadline=None)
@given(ANY_MASK)
def test_run_lengths_give_the_mask_back_through_json(mask: np.ndarray) -> None:
    encoded = json.loads(json.dumps(coco.encode_run_lengths(mask)))
    assert encoded["size"] == list(mask.shape)
    assert np.array_equal(coco.decode_run_lengths(encoded), mask)


# pycocotools 2.0.11 decodes into an array by a protocol that NumPy 2 deprecates.
by_pycocotools = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")


@by_pycocotools
@settings(deadline=None)
@given(ANY_MASK)
def test_pycocotools_reads_the_same_mask_area_and_box(mask: np.ndarray) -> None:
    encoded = coco.encode_run_lengths(mask)
    assert np.array_equal(pycocotools.decode(encoded), mask)
    assert pycocotools.area(encoded) == coco.area(mask)
    if mask.any():
        assert pycocotools.toBbox(encoded).tolist() == list(coco.bounding_box(mask))


@by_pycocotools
@settings(deadline=None)
@given(ANY_MASK)
def test_pycocotools_fills_the_polygons_alike(mask: np.ndarray) -> None:
    outlines = coco.polygons(mask)
    if outlines:
        union = pycocotools.merge(pycocotools.frPyObjects(outlines, *mask.shape))
        assert np.array_equal(pycocotools.decode(union), coco.fill_polygons(outlines, mask.shape))


@settings(deadline=None)
@given(st.integers(1, 9000), st.lists(st.integers(0, 9000), min_size=1, max_size=9))
def test_long_runs_are_read_as_they_were_written(width: int, lengths: list[int]) -> None:
    inside = np.arange(len(lengths)) % 2 == 1
    mask = np.concatenate([inside.repeat(lengths), np.zeros(width, dtype=np.bool_)])[:, None]
    assert np.array_equal(coco.decode_run_lengths(coco.encode_run_lengths(mask)), mask)


def test_plain_run_lengths_are_read_down_the_columns() -> None:
    mask = coco.decode_run_lengths({"size": [2, 3], "counts": [1, 3, 2]})
    assert np.array_equal(mask, mask_of(".#.", "##."))


@pytest.mark.parametrize(
    ("size", "counts"),
    [
        ([2, 3], "0"),
        ([2, 3], "05"),
        ([2, 3], "\x00"),
        ([2, 3], "o"),
        ([2, 3], "oooooooooooooooooooooooo1"),
        ([2, 3], [7]),
        ([2, 3], [8, -2]),
        ([2, 3], [6, -1 << 80]),
        ([2, 3], "\ud800"),
        ([2, 3], b"\xff"),
        ([1 << 20, 1 << 20], "0"),
        ([-2, -3], [6]),
    ],
)
def test_run_lengths_that_do_not_fill_the_mask_are_refused(size: list[int], counts: str | list[int]) -> None:
    with pytest.raises(InvalidArgumentError):
        coco.decode_run_lengths({"size": size, "counts": counts})


@settings(deadline=None)
@given(ANY_MASK)
@example(ONE_PIXEL)
@example(RING_WITH_ISLAND)
@example(TWO_HOLES)
@example(DIAGONAL)
@example(CHECKERS)
@example(np.ones((1, 9), dtype=np.bool_))
@example(np.ones((9, 1), dtype=np.bool_))
def test_polygons_give_the_mask_back(mask: np.ndarray) -> None:
    assert np.array_equal(coco.fill_polygons(coco.polygons(mask), mask.shape), mask)


def test_polygons_of_a_large_mask_with_holes_give_it_back() -> None:
    rows, columns = np.mgrid[:97, :131]
    mask = np.hypot(rows - 40, columns - 70) % 17 < 9
    assert np.array_equal(coco.fill_polygons(coco.polygons(mask), mask.shape), mask)


def test_a_pixel_is_a_square_with_an_area() -> None:
    (square,) = coco.polygons(ONE_PIXEL)
    corners = set(zip(square[::2], square[1::2], strict=True))
    assert corners == {(1.0, 1.0), (2.0, 1.0), (2.0, 2.0), (1.0, 2.0)}


def test_a_rectangle_has_four_corners() -> None:
    mask = np.zeros((20, 30), dtype=np.bool_)
    mask[5:15, 3:28] = True
    assert [len(outline) for outline in coco.polygons(mask)] == [8]


def test_an_empty_mask_has_no_polygon_no_box_and_no_area() -> None:
    empty = np.zeros((4, 6), dtype=np.bool_)
    assert coco.polygons(empty) == []
    assert coco.bounding_box(empty) == (0, 0, 0, 0)
    assert coco.area(empty) == 0
    assert not coco.fill_polygons([], (4, 6)).any()


def test_the_box_is_x_y_width_height() -> None:
    mask = np.zeros((20, 30), dtype=np.bool_)
    mask[5:15, 3:28] = True
    assert coco.bounding_box(mask) == (3, 5, 25, 10)
    assert coco.area(mask) == 250


@pytest.mark.parametrize("outline", [[0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 3.0, 0.0, 3.0, 3.0, 0.0]])
def test_a_polygon_of_two_corners_or_of_half_a_corner_is_refused(outline: list[float]) -> None:
    with pytest.raises(InvalidArgumentError, match="three corners"):
        coco.fill_polygons([outline], (4, 4))


def test_text_is_read_up_to_the_last_of_cocos_characters_and_the_longest_run_of_a_mask() -> None:
    assert coco.lengths_of("PPPPP2").tolist() == [1 << 26]
    for letter in [*map(chr, range(ord("0"))), *map(chr, range(ord("o") + 1, 300))]:
        with pytest.raises(InvalidArgumentError, match=r"^counts is "):
            coco.lengths_of(f"{letter}1")


def test_run_lengths_that_add_up_but_go_back_are_refused() -> None:
    assert coco.lengths_of("5O").tolist() == [5, -1]
    with pytest.raises(InvalidArgumentError, match="none negative"):
        coco.decode_run_lengths({"size": [2, 2], "counts": "5O"})


def test_masks_of_too_many_pixels_and_numbers_of_too_many_digits_are_refused() -> None:
    for size in ([2, (1 << 25) + 1], [-1, 4], [-2, -2]):
        with pytest.raises(InvalidArgumentError, match=r"^size is .*67108864 pixels at most"):
            coco.decode_run_lengths({"size": size, "counts": [4]})
    with pytest.raises(InvalidArgumentError, match="of 6 digits at most"):
        coco.lengths_of("PPPPPP0")
