"""Adapters and images of a request: found among those of its model, or refused with the reason."""

import re
from typing import Any

import pytest
from pydantic import ValidationError

from contracts.rules.adapters import adapter_of, asked_again, check_control, check_there, concepts, filled_steering, used
from contracts.rules.estimates import estimate
from contracts.schema.adapters import AdapterCard, AdapterUse, UsedAdapter
from contracts.schema.conditions import Conditions, FilledConditions, JobImage, adapters_of, pictures_in, sources_in
from contracts.schema.errors import Code, ServiceError
from contracts.schema.estimates import Estimate
from contracts.schema.images import GenerateRequest, ImagesResult
from contracts.schema.jobs import AnyJob
from tests.contracts.test_capabilities import SIZES
from tests.contracts.test_sources import RESULT
from tests.contracts.test_targets import MODEL
from tests.worker.jobs import attribution, generation, probing

WEIGHTS = {"style": "a" * 16, "toy": "b" * 16, "edges": "c" * 16, "looks": "d" * 16}
KINDS: dict[str, Any] = {"style": "lora", "toy": "textual-inversion", "edges": "controlnet", "looks": "ip-adapter"}
TOY: dict[str, dict[str, Any]] = {"toy": {"token": "<toy>", "vectors": 3}}
CARD = MODEL.model_copy(
    update={
        "adapters": [
            AdapterCard(name=name, kind=kind, weights=WEIGHTS[name], size=1, **TOY.get(name, {})) for name, kind in KINDS.items()
        ],
        "other_adapters": {"wide": "it is for another model"},
    }
)
FIRST, SECOND = JobImage(job_id="0" * 26), JobImage(job_id="0" * 26, image=1)
ANOTHER = FIRST.model_dump()
STEERED = FilledConditions.model_validate(
    {
        "image": FIRST,
        "adapters": [{"name": "style", "scale": 0.5, "kind": "lora", "weights": WEIGHTS["style"]}],
        "control": {"name": "edges", "image": SECOND, "scale": 0.7, "weights": WEIGHTS["edges"]},
        "image_prompt": {"name": "looks", "image": FIRST, "scale": 0.3, "weights": WEIGHTS["looks"]},
    }
)


def asked(**fields: Any) -> GenerateRequest:
    return GenerateRequest(prompt="a cat", **fields)


def test_an_adapter_is_used_as_it_is_and_a_word_counts_whole() -> None:
    found = used(asked(adapters=[AdapterUse(name="style", scale=-0.5), AdapterUse(name="toy")]), CARD)
    assert [(each.name, each.scale, each.kind, each.weights) for each in found] == [
        ("style", -0.5, "lora", WEIGHTS["style"]),
        ("toy", 1.0, "textual-inversion", WEIGHTS["toy"]),
    ]
    for scale in (0.5, 1.5):
        with pytest.raises(ServiceError) as caught:
            used(asked(adapters=[AdapterUse(name="style"), AdapterUse(name="toy", scale=scale)]), CARD)
        assert (caught.value.code, caught.value.field) == (Code.SETTINGS_CONTRADICT, "adapters.1.scale")


@pytest.mark.parametrize(
    ("name", "code", "why"),
    [
        ("edges", Code.ADAPTER_UNFIT, "of kind 'controlnet'; allowed here: style, toy"),
        ("wide", Code.ADAPTER_UNFIT, "cannot use: it is for another model; allowed: style, toy"),
        ("nothing", Code.UNKNOWN_ADAPTER, "allowed for model 'tiny': style, toy"),
    ],
)
def test_what_cannot_be_used_says_why_and_what_can(name: str, code: Code, why: str) -> None:
    with pytest.raises(ServiceError, match=re.escape(why)) as caught:
        adapter_of(CARD, name, ("lora", "textual-inversion"), field="adapters.0.name")
    assert (caught.value.code, caught.value.field, caught.value.value) == (code, "adapters.0.name", name)
    with pytest.raises(ServiceError, match="none, since no such adapter"):
        adapter_of(MODEL, name, ("lora",), field="adapters.0.name")


def test_a_controlnet_and_an_image_prompt_have_images_of_their_own() -> None:
    request = asked(control={"name": "edges", "image": ANOTHER, "end": 0.9}, image_prompt={"name": "looks", "image": ANOTHER})
    found = filled_steering(request, CARD, {"control.image": FIRST, "image_prompt.image": SECOND})
    assert {name: (each["image"], each["weights"]) for name, each in found.items()} == {
        "control": (FIRST, WEIGHTS["edges"]),
        "image_prompt": (SECOND, WEIGHTS["looks"]),
    }
    assert found["control"]["end"] == 0.9


@pytest.mark.parametrize("size", [(16, 8), (8, 16), (16, 16)])
def test_what_is_followed_is_of_the_size_of_what_is_drawn(size: tuple[int, int]) -> None:
    job = generation(CARD, height=8, width=24)
    check_control(job, None)
    check_control(job, (8, 24))
    with pytest.raises(ServiceError, match=f"is {size[1]} wide and {size[0]} high") as caught:
        check_control(job, size)
    assert (caught.value.code, caught.value.field) == (Code.SETTINGS_CONTRADICT, "control.image")


def test_a_later_question_needs_the_same_adapters_but_for_a_controlnet() -> None:
    uses = adapters_of(STEERED)
    assert [(each.name, each.scale, each.kind, each.weights) for each in uses] == [
        ("style", 0.5, "lora", WEIGHTS["style"]),
        ("edges", 0.7, "controlnet", WEIGHTS["edges"]),
        ("looks", 0.3, "ip-adapter", WEIGHTS["looks"]),
    ]
    images = RESULT.model_copy(update={"adapters": uses})
    assert [each.name for each in asked_again(images)] == ["style", "looks"]
    check_there(images, CARD, field="job_id")
    changed = [each.model_copy(update={"weights": "e" * 16}) for each in CARD.adapters]
    for adapters, why in ((changed, "is another file now"), ([], "is registered no more")):
        with pytest.raises(ServiceError, match=why) as caught:
            check_there(images, CARD.model_copy(update={"adapters": adapters}), field="job_id")
        assert (caught.value.code, caught.value.field) == (Code.UNKNOWN_ADAPTER, "job_id")


def test_words_of_textual_inversions_that_are_used_take_as_many_tokens_as_vectors() -> None:
    toy = UsedAdapter(name="toy", kind="textual-inversion", weights=WEIGHTS["toy"])
    assert concepts(CARD, [toy, *STEERED.adapters]) == {"<toy>": 3}
    assert concepts(CARD, STEERED.adapters) == {}


def test_adapters_cost_memory_while_they_are_loaded_and_a_controlnet_work() -> None:
    sizes = {name: 10**number for number, name in enumerate(KINDS)}

    def found(job: AnyJob, images: ImagesResult | None = None, times: int = 1) -> Estimate:
        cards = [each.model_copy(update={"size": sizes[each.name] * times}) for each in CARD.adapters]
        card = CARD.model_copy(update={"adapters": cards, "sizes": SIZES})
        cost = estimate(job, card, [] if images is None else [images])
        assert cost is not None
        return cost

    def adapters(job: AnyJob, images: ImagesResult | None = None) -> int:
        return found(job, images).memory_bytes - found(job, images, times=0).memory_bytes

    drawn = generation(CARD, num_inference_steps=4)
    steered = drawn.model_copy(update=dict(STEERED))
    assert (adapters(drawn), adapters(steered)) == (0, sizes["style"] + sizes["edges"] + sizes["looks"])
    assert found(steered).work == pytest.approx(1.4 * found(steered.model_copy(update={"control": None})).work)
    half = drawn.model_copy(update={"image": FIRST, "strength": 0.5})
    assert found(half).work == pytest.approx(found(drawn).work / 2)
    images = RESULT.model_copy(update={"adapters": adapters_of(STEERED)})
    for job in (attribution(CARD, RESULT, "0" * 26), probing(CARD, "0" * 26, prompt="a cat", words=["cat"])):
        assert adapters(job, images) == sizes["style"] + sizes["looks"]
    causal = attribution(CARD, RESULT, "0" * 26, causal={"from_evaluation": 0})
    assert adapters(causal, images) == adapters(steered)


def test_images_are_known_by_their_fields() -> None:
    found = {"image": FIRST, "control.image": SECOND, "image_prompt.image": FIRST}
    assert pictures_in(STEERED) == sources_in(STEERED) == found
    assert pictures_in(Conditions(image="QUJD")) == {"image": "QUJD"}


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"control": {"name": "edges", "image": ANOTHER, "start": 0.5, "end": 0.5}}, "`start` is 0.5; allowed: less than `end`"),
        ({"mask": [[0, 0, 4, 0, 4, 4]]}, "`mask` has no effect without `image`"),
        ({"strength": 0.5}, "`strength` has no effect without `image`"),
        ({"adapters": [{"name": "b"}, {"name": "a"}, {"name": "b"}]}, "`adapters` names 'b' twice"),
    ],
)
def test_conditions_that_contradict_themselves_are_refused(fields: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(why)):
        Conditions(**fields)
