import pytest

from experiments.evaluation.asking import VOCABULARY
from experiments.evaluation.recipes import UNCONDITIONAL
from experiments.evaluation.scales import FULL
from experiments.evaluation.settings import OF, POINTS, answered, chosen, generated, grids_of


@pytest.mark.parametrize(
    ("selection", "point", "evaluations", "expected"),
    [
        ("single", 15, 30, 15),
        ("single", 15, 50, 25),
        ("single", 29, 10, 9),
        ("first", 10, 15, slice(5)),
        ("first", 1, 10, slice(1)),
        ("last", 6, 50, slice(-10, None)),
    ],
)
def test_a_point_of_thirty_is_the_same_share_of_other_numbers(
    selection: str, point: int, evaluations: int, expected: int | slice
) -> None:
    assert chosen(selection, point, evaluations) == expected


def test_a_single_evaluation_is_always_one_of_those_there_are() -> None:
    assert all(0 <= chosen("single", point, count) < count for point in POINTS["single"] for count in (1, 7, OF, 100))


def test_combinations_of_resolutions_are_the_papers_and_fit_models_with_fewer() -> None:
    assert grids_of((64, 32, 16)) == [(64,), (32,), (16,), (64, 32), (64, 16), (32, 16)]
    assert grids_of((64, 32)) == [(64,), (32,)]


def test_the_full_scale_leaves_nothing_out() -> None:
    settings = generated((16, 8, 4))
    assert answered(settings, FULL.asked) == settings


def test_without_tokens_of_the_unconditional_half_it_is_not_asked() -> None:
    settings = answered(generated((16, 8, 4)), ("words", VOCABULARY))
    assert {one.asked for one in settings} == {"words", VOCABULARY}
    assert {one.half for one in settings} == {"conditional"}
    assert {one.half for one in answered(generated((16, 8, 4)), ("words", UNCONDITIONAL))} == {"conditional", "unconditional"}
