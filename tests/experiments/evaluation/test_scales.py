import pytest

from experiments.evaluation.scales import FULL
from experiments.evaluation.settings import OF, POINTS, available, generated, grids_of, selected
from experiments.evaluation.targets import AGAINST_ALL
from ovam.core.selection import Positions, Span


@pytest.mark.parametrize(
    ("selection", "point", "evaluations", "expected"),
    [
        ("single", 15, 30, 15),
        ("single", 15, 50, 25),
        ("single", 29, 10, 9),
        ("first", 10, 15, Span(stop=5)),
        ("first", 1, 10, Span(stop=1)),
        ("last", 6, 50, Span(start=-10)),
    ],
)
def test_a_point_of_thirty_is_the_same_fraction_of_other_numbers(
    selection: str, point: int, evaluations: int, expected: Positions
) -> None:
    assert selected(selection, point, evaluations) == expected


def test_a_single_evaluation_is_always_one_of_those_there_are() -> None:
    assert all(0 <= selected("single", point, count) < count for point in POINTS["single"] for count in (1, 7, OF, 100))


def test_combinations_of_resolutions_are_the_papers_and_fit_models_with_fewer() -> None:
    assert grids_of((64, 32, 16)) == [(64,), (32,), (16,), (64, 32), (64, 16), (32, 16)]
    assert grids_of((64, 32)) == [(64,), (32,)]


def test_the_full_scale_leaves_nothing_out() -> None:
    settings = generated((16, 8))
    networks = {setting.method.network for setting in settings} - {None}
    assert len(networks) == 3
    assert available(settings, FULL.targets, networks) == settings
    assert {setting.method.network for setting in available(settings, FULL.targets, ())} == {None}


def test_other_targets_are_not_looked_for() -> None:
    settings = available(generated((16, 8)), ("words", AGAINST_ALL), ())
    assert {one.target for one in settings} == {"words", AGAINST_ALL}
