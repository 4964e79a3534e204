"""The loss curve can be read whatever the losses are."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.curves import BEST, BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, loss_curve, ticks


@given(st.floats(-1e3, 1e3), st.floats(1e-5, 1e4))
def test_an_axis_has_a_few_round_numbers_in_rising_order_all_inside(low: float, length: float) -> None:
    found = ticks(low, low + length)
    values, texts = zip(*found, strict=True)
    assert 2 <= len(found) <= 8
    assert list(values) == sorted(set(values))
    assert low - 1e-6 * length <= values[0] <= values[-1] <= low + length * (1 + 1e-6)
    step = values[1] - values[0]
    assert values[0] - step < low
    assert values[-1] + step > low + length * (1 - 1e-6)  # none is left out
    assert len(set(texts)) == len(texts)
    assert [float(text) for text in texts] == pytest.approx(list(values), abs=length * 1e-6)


@given(st.integers(1, 5000))
def test_epochs_are_whole_numbers(last: int) -> None:
    assert all(text.isdigit() for _, text in ticks(0, last, finest=1))


def near(picture: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    return np.abs(picture.astype(int) - colour).max(axis=2) < 30


@pytest.mark.parametrize("losses", [[0.5], [0.7, 0.5], [0.7, 0.7, 0.7], [0.0, 0.0], [1.4, 0.2, 0.9], [1e-9, 1e5], [0.9] * 5000])
def test_a_course_of_any_kind_is_drawn_with_its_best_epoch(losses: list[float]) -> None:
    picture = loss_curve(losses, losses.index(min(losses)))
    assert (picture.shape, picture.dtype) == ((HEIGHT, WIDTH, 3), np.uint8)
    assert near(picture, BEST).any()
    assert blue(picture).any() == (len(losses) > 1)


def blue(picture: np.ndarray) -> np.ndarray:
    """Where the curve is."""
    return picture[:, :, 2].astype(int) - picture[:, :, 0] > 50


def test_the_curve_goes_from_edge_to_edge_and_falls_where_the_loss_falls() -> None:
    picture = loss_curve([2.0, 1.0, 3.0], 1)
    rows, columns = np.nonzero(blue(picture))
    assert (columns.min(), columns.max()) == (pytest.approx(LEFT, abs=4), pytest.approx(WIDTH - RIGHT, abs=4))
    assert TOP < rows.min() < rows.max() < HEIGHT - BOTTOM
    middle = (LEFT + WIDTH - RIGHT) / 2
    assert columns[rows.argmin()] > columns.max() - 9  # the highest loss is the last
    dot_rows, dot_columns = np.nonzero(near(picture, BEST)[TOP + 9 :])  # below the sentence
    assert dot_columns.mean() == pytest.approx(middle, abs=2)
    assert dot_rows.mean() + TOP + 9 == pytest.approx(rows.max(), abs=9)
    assert rows[np.abs(columns - LEFT) < 9].mean() == pytest.approx((rows.min() + rows.max()) / 2, abs=9)


def test_the_best_epoch_is_marked_where_it_is() -> None:
    right, left = (near(loss_curve(losses, losses.index(min(losses))), BEST)[50:] for losses in ([3, 2, 1], [1, 2, 3]))
    assert np.flatnonzero(right.any(axis=0)).min() > WIDTH / 2 > np.flatnonzero(left.any(axis=0)).max()
