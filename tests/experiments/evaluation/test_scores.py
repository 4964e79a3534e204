import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.evaluation.claims import Claim, Finding
from experiments.evaluation.comparing import gains
from experiments.evaluation.scores import Interval, gain, mean_iou, resampled, score
from experiments.evaluation.settings import GRID, PLAIN, Setting
from experiments.evaluation.tuning import choices, choose

KINDS = ["car"] * 6 + ["sun"] * 6
counts = st.lists(st.tuples(st.integers(0, 50), st.integers(50, 90)), min_size=12, max_size=12).map(np.array)


def test_iou_is_pooled_over_a_classs_images_and_then_averaged_over_classes() -> None:
    miou, by_class = mean_iou(np.array([[1, 10], [9, 10], [1, 4]]), ["car", "car", "sun"])
    assert by_class == {"car": 0.5, "sun": 0.25}
    assert miou == 0.375


@given(counts)
def test_an_interval_holds_the_middle_of_its_resamples_and_stays_within_bounds(found: np.ndarray) -> None:
    miou = score(found, KINDS).miou
    assert 0 <= miou.low <= miou.high <= 1
    assert miou.low <= np.median(resampled(found, KINDS)) <= miou.high


def test_more_images_give_a_narrower_interval() -> None:
    rng = np.random.default_rng(0)
    both = rng.integers(0, 50, 400)
    found = np.stack([both, np.full(400, 50)], axis=1)
    few, many = score(found[:10], ["car"] * 10).miou, score(found, ["car"] * 400).miou
    assert many.high - many.low < (few.high - few.low) / 3


@given(counts)
def test_a_setting_gains_nothing_over_itself(found: np.ndarray) -> None:
    assert gain(found, found, KINDS) == Interval(0, 0, 0)


def test_a_constant_gain_on_the_same_images_has_a_narrow_interval_though_each_score_is_wide() -> None:
    both = np.array([5, 45] * 6)
    one = np.stack([both + 5, np.full(12, 50)], axis=1)
    other = np.stack([both, np.full(12, 50)], axis=1)
    difference = gain(one, other, KINDS)
    assert difference.low == pytest.approx(0.1)
    assert difference.high == pytest.approx(0.1)


def test_resamples_are_the_same_twice() -> None:
    found = np.array([[1, 10], [9, 10], [1, 4]] * 4)
    assert np.array_equal(resampled(found, KINDS), resampled(found, KINDS))


@pytest.mark.parametrize(
    ("paper", "low", "high", "verdict"),
    [(2.0, 0.1, 0.3, "holds"), (2.0, -0.3, -0.1, "opposite"), (-2.0, -0.3, -0.1, "holds"), (-2.0, 0.1, 0.3, "opposite"),
     (2.0, -0.1, 0.3, "not decided"), (None, 0.1, 0.2, "holds")],
)  # fmt: skip
def test_a_sign_holds_when_its_interval_is_on_the_papers_side(paper: float | None, low: float, high: float, verdict: str) -> None:
    assert Finding(Claim("4", "a", "b", "voc-sim", paper), Interval(0, low, high)).verdict == verdict


def test_the_threshold_with_the_highest_mean_over_the_tuning_sets_is_chosen() -> None:
    setting = Setting("plain", "words", PLAIN)

    def line(peak: int, best: int) -> dict[str, object]:
        values = [[best - abs(index - peak), 100] for index in range(len(GRID))]
        return {"class_name": "car", "dataset": "one", "clear": True, "counts": {setting.key: values}}

    choice = choose(setting, {"one": [line(10, 60)], "other": [line(20, 90)]})
    assert GRID[10] <= choice.tau <= GRID[20]
    assert choice.miou == pytest.approx(0.70)


def test_two_settings_are_compared_on_the_images_on_which_both_were_measured() -> None:
    lines = [
        {"class_name": "car", "counts": {"a": [[9, 10]], "b": [[5, 10]]}},
        {"class_name": "car", "counts": {"a": [[0, 10]]}},
    ]
    assert gains({"one": lines, "other": lines[1:]}, "a", "b") == {"one": Interval(0.4, 0.4, 0.4)}


def test_a_setting_that_was_not_measured_has_no_threshold() -> None:
    measured, other = Setting("plain", "words", PLAIN), Setting("plain", "tokens", PLAIN)
    line = {"class_name": "car", "dataset": "one", "clear": True, "counts": {measured.key: [[1, 2]] * len(GRID)}}
    assert choices([measured, other], [line]).keys() == {measured.key}
