"""Methods are settings: complete, checked, and written as plain data."""

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

import ovam
from ovam.core.crf import CrfParameters
from ovam.core.methods import ByAffinity, ByAttention, ByBoth, Method, NoRefinement
from ovam.core.schedules import Constant, Cosine, Step, decay
from ovam.core.selection import Span
from ovam.core.thresholds import Absolute, Otsu, Share
from ovam.errors import InvalidArgumentError, UnknownMethodError

JSON = TypeAdapter(Method)


def test_the_published_settings_are_those_of_the_paper() -> None:
    ovam_, daam, attn2mask = (ovam.METHODS[name] for name in ("ovam", "daam", "attn2mask"))
    assert ovam_.words == Method(threshold=Share(0.4), refine=ByAttention(0.85), crf=CrfParameters(10.0, 80.0, 13.0, 3.0, 3.0, 5))
    assert ovam_.tokens == Method(
        threshold=Share(0.8), refine=ByAttention(0.95), crf=CrfParameters(10.0, 80.0, 13.0, 3.0, 3.0, 5)
    )
    assert (daam.words, daam.tokens) == (Method(threshold=Share(0.4)), Method(threshold=Share(0.8)))
    for method, tau in ((attn2mask.words, 0.4), (attn2mask.tokens, 0.6)):
        expected = Method(evaluations=0.5, threshold=method.threshold, crf=CrfParameters())
        assert (method, method.threshold.normalize) == (expected, "minmax")
        assert method.threshold.tau == pytest.approx(tau)
    plain = Method("all", "all", "all", None, "none", "mean", NoRefinement(), Share(0.4, "max"), None, 0, fill_holes=False)
    assert Method() == plain
    assert (ByAttention(), ByAffinity(), ByBoth()) == (ByAttention(0.85, 1), ByAffinity(1), ByBoth(1, 0.85, 1))
    assert daam.of("words") is daam.words
    assert daam.of("tokens") is daam.tokens


@pytest.mark.parametrize(("name", "close"), [("ovam-words", "ovam"), ("DAAM", "daam"), ("attn2msk", "attn2mask")])
def test_an_unknown_method_is_refused_with_a_suggestion(name: str, close: str) -> None:
    with pytest.raises(
        UnknownMethodError, match=rf"method is '{name}'; allowed: ovam, daam, attn2mask, .*did you mean '{close}'"
    ):
        ovam.METHODS[name]
    with pytest.raises(
        UnknownMethodError, match=r"allowed: ovam, daam, attn2mask, grounded-diffusion, datasetdm, datasetdm-published$"
    ):
        ovam.METHODS["sam"]
    assert name not in ovam.METHODS
    assert list(ovam.METHODS) == ["ovam", "daam", "attn2mask", "grounded-diffusion", "datasetdm", "datasetdm-published"]
    assert len(ovam.METHODS) == 6


POSITIONS = st.one_of(
    st.just("all"),
    st.integers(-9, 9),
    st.floats(0, 0.99),
    st.lists(st.integers(-9, 9), min_size=1, max_size=4),
    st.builds(Span, st.none() | st.integers(-9, 9), st.none() | st.integers(-9, 9), st.none() | st.integers(1, 3)),
)
ANY_SETTINGS = st.fixed_dictionaries(
    {
        "blocks": st.one_of(
            st.just("all"), st.just("up"), st.integers(1, 64), st.lists(st.sampled_from(["down", 16]), min_size=1)
        ),
        "evaluations": POSITIONS,
        "heads": POSITIONS,
        "padding": st.sampled_from(["none", "max_length"]),
        "reduction": st.sampled_from(["mean", "sum"]),
        "refine": st.one_of(
            st.builds(NoRefinement),
            st.builds(ByAttention, st.floats(0, 1), st.sampled_from([1, -1])),
            st.builds(ByAffinity, st.integers(1, 4)),
            st.builds(ByBoth, st.integers(1, 4), st.floats(0, 1), st.sampled_from([1, -1])),
        ),
        "threshold": st.one_of(
            st.builds(Share, st.floats(0.01, 1), st.sampled_from(["max", "minmax"])),
            st.builds(Absolute, st.floats(0, 9)),
            st.builds(Otsu),
        ),
        "crf": st.none() | st.builds(CrfParameters, iterations=st.integers(1, 9)),
        "minimum_area": st.integers(0, 99),
        "fill_holes": st.booleans(),
    }
)


@given(ANY_SETTINGS)
def test_a_method_comes_back_from_json(settings: dict[str, Any]) -> None:
    method = Method(**settings)
    again = JSON.validate_json(JSON.dump_json(method))
    assert again == method
    assert hash(again) == hash(method)


def test_a_list_is_kept_as_what_can_be_compared() -> None:
    for name, selection in (("evaluations", [0, 1]), ("heads", [0, 1]), ("blocks", ["up"])):
        assert Method(**{name: selection}) == Method(**{name: tuple(selection)})


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: Share(1.5), "tau"),
        (lambda: Share(0.0), "tau"),
        (lambda: Share(float("nan")), "tau"),
        (lambda: Absolute(-1.0), "level"),
        (lambda: Absolute(float("inf")), "level"),
        (lambda: ByAttention(1.1), "alpha"),
        (lambda: ByAffinity(5), "steps"),
        (lambda: ByAffinity(0), "steps"),
        (lambda: CrfParameters(iterations=0), "iterations"),
        (lambda: CrfParameters(iterations=101), "iterations"),
        (lambda: CrfParameters(bilateral_colour=0.0), "bilateral_colour"),
        (lambda: CrfParameters(bilateral_colour=255.5), "bilateral_colour"),
        (lambda: CrfParameters(bilateral_weight=-0.1), "bilateral_weight"),
        (lambda: Span(step=0), "step"),
        (lambda: Span(step=-1), "step"),
        (lambda: Method(minimum_area=-1), "minimum_area"),
        (lambda: Step(every=0), "every"),
        (lambda: Step(factor=0.0), "factor"),
        (lambda: Cosine(floor=-0.1), "floor"),
    ],
)
def test_a_setting_that_is_not_allowed_is_named(make: Any, field: str) -> None:
    with pytest.raises(InvalidArgumentError, match=rf"^{field} is .*; allowed: ") as caught:
        make()
    assert caught.value.field == field


def test_the_ends_of_a_range_are_allowed_where_they_mean_something() -> None:
    off, most = CrfParameters(0.0, 1000.0, 255.0, 0.0, 1000.0, 100), CrfParameters(1000.0, 0.1, 0.1, 1000.0, 0.1, 1)
    assert (off.bilateral_weight, off.gaussian_weight, most.iterations) == (0, 0, 1)
    assert [Share(1.0).tau, Absolute(0.0).level, ByAffinity(4).steps, Step(1, 1.0).factor, Span(step=1).step] == [1, 0, 4, 1, 1]
    assert [ByAttention(0.0).alpha, ByAttention(1.0).alpha, Cosine(0.0).floor, Cosine(1.0).floor] == [0, 1, 0, 1]


def test_what_a_method_needs_follows_from_its_refinement() -> None:
    plain, attention, affinity, both = (
        Method(refine=refine) for refine in (NoRefinement(), ByAttention(0.3, -1), ByAffinity(2), ByBoth(3, 0.4))
    )
    assert [one.needs_self_attention for one in (plain, attention, affinity, both)] == [False, True, True, True]
    assert [one.affinity_steps for one in (plain, attention, affinity, both)] == [0, 0, 2, 3]
    assert [one.weights for one in (plain, attention, affinity, both)] == [None, (0.3, -1), None, (0.4, 1)]


def test_a_setting_is_replaced_whole() -> None:
    changed = dataclasses.replace(ovam.METHODS["attn2mask"].words, threshold=Share(0.2))
    assert (changed.threshold.normalize, changed.evaluations) == ("max", 0.5)


def test_learning_rates_fall_as_their_schedule_says() -> None:
    assert [decay(Constant(), epoch, 10) for epoch in (0, 9)] == [1.0, 1.0]
    assert [decay(Step(3, 0.5), epoch, 10) for epoch in (0, 2, 3, 6, 9)] == [1, 1, 0.5, 0.25, 0.125]
    assert [decay(Cosine(0.2), epoch, 11) for epoch in (0, 5, 10)] == pytest.approx([1, 0.6, 0.2])
    assert decay(Cosine(), 0, 1) == 1
    assert (Step().every, Step().factor) == (120, 0.7)  # the authors' script
