"""What a target's settings come to, and when they are refused."""

from dataclasses import asdict, dataclass, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from contracts.rules.targets import (
    MOST_CRF_UPDATES,
    check_aggregation,
    check_crf,
    check_embedding,
    check_method,
    check_network,
    method_of,
)
from contracts.schema.attribute import AttributeRequest
from contracts.schema.errors import Code, ServiceError
from contracts.schema.fields import Keep
from contracts.schema.images import BlockInfo, ImagesResult
from contracts.schema.methods import Settings
from contracts.schema.models import BestMethod, ModelCard
from ovam.core.crf import CrfParameters
from ovam.core.methods import METHODS, ByAffinity, ByAttention, Method, NoRefinement
from ovam.core.thresholds import Absolute, Otsu, Share

MODEL = ModelCard(
    name="tiny", source="x", family="sd1", text_width=2, max_tokens=77, default_height=8, default_width=8, size_multiple=8,
    default_guidance_scale=1.0,
)  # fmt: skip
MINMAX = {"kind": "share", "tau": 0.5, "normalize": "minmax"}
OWN_BEST = {
    "word_defaults": {"settings": {"refine": {"kind": "affinity"}, "threshold": MINMAX, "crf": None}},
    "token_defaults": {"method": "daam", "settings": {"threshold": {"kind": "otsu"}}},
}
BUNDLED = ModelCard.model_validate(MODEL.model_dump() | OWN_BEST)
CAT, LEARNED = {"word": "cat"}, {"token": "cat@1"}


def asked(*targets: dict[str, Any], **options: Any) -> AttributeRequest:
    return AttributeRequest(job_id="0" * 26, targets=targets or [CAT], **options)


def chosen(
    model: ModelCard = BUNDLED, *, own: dict[str, Any] | None = None, kept: bool = True, **options: Any
) -> tuple[str, Method]:
    """The method of a word, in a request with some options, and with some settings of its own."""
    return method_of(asked(CAT | {"settings": own}, **options), 0, model, self_attention=kept)


def test_without_a_method_the_models_best_one_for_the_kind_of_target_is_taken() -> None:
    assert chosen() == ("ovam", Method(refine=ByAffinity(), threshold=Share(0.5, "minmax")))
    request = asked(LEARNED, {"label": "row", "embedding": [[0.0, 1.0]] * 2})
    for number in (0, 1):
        found = method_of(request, number, BUNDLED, self_attention=True)
        assert found == ("daam", replace(METHODS["daam"].tokens, threshold=Otsu()))
    assert chosen(MODEL) == ("ovam", METHODS["ovam"].words)


@pytest.mark.parametrize("name", METHODS)
def test_a_method_that_is_named_is_taken_as_published_whatever_the_model_prefers(name: str) -> None:
    assert chosen(method=name) == (name, METHODS[name].words)
    assert method_of(asked(LEARNED, method=name), 0, BUNDLED, self_attention=True) == (name, METHODS[name].tokens)


def test_the_target_wins_over_the_request_and_the_request_over_the_model() -> None:
    threshold = {"kind": "absolute", "level": 0.2}
    _, found = chosen(settings={"threshold": threshold, "heads": 1, "fill_holes": True}, own={"heads": 2})
    assert (found.threshold, found.heads, found.fill_holes, found.refine) == (Absolute(0.2), 2, True, ByAffinity())


def test_a_setting_that_is_given_replaces_the_methods_whole() -> None:
    _, found = chosen(method="attn2mask", settings={"threshold": {"kind": "share", "tau": 0.9}, "crf": {"iterations": 2}})
    assert found.threshold == Share(0.9, "max")
    assert found.crf == CrfParameters(iterations=2)
    _, found = chosen(method="ovam", own={"refine": {"kind": "attention", "sign": -1}})
    assert found.refine == ByAttention(0.85, -1)


def test_null_takes_the_crf_away_and_leaves_other_settings_as_they_are() -> None:
    _, found = chosen(method="ovam", settings={"crf": None, "refine": None, "threshold": None})
    assert found == replace(METHODS["ovam"].words, crf=None)
    _, found = chosen(method="ovam", settings={"crf": None}, own={"crf": {}})
    assert found.crf == CrfParameters()


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"method": "ovam"}, "method"),
        ({"settings": {"refine": {"kind": "both"}}}, "settings.refine"),
        ({"own": {"refine": {"kind": "affinity"}}}, "targets.0.settings.refine"),
        ({"settings": {"refine": {"kind": "none"}}, "own": {"refine": {"kind": "affinity"}}}, "targets.0.settings.refine"),
        ({"method": "daam", "settings": {"refine": {"kind": "affinity"}}}, "settings.refine"),
    ],
)
def test_a_refinement_that_was_asked_for_is_refused_where_no_self_attention_was_kept(options: dict, field: str) -> None:
    assert chosen(**options)[1].needs_self_attention
    with pytest.raises(ServiceError, match=r"which job 0+ did not keep.*\"self_attention\": true") as error:
        chosen(kept=False, **options)
    assert (error.value.code, error.value.field) == (Code.NO_SELF_ATTENTION, field)


def test_each_target_is_asked_about_its_own_settings() -> None:
    request = asked(CAT, CAT | {"settings": {"refine": {"kind": "affinity"}, "heads": 7}})
    assert method_of(request, 0, BUNDLED, self_attention=False)[1].refine == NoRefinement()
    with pytest.raises(ServiceError) as error:
        method_of(request, 1, BUNDLED, self_attention=False)
    assert error.value.field == "targets.1.settings.refine"
    with pytest.raises(ServiceError) as error:
        check_method(request, 1, method_of(request, 1, BUNDLED, self_attention=True)[1], IMAGES, BUNDLED)
    assert error.value.field == "targets.1.settings.heads"
    check_method(request, 0, method_of(request, 0, BUNDLED, self_attention=True)[1], IMAGES, BUNDLED)


def test_a_refinement_that_nobody_asked_for_is_left_out_where_no_self_attention_was_kept() -> None:
    assert chosen(kept=False) == ("ovam", Method(refine=NoRefinement(), threshold=Share(0.5, "minmax")))
    assert chosen(kept=False, settings={"refine": {"kind": "none"}})[1].refine == NoRefinement()
    assert chosen(kept=False, method="daam") == ("daam", METHODS["daam"].words)


IMAGES = ImagesResult.model_construct(evaluations=3, blocks=[BlockInfo(name="up.attn2", grid=(8, 8), heads=2)])


@pytest.mark.parametrize("name", ["blocks", "evaluations", "heads"])
def test_a_selection_of_what_is_not_there_is_refused_where_it_was_made(name: str) -> None:
    wrong = {"blocks": ["down"], "evaluations": 3, "heads": [0, 2]}[name]
    for request, field in (
        (asked(CAT | {"settings": {name: wrong}}), f"targets.0.settings.{name}"),
        (asked(settings={name: wrong}), f"settings.{name}"),
    ):
        with pytest.raises(ServiceError, match=rf"^{field} is ") as error:
            check_method(request, 0, method_of(request, 0, MODEL, self_attention=True)[1], IMAGES, MODEL)
        assert (error.value.code, error.value.field) == (Code.SELECTION_INVALID, field)
    best = MODEL.model_copy(update={"word_defaults": BestMethod(settings={name: wrong})})
    with pytest.raises(ServiceError) as error:
        check_method(asked(), 0, method_of(asked(), 0, best, self_attention=True)[1], IMAGES, best)
    assert error.value.field == f"settings.{name}"
    check_method(asked(), 0, method_of(asked(), 0, MODEL, self_attention=True)[1], IMAGES, MODEL)


OPTIONS = {
    "padding": st.sampled_from(["none", "max_length"]),
    "blocks": st.sampled_from(["all", ["up"], [8, "down"]]),
    "evaluations": st.sampled_from(["all", 0.5, 3, {"stop": 2}, [0, -1], {}]),
    "refine": st.sampled_from([None, {"kind": "none"}, {"kind": "attention", "alpha": 0.3}, {"kind": "both", "steps": 2}]),
    "threshold": st.sampled_from([None, {"kind": "share", "tau": 0.7}, {"kind": "absolute", "level": 2}, {"kind": "otsu"}]),
    "crf": st.sampled_from([None, {}, {"iterations": 1}]),
    "minimum_area": st.just(9),
    "fill_holes": st.booleans(),
}
SOME = st.fixed_dictionaries({}, optional=OPTIONS)


@given(best=SOME, request=SOME, own=SOME, other=SOME, method=st.sampled_from([None, *METHODS]), kept=st.booleans())
def test_settings_sent_again_come_to_the_same_whatever_the_model_prefers(
    *, best: dict, request: dict, own: dict, other: dict, method: str | None, kept: bool
) -> None:
    """The law that a result can be made again from what it says of itself."""
    model = MODEL.model_copy(update={"word_defaults": BestMethod(settings=Settings(**best))})
    try:
        _, found = chosen(model, own=own, kept=kept, method=method, settings=request)
    except ServiceError:
        return
    assert kept or not found.needs_self_attention
    elsewhere = MODEL.model_copy(update={"word_defaults": BestMethod(method="attn2mask", settings=Settings(**other))})
    again = asdict(found)
    for options in ({"settings": again}, {"own": again}, {"settings": request, "own": again}):
        assert chosen(elsewhere, kept=kept, **options)[1] == found


@given(SOME)
def test_settings_that_are_written_and_read_again_change_the_same(options: dict) -> None:
    settings = Settings(**options)
    again = Settings.model_validate_json(settings.model_dump_json())
    assert again.changes() == settings.changes()


@pytest.mark.parametrize("rows", [[[1.0, 2.0, 3.0]], [[]]])
def test_an_embedding_of_another_width_is_refused_with_both(rows: list[list[float]]) -> None:
    with pytest.raises(ServiceError, match=rf"rows of {len(rows[0])} numbers; allowed for model 'tiny': 2") as error:
        check_embedding(rows, MODEL, field="embedding")
    assert error.value.code is Code.EMBEDDING_OF_OTHER_WIDTH


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 3.5e38, -1e300])
def test_an_embedding_that_single_precision_cannot_hold_is_refused(value: float) -> None:
    check_embedding([[3.4e38, 0.0]], MODEL, field="embedding")
    with pytest.raises(ServiceError, match="single precision") as error:
        check_embedding([[0.0, 1.0], [value, 0.0]], MODEL, field="embedding")
    assert error.value.code is Code.EMBEDDING_NOT_FINITE


@pytest.mark.parametrize(("targets", "side", "iterations", "own"), [(64, 512, 5, 5), (16, 1024, 5, 5), (3, 1024, 70, 70)])
def test_the_dense_crfs_of_a_request_are_bounded_together(targets: int, side: int, iterations: int, own: int) -> None:
    request = asked(*[CAT] * targets, settings={"crf": {"iterations": iterations}})
    images = IMAGES.model_copy(update={"height": side, "width": side})
    methods = [Method(crf=CrfParameters(iterations=iterations))] * (targets - 1)
    check_crf(request, [*methods, Method(crf=CrfParameters(iterations=own))], images)
    with pytest.raises(ServiceError, match=rf"allowed: {MOST_CRF_UPDATES / 1e6:.0f} million") as caught:
        check_crf(request, [*methods, Method(crf=CrfParameters(iterations=own + 1))], images)
    assert (caught.value.code, caught.value.field) == (Code.INVALID_ARGUMENT, "settings.crf")
    check_crf(request, [Method()] * targets, images)


def refusal(**options: Any) -> ServiceError:
    """Why a question by a trained network is refused; `images` and `model` may be others."""
    model = options.pop("model", MODEL.model_copy(update={"networks": ["grounded-diffusion"]}))
    images = Images(keep=options.pop("keep", "replay"))
    request = asked(**{"method": "grounded-diffusion"} | options)
    _, method = method_of(request, 0, model, self_attention=True)
    with pytest.raises(ServiceError) as error:
        check_network(request, 0, method, images, model)
    return error.value


@dataclass(frozen=True)
class Images:
    keep: Keep
    height: int = 8
    width: int = 8
    blocks: tuple[()] = ()
    evaluations: int = 1
    self_attention: bool = True


def test_automatic_aggregation_is_refused_where_contributions_are_not_known() -> None:
    request, method = asked(settings={"aggregation": "automatic"}), Method(aggregation="automatic")
    check_aggregation(request, 0, method, Images(keep="replay"), MODEL)
    check_aggregation(request, 0, Method(), Images(keep="queries"), MODEL)
    joint = MODEL.model_copy(update={"cannot": {"aggregation": "its pixels and text attend together"}})
    for images, model, code in (
        (Images(keep="queries"), MODEL, Code.NO_CONTRIBUTIONS),
        (Images(keep="replay"), joint, Code.SETTINGS_CONTRADICT),
    ):
        with pytest.raises(ServiceError, match="allowed: 'equal'") as error:
            check_aggregation(request, 0, method, images, model)
        assert (error.value.code, error.value.field, error.value.value) == (code, "settings.aggregation", "automatic")


def test_a_network_is_refused_where_it_cannot_answer() -> None:
    missing = refusal(model=MODEL)
    assert (missing.code, missing.field, missing.value) == (Code.NO_NETWORK, "method", "grounded-diffusion")
    assert "have: none" in missing.detail
    assert refusal(settings={"network": "else"}).field == "settings.network"
    assert refusal(keep="queries").code == Code.NO_FEATURES
    together = refusal(softmax="together")
    assert (together.code, together.field) == (Code.SETTINGS_CONTRADICT, "softmax")
    assert refusal(maps=["head"]).field == "maps"


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"method": "grounded-diffusion", "settings": {"refine": {"kind": "affinity"}}}, "settings.refine"),
        ({"method": "ovam", "settings": {"network": "else"}}, "settings.network"),
        ({"method": "ovam", "own": {"network": "else"}}, "targets.0.settings.network"),
        ({"settings": {"network": "else", "refine": {"kind": "affinity"}}}, "settings.refine"),
        ({"settings": {"network": "else"}, "own": {"aggregation": "automatic"}}, "targets.0.settings.aggregation"),
    ],
)
def test_a_network_contradicts_what_was_asked_for_beside_it(options: dict[str, Any], field: str) -> None:
    with pytest.raises(ServiceError, match="with a network") as error:
        chosen(**options)
    assert (error.value.code, error.value.field) == (Code.SETTINGS_CONTRADICT, field)
    assert error.value.value in ("else", "affinity", "automatic")


def test_a_network_goes_without_the_refinement_that_the_model_has_by_default() -> None:
    _, found = chosen(settings={"network": "else"})
    assert (found.network, found.refine) == ("else", NoRefinement())
    _, found = chosen(own={"network": "else"})
    assert (found.network, found.refine) == ("else", NoRefinement())


def test_the_name_of_a_network_is_no_path() -> None:
    with pytest.raises(ValidationError, match="network"):
        asked(settings={"network": "../elsewhere.safetensors"})


@pytest.mark.parametrize("target", [{}, CAT | LEARNED, LEARNED | {"embedding": [[0.0]]}])
def test_what_is_of_no_kind_or_of_two_is_told_which_kinds_there_are(target: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="a target takes one of `word` or `prompt`"):
        asked(target)
