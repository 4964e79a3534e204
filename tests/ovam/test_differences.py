"""Differences of heat and changes of pixels: laws, and numbers that can be counted."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ovam.core.differences import changed, difference, diverging
from ovam.errors import InvalidArgumentError

HEAT = np.array([[0.0, 0.5], [1.0, 0.25]])
HEATS = arrays(np.float32, (3, 4), elements=st.floats(0, 1, width=32))


@given(HEATS, HEATS)
def test_a_difference_changes_its_sign_the_other_way_round_and_is_nothing_from_itself(one: np.ndarray, other: np.ndarray) -> None:
    there, back = difference(one, other, one > 0.5, other > 0.5), difference(other, one, other > 0.5, one > 0.5)
    assert (there.heat == -back.heat).all()
    assert (there.total, there.iou) == (back.total, back.iou)
    for here, again in ((there.inside, back.inside), (there.outside, back.outside)):
        assert here is None if again is None else here == -again
    itself = difference(one, one, one > 0.5, one > 0.5)
    assert not itself.heat.any()
    assert (itself.total, itself.iou) == (0, 1)
    assert not {itself.inside, itself.outside} - {0.0, None}


def test_what_is_inside_is_what_either_mask_marks() -> None:
    found = difference(HEAT, HEAT[::-1], HEAT > 0.9, HEAT[::-1] > 0.9)
    assert found.heat.tolist() == [[-1.0, 0.25], [1.0, -0.25]]
    assert (found.inside, found.outside, found.total, found.iou) == (0.0, 0.0, 0.625, 0.0)
    with pytest.raises(InvalidArgumentError, match="other"):
        difference(HEAT, HEAT[:1], HEAT > 0, HEAT[:1] > 0)


def test_no_difference_is_white_and_the_largest_of_either_sign_is_darkest() -> None:
    assert (diverging(np.zeros((2, 3))) == 255).all()
    red, blue = diverging(np.array([[0.5, -0.25]]))[0].astype(int)
    assert red.tolist() == [178, 24, 43]
    assert blue[2] > blue[1] > blue[0] > 33


def test_a_change_is_measured_in_the_mask_and_outside() -> None:
    before, after = np.zeros((2, 2, 3), np.uint8), np.zeros((2, 2, 3), np.uint8)
    after[0, 0], after[1, 1] = 255, (0, 0, 153)
    found = changed(before, after, np.array([[True, True], [False, False]]))
    assert found.size == pytest.approx(np.array([[1, 0], [0, 0.2]]))
    assert (found.inside, found.outside) == (0.5, pytest.approx(0.1))
    nothing = changed(before, before, np.ones((2, 2), bool))
    assert (nothing.inside, nothing.outside) == (0.0, None)
    for other, mask in ((after[:1], np.ones((2, 2), bool)), (after, np.ones((2, 3), bool))):
        with pytest.raises(InvalidArgumentError, match="after"):
            changed(before, other, mask)
