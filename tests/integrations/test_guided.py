"""The part of a mask that a person points at."""

import numpy as np
import pytest

from service.integrations.guided import Place, guided, place

LEFT, RIGHT = np.zeros((8, 12), np.bool_), np.zeros((8, 12), np.bool_)
LEFT[1:4, 1:4] = True
RIGHT[4:7, 7:11] = True
BOTH = LEFT | RIGHT
COLD = np.zeros((8, 12), np.float32)


def point(x: int, y: int, *, wanted: bool = True) -> Place:
    return Place((x, y, 1, 1), wanted)


def test_a_point_chooses_its_region() -> None:
    assert np.array_equal(guided(BOTH, COLD, [point(2, 2)]), LEFT)
    assert np.array_equal(guided(BOTH, COLD, [point(2, 2), point(8, 5)]), BOTH)


def test_a_point_where_nothing_is_takes_its_region_away() -> None:
    assert np.array_equal(guided(BOTH, COLD, [point(2, 2), point(8, 5), point(1, 1, wanted=False)]), RIGHT)
    assert not guided(BOTH, COLD, [point(2, 2), point(3, 3, wanted=False)]).any()
    assert np.array_equal(guided(BOTH, COLD, [point(1, 1, wanted=False)]), RIGHT)
    assert not guided(np.zeros_like(BOTH), COLD, [point(1, 1, wanted=False)]).any()


def test_a_box_cuts_what_is_outside_it() -> None:
    expected = RIGHT.copy()
    expected[:, 9:] = False
    assert np.array_equal(guided(BOTH, COLD, [Place((5, 0, 4, 8))]), expected)


def test_beside_every_region_the_heat_there_decides() -> None:
    heat = COLD.copy()
    heat[0, 6:10] = 0.2, 0.3, 0.4, 0.1
    heat[7, 0] = 0.9  # as hot, and elsewhere
    expected = np.zeros_like(BOTH)
    expected[0, 6:9] = True
    assert np.array_equal(guided(BOTH, heat, [Place((8, 0, 3, 1))]), expected & (np.arange(12) >= 8))
    assert np.array_equal(guided(BOTH, heat, [point(8, 0)]), expected)


def test_where_there_is_no_heat_there_is_nothing() -> None:
    assert not guided(BOTH, COLD, [point(11, 0)]).any()


@pytest.mark.parametrize(
    ("given", "box"),
    [
        ((0.0, 0.0, 0.0, 0.0), (0, 0, 1, 1)),
        ((1.0, 1.0, 0.0, 0.0), (11, 7, 1, 1)),
        ((0.99, 0.5, 0.0, 0.0), (11, 4, 1, 1)),
        ((0.25, 0.5, 0.5, 0.25), (3, 4, 6, 2)),
        ((-0.5, 0.9, 3.0, 3.0), (0, 7, 12, 1)),
    ],
)
def test_a_place_is_inside_the_image(given: tuple[float, float, float, float], box: tuple[int, int, int, int]) -> None:
    found = place(*given, (8, 12))
    assert found.box == box
    assert found.is_point == (box[2:] == (1, 1))
