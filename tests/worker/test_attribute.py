"""What an attribute job answers, in every option."""

from io import BytesIO
from typing import Any

import numpy as np
import pytest
import torch
from contracts.attribution import AttributeRequest, AttributeResult, CrfSettings, MethodCard, Segment, Settings, Target
from contracts.errors import Code, ServiceError
from contracts.fields import Rle
from contracts.generation import CaptureOptions
from contracts.jobs import JobRecord, State, utc_now
from contracts.models import Choice
from contracts.targets import no_self_attention
from contracts.tokens import TokenCard
from PIL import Image
from worker.questions import method_cards, questions_of, sought_by

import ovam
from contracts import keys
from tests.worker.client import Client, soon
from worker.resources import Resources

pytestmark = pytest.mark.usefixtures("worker")

CAT = Target(label="cat", prompt="a photograph of a cat", word="cat")
DOG = Target(label="dog", prompt="a dog and a tree", word="dog")
TREE = Target(label="tree", prompt="a tree")
ROWS = np.random.default_rng(0).normal(size=(3, 32)).round(3).tolist()
ROW = Target(label="row", embedding=ROWS, rows=[2])
PLAIN = {"method": "daam"}


async def asked(client: Client, job_id: str, *targets: Target, **options: Any) -> tuple[JobRecord, AttributeResult]:
    """An attribute job that succeeded."""
    record = await client.run(AttributeRequest(job_id=job_id, targets=list(targets or (CAT,)), **options))
    assert isinstance(record.result, AttributeResult), record.error
    return record, record.result


async def refused(client: Client, job_id: str, *targets: Target, **options: Any) -> tuple[Code, str | None]:
    """Why an attribute job failed, and the field to blame."""
    record = await client.run(AttributeRequest(job_id=job_id, targets=list(targets or (CAT,)), **options))
    assert record.state is State.FAILED
    assert await client.stored(keys.job_folder(record.id)) == []
    return record.error.code, record.error.field


async def array(client: Client, record: JobRecord, name: str) -> np.ndarray:
    return np.load(BytesIO(await client.artifact(record, name)))


async def picture(client: Client, record: JobRecord, name: str) -> np.ndarray:
    with Image.open(BytesIO(await client.artifact(record, name))) as image:
        return np.asarray(image)


def decoded(rle: Rle) -> np.ndarray:
    return ovam.coco.decode_run_lengths({"size": list(rle.size), "counts": rle.counts})


def as_request(segment: Segment) -> dict[str, Any]:
    """A segment's settings as a client sends them again."""
    return Settings.model_validate_json(Settings.model_validate(segment.settings).model_dump_json()).model_dump(exclude_none=True)


@pytest.fixture
async def source(client: Client) -> str:
    """A job with the trace of an image."""
    return (await client.generated()).id


@pytest.fixture
async def whole(client: Client) -> str:
    """A job that kept self-attention, too."""
    return (await client.generated(capture=CaptureOptions(self_attention=True))).id


async def test_every_target_is_answered_in_order_with_its_files(client: Client, source: str) -> None:
    record, result = await asked(client, source, CAT, DOG, TREE, ROW, method="daam")
    assert [segment.target.label for segment in result.segments] == ["cat", "dog", "tree", "row"]
    for number, segment in enumerate(result.segments):
        heat = await array(client, record, f"heatmap-{number}.npy")
        assert (heat.shape, heat.dtype) == ((64, 64), np.float32)
        assert 0 <= heat.min() <= heat.max() <= 1
        mask = await picture(client, record, f"mask-{number}.png") == 255
        assert (mask == decoded(segment.rle)).all()
        assert (mask == (heat >= np.float32(segment.settings["tau"]) * heat.max())).all()
        assert segment.area == mask.sum()
        assert 0 < segment.score <= 1
        assert segment.method == "daam"
    assert [segment.settings["tau"] for segment in result.segments] == [0.4, 0.4, 0.4, 0.8]


@pytest.mark.parametrize(
    "choice", [{"normalize": "minmax", "refine": "none"}, {"refine": "affinity"}, {"refine": "both", "sign": -1}]
)
async def test_what_the_threshold_cuts_is_a_file_where_it_is_not_the_heatmap(
    client: Client, whole: str, choice: dict[str, Any]
) -> None:
    record, result = await asked(client, whole, CAT, crf=False, **choice)
    refined = await array(client, record, "refined-0.npy")
    (segment,) = result.segments
    assert segment.refined_npy is not None
    assert (decoded(segment.rle) == (refined >= np.float32(segment.settings["tau"]) * refined.max())).all()
    _, result = await asked(client, whole, CAT, refine="none")
    assert result.segments[0].refined_npy is None


async def test_the_models_own_settings_are_taken_where_a_request_names_no_method(client: Client, source: str, whole: str) -> None:
    _, result = await asked(client, whole)
    assert result.segments[0].method == "ovam"
    assert (result.segments[0].settings["refine"], result.segments[0].settings["alpha"]) == ("attention", 0.85)
    _, result = await asked(client, source)
    assert result.segments[0].settings["refine"] == "none"  # nobody asked for it, and the job kept nothing to refine by
    assert "alpha" not in result.segments[0].settings
    assert result.segments[0].settings["crf"] == CrfSettings().model_dump()


OVERRIDES: list[dict[str, Any]] = [
    {},
    {"evaluations": {"stop": 2}, "heads": {"start": -1}, "blocks": ["up", 4], "crf": False},
    {"padding": "max_length", "reduction": "sum", "evaluations": [0, -1], "minimum_area": 20, "fill_holes": True},
    {"refine": "both", "sign": -1, "alpha": 0.3, "affinity_steps": 3, "crf": {"iterations": 2, "bilateral_colour": 7.5}},
    {"refine": "affinity", "threshold": "otsu", "evaluations": 1, "crf": False},
    {"refine": "none", "threshold": "absolute", "tau": 0.2, "crf": False},
]


@pytest.mark.parametrize("target", [CAT, ROW], ids=["words", "tokens"])
@pytest.mark.parametrize("method", ["ovam", "daam", "attn2mask"])
async def test_settings_sent_again_give_bitwise_the_same_mask(client: Client, whole: str, method: str, target: Target) -> None:
    for overrides in OVERRIDES:
        record, result = await asked(client, whole, target, method=method, **overrides)
        again, repeated = await asked(client, whole, target, **as_request(result.segments[0]))
        assert repeated.segments[0].settings == result.segments[0].settings
        assert await client.artifact(again, "mask-0.png") == await client.artifact(record, "mask-0.png")


async def test_settings_sent_again_for_each_of_several_targets_give_bitwise_the_same_masks(client: Client, whole: str) -> None:
    targets = [
        target.model_copy(update={"label": f"{target.label} {number}", "settings": Settings(**overrides)})
        for number, overrides in enumerate(OVERRIDES)
        for target in (CAT, ROW, DOG)
    ]
    record, result = await asked(client, whole, *targets)
    settled = [segment.target.model_copy(update={"settings": Settings(**as_request(segment))}) for segment in result.segments]
    again, repeated = await asked(client, whole, *settled, method="attn2mask")
    for number, (one, other) in enumerate(zip(result.segments, repeated.segments, strict=True)):
        assert one.settings == other.settings
        assert await client.artifact(record, f"mask-{number}.png") == await client.artifact(again, f"mask-{number}.png")


async def test_a_targets_own_settings_go_before_those_of_the_request(client: Client, source: str) -> None:
    own = CAT.model_copy(update={"label": "own", "settings": Settings(tau=0.9, evaluations=-1)})
    _, result = await asked(client, source, CAT, own, tau=0.3, normalize="minmax", method="daam")
    assert [segment.settings["tau"] for segment in result.segments] == [0.3, 0.9]
    assert [segment.settings["normalize"] for segment in result.segments] == ["minmax", "minmax"]
    assert [segment.settings["evaluations"] for segment in result.segments] == [{}, -1]


async def test_targets_together_are_what_each_is_alone(client: Client, whole: str) -> None:
    targets = [
        CAT,
        DOG,
        TREE.model_copy(update={"settings": Settings(padding="max_length", refine="affinity")}),
        CAT.model_copy(update={"label": "late", "settings": Settings(evaluations={"start": 1}, threshold="otsu")}),
        ROW,
    ]
    together, result = await asked(client, whole, *targets, crf=False)
    for number, target in enumerate(targets):
        alone, single = await asked(client, whole, target, crf=False)
        assert single.segments[0].settings == result.segments[number].settings
        maps = [await array(client, record, f"heatmap-{at}.npy") for record, at in ((together, number), (alone, 0))]
        assert np.allclose(*maps, rtol=1e-5)
        assert (decoded(single.segments[0].rle) == decoded(result.segments[number].rle)).mean() > 0.999


@pytest.mark.parametrize("options", [{}, {"reduction": "sum"}, {"blocks": [8, 4], "evaluations": [0, 2]}])
async def test_maps_of_the_parts_make_up_the_heatmap(client: Client, source: str, options: dict[str, Any]) -> None:
    record, result = await asked(client, source, CAT, ROW, maps=["block", "evaluation", "head"], **PLAIN, **options)
    for number, segment in enumerate(result.segments):
        heat = await array(client, record, f"heatmap-{number}.npy")
        assert [split.by for split in segment.maps] == ["block", "evaluation", "head"]
        for split in segment.maps:
            maps = await array(client, record, split.file.name)
            assert len(maps) == len(split.parts) == len(split.terms)
            whole = maps.sum(axis=0) if options.get("reduction") == "sum" else np.average(maps, axis=0, weights=split.terms)
            resized = torch.nn.functional.interpolate(
                torch.from_numpy(whole)[None, None].float(), size=(64, 64), mode="bilinear", align_corners=False
            )
            assert np.allclose(resized[0, 0].numpy(), heat, rtol=1e-4)
    parts = {split.by: split.parts for split in result.segments[0].maps}
    assert parts["evaluation"] == [str(index) for index in options.get("evaluations", range(3))]
    assert all(name.endswith("attn2") for name in parts["block"])


async def test_one_targets_label_is_its_mask(client: Client, whole: str) -> None:
    for settings in (
        {},
        {"normalize": "minmax"},
        {"threshold": "otsu"},
        {"threshold": "absolute", "tau": 0.25},
        {"refine": "both"},
    ):
        record, result = await asked(client, whole, CAT, method="daam", semantic={}, **settings)
        labels = await picture(client, record, "semantic.png")
        assert np.array_equal(labels == 1, decoded(result.segments[0].rle))
        assert result.semantic.areas == {label: int((labels == label).sum()) for label in np.unique(labels).tolist()}


async def test_a_semantic_map_has_a_label_for_every_target_in_vocs_colours(client: Client, source: str) -> None:
    record, result = await asked(client, source, CAT, DOG, ROW, semantic={"margin": 0.02}, **PLAIN)
    assert result.semantic.labels == {0: "background", 1: "cat", 2: "dog", 3: "row", 255: "unsure"}
    assert sum(result.semantic.areas.values()) == 64 * 64
    assert set(result.semantic.areas) <= set(result.semantic.labels)
    with Image.open(BytesIO(await client.artifact(record, "semantic.png"))) as image:
        assert image.mode == "P"
        assert np.array_equal(np.array(image.getpalette()).reshape(-1, 3), ovam.voc_palette()[: len(image.getpalette()) // 3])


async def test_instances_are_the_regions_of_the_mask(client: Client, source: str) -> None:
    _, result = await asked(client, source, CAT, instances={"connectivity": 4}, **PLAIN)
    segment = result.segments[0]
    regions = [decoded(region.rle) for region in segment.instances]
    assert np.array_equal(np.sum(regions, axis=0), decoded(segment.rle))
    assert [region.area for region in segment.instances] == sorted((region.sum() for region in regions), reverse=True)
    _, result = await asked(client, source, CAT, instances={"minimum_area": 10**6}, **PLAIN)
    assert result.segments[0].instances == []
    _, result = await asked(client, source, CAT, **PLAIN)
    assert (result.segments[0].instances, result.segments[0].maps, result.semantic) == (None, [], None)


async def test_refining_by_what_was_not_kept_is_refused_with_the_way_to_keep_it(client: Client, source: str) -> None:
    for options, field in (
        ({"method": "ovam"}, "method"),
        ({"refine": "affinity"}, "refine"),
        ({"alpha": 0.5}, "alpha"),
        ({"method": "daam", "refine": "both"}, "refine"),
    ):
        assert await refused(client, source, **options) == (Code.NO_SELF_ATTENTION, field)
    own = CAT.model_copy(update={"settings": Settings(refine="attention")})
    assert await refused(client, source, own) == (Code.NO_SELF_ATTENTION, "targets.0.settings.refine")
    assert '"self_attention": true' in no_self_attention(source, "both", "refine").detail


async def test_a_selection_that_selects_nothing_is_refused(client: Client, source: str) -> None:
    for options in ({"blocks": [64]}, {"blocks": ["side"]}, {"evaluations": 3}, {"evaluations": {"start": 7}}, {"heads": [9]}):
        code, _ = await refused(client, source, **PLAIN, **options)
        assert code is Code.SELECTION_INVALID


async def test_an_embedding_that_does_not_fit_is_refused(client: Client, source: str) -> None:
    narrow = Target(label="x", embedding=[[1.0] * 31] * 2)
    assert await refused(client, source, narrow) == (Code.EMBEDDING_OF_OTHER_WIDTH, "targets.0.embedding")
    outside = Target(label="x", embedding=[[0.0] * 32, [0.0] * 31 + [1e39]])
    assert await refused(client, source, outside) == (Code.EMBEDDING_NOT_FINITE, "targets.0.embedding")
    huge = Target(label="x", embedding=[[1e38] * 32, [-1e38] * 32, [0.0] * 32])
    assert (await refused(client, source, huge))[0] is Code.EMBEDDING_NOT_FINITE


async def test_settings_that_exclude_each_other_are_refused(client: Client, source: str) -> None:
    assert await refused(client, source, method="daam", alpha=0.5) == (Code.SETTINGS_CONTRADICT, "alpha")
    assert await refused(client, source, threshold="absolute") == (Code.SETTINGS_CONTRADICT, "threshold")


def card_of_token(*classes: str) -> TokenCard:
    return TokenCard(
        id="t", name="pets", version=2, model="tiny", width=32, classes=list(classes), origin="import", job_id="0" * 26,
        created_at=utc_now(),
    )  # fmt: skip


async def test_a_tokens_class_is_its_row_and_must_be_named_among_several(worker: Resources) -> None:
    model = await worker.models.get("tiny")
    rows = torch.zeros(3, 32)
    learned = {"pets@2": (card_of_token("cat", "dog"), rows), "cat": (card_of_token("cat"), rows[:2])}

    def sought(token: str, class_name: str | None) -> tuple[int, ...]:
        target = Target(label="x", token=token, class_name=class_name)
        return sought_by(target, model, learned, field="targets.0").chosen

    assert (sought("pets@2", "cat"), sought("pets@2", "dog"), sought("cat", None), sought("cat", "cat")) == (
        (1,),
        (2,),
        (1,),
        (1,),
    )
    for token, class_name in (("pets@2", None), ("pets@2", "bird"), ("cat", "dog")):
        with pytest.raises(ServiceError, match=r"'pets@2' .*: cat") as error:
            sought(token, class_name)
        assert (error.value.code, error.value.field) == (Code.UNKNOWN_CLASS, "targets.0.class_name")


async def test_tokens_and_embeddings_take_the_methods_settings_for_tokens(worker: Resources, whole: str) -> None:
    model = await worker.models.get("tiny")
    trace = worker.scenes.get((whole, 1, 0)).trace
    learned = {"cat": (card_of_token("cat"), torch.zeros(2, 32))}
    request = AttributeRequest(job_id="0" * 26, targets=[CAT, ROW, Target(label="x", token="cat")], method="ovam")
    questions = questions_of(request, model, trace, learned)
    assert [(one.method.tau, one.method.alpha) for one in questions] == [(0.4, 0.85), (0.8, 0.95), (0.8, 0.95)]


async def test_the_worker_publishes_its_methods_as_settings_that_a_request_may_send(client: Client) -> None:
    await soon(lambda: client.redis.exists(keys.METHODS))
    cards = {
        name.decode(): MethodCard.model_validate_json(card) for name, card in (await client.redis.hgetall(keys.METHODS)).items()
    }
    assert cards == method_cards()
    assert set(cards) == {"ovam", "daam", "attn2mask"}
    for card in cards.values():
        for kind in (card.words, card.tokens):
            assert set(kind) == set(Settings.model_fields)
    assert cards["attn2mask"].words["evaluations"] == 0.5
    assert Choice().method in cards
