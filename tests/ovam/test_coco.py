"""COCO forms give back the very mask, however thin it is."""

import json

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from ovam import coco
from ovam.errors import InvalidArgumentError

# pycocotools 2.0.11 decodes into an array by a protocol that NumPy 2 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

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


def test_a_polygon_of_two_corners_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="three corners"):
        coco.fill_polygons([[0.0, 0.0, 1.0, 1.0]], (4, 4))
