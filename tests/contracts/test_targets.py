"""What a target's settings come to, and when they are refused."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.attribution import COUNTS_BESIDE, AttributeRequest, MethodCard, Settings, Target
from contracts.errors import Code, ServiceError
from contracts.models import Choice, ModelCard
from contracts.targets import Effective, check_embedding, effective
from service import examples

METHODS = {card["name"]: MethodCard.model_validate(card) for card in examples.METHODS}
MODEL = ModelCard(
    name="tiny", source="x", family="sd1", text_width=2, max_tokens=77, default_height=8, default_width=8, size_multiple=8,
    default_guidance_scale=1.0,
)  # fmt: skip
BUNDLED = MODEL.model_copy(update={"word_defaults": Choice(refine="none", crf=False, tau=0.5, normalize="minmax")})


def chosen(model: ModelCard = MODEL, *, own: dict[str, Any] | None = None, kept: bool = True, **request: Any) -> Effective:
    """The settings of a word, in a request with some settings, and with some of its own."""
    target = Target(label="x", prompt="a cat", settings=None if own is None else Settings(**own))
    return effective(AttributeRequest(job_id="0" * 26, targets=[target], **request), 0, model, METHODS, self_attention=kept)


def test_without_a_word_of_the_client_the_models_own_settings_are_taken() -> None:
    found = chosen(BUNDLED)
    assert (found.method, found.fields) == ("ovam", {})
    expected = {"refine": "none", "crf": False, "tau": 0.5, "normalize": "minmax"}
    assert {field: found.settings[field] for field in expected} == expected
    assert not {"alpha", "sign", "affinity_steps"} & set(found.settings)


def test_a_method_that_is_named_is_taken_as_published() -> None:
    found = chosen(BUNDLED, method="ovam")
    assert (found.settings["refine"], found.settings["tau"], found.settings["normalize"]) == ("attention", 0.4, "max")


def test_the_target_goes_before_the_request_and_the_request_before_the_model() -> None:
    found = chosen(BUNDLED, tau=0.2, heads=1, own={"tau": 0.9})
    assert (found.settings["tau"], found.settings["heads"], found.settings["normalize"]) == (0.9, 1, "minmax")
    assert found.fields == {"tau": "targets.0.settings.tau", "heads": "heads"}


def test_a_share_is_never_taken_for_a_level_nor_a_level_for_a_share() -> None:
    assert "normalize" not in chosen(BUNDLED, threshold="absolute", tau=0.2).settings
    with pytest.raises(ServiceError, match="threshold 'absolute' needs a `tau`") as error:
        chosen(BUNDLED, threshold="absolute")
    assert (error.value.code, error.value.field) == (Code.SETTINGS_CONTRADICT, "threshold")
    with pytest.raises(ServiceError, match="threshold 'share' needs a `tau`") as error:
        chosen(BUNDLED, threshold="absolute", tau=0.2, own={"threshold": "share"})
    assert error.value.field == "targets.0.settings.threshold"
    assert chosen(BUNDLED, threshold="otsu", own={"threshold": "share"}).settings["tau"] == 0.5


def test_what_a_later_choice_excludes_is_left_out_and_what_has_no_use_is_refused() -> None:
    assert "alpha" not in chosen(alpha=0.3, own={"refine": "none"}).settings
    assert chosen(method="daam", alpha=0.3, own={"refine": "both"}).settings["alpha"] == 0.3
    for options, field in (({"alpha": 0.3}, "alpha"), ({"own": {"affinity_steps": 2}}, "targets.0.settings.affinity_steps")):
        with pytest.raises(ServiceError, match=r"belongs to refine .* which here is 'none'") as error:
            chosen(method="daam", **options)
        assert (error.value.code, error.value.field) == (Code.SETTINGS_CONTRADICT, field)


def test_a_refinement_that_nobody_asked_for_is_left_out_where_it_cannot_be_had() -> None:
    assert chosen(kept=False).settings["refine"] == "none"
    for options, field in (
        ({"method": "ovam"}, "method"),
        ({"refine": "both"}, "refine"),
        ({"sign": -1}, "sign"),
        ({"own": {"refine": "affinity"}}, "targets.0.settings.refine"),
    ):
        with pytest.raises(ServiceError, match=r"which job 0+ did not keep") as error:
            chosen(kept=False, **options)
        assert (error.value.code, error.value.field) == (Code.NO_SELF_ATTENTION, field)


def test_a_method_that_no_worker_has_published_cannot_be_used_yet() -> None:
    request = AttributeRequest(job_id="0" * 26, targets=[Target(label="x", prompt="a cat")])
    with pytest.raises(ServiceError, match="no worker has published method 'ovam'") as error:
        effective(request, 0, MODEL, {}, self_attention=True)
    assert error.value.code is Code.NO_WORKER


OPTIONS = {
    "padding": st.sampled_from(["none", "max_length"]),
    "blocks": st.just(["up"]),
    "evaluations": st.sampled_from([0.5, 3, {"stop": 2}, {}]),
    "refine": st.sampled_from(["none", "attention", "affinity", "both"]),
    "alpha": st.just(0.3),
    "sign": st.just(-1),
    "affinity_steps": st.just(2),
    "threshold": st.sampled_from(["share", "absolute", "otsu"]),
    "tau": st.just(0.7),
    "normalize": st.sampled_from(["max", "minmax"]),
    "crf": st.booleans(),
    "fill_holes": st.booleans(),
}


def consistent(options: dict[str, Any]) -> bool:
    said = [(options[other], values) for field, (other, values) in COUNTS_BESIDE.items() if field in options and other in options]
    return all(value in values for value, values in said)


SOME = st.fixed_dictionaries({}, optional=OPTIONS).filter(consistent)


@given(card=SOME, request=SOME, own=SOME, other=SOME, method=st.sampled_from([None, *METHODS]), kept=st.booleans())
def test_settings_sent_again_come_to_the_same_whatever_the_model_prefers(
    *, card: dict, request: dict, own: dict, other: dict, method: str | None, kept: bool
) -> None:
    """The law that a result can be made again from what it says of itself."""
    model = MODEL.model_copy(update={"word_defaults": Choice(**card)})
    try:
        found = chosen(model, own=own, kept=kept, method=method, **request)
    except ServiceError:
        return
    settings = Settings.model_validate(found.settings).model_dump(exclude_none=True)
    assert kept or settings["refine"] == "none"
    elsewhere = MODEL.model_copy(update={"word_defaults": Choice(method="attn2mask", **other)})
    for options in (settings, {"own": settings}):
        assert chosen(elsewhere, kept=kept, **options).settings == found.settings


@pytest.mark.parametrize("rows", [[[1.0, 2.0, 3.0]], [[]]])
def test_an_embedding_of_another_width_is_refused_with_both(rows: list[list[float]]) -> None:
    with pytest.raises(ServiceError, match=rf"rows of {len(rows[0])} numbers; allowed for model 'tiny': 2") as error:
        check_embedding(rows, MODEL, field="embedding")
    assert error.value.code is Code.EMBEDDING_OF_OTHER_WIDTH


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e39, -1e300])
def test_an_embedding_that_single_precision_cannot_hold_is_refused(value: float) -> None:
    check_embedding([[3.4e38, 0.0]], MODEL, field="embedding")
    with pytest.raises(ServiceError, match="single precision") as error:
        check_embedding([[0.0, 1.0], [value, 0.0]], MODEL, field="embedding")
    assert error.value.code is Code.EMBEDDING_NOT_FINITE
