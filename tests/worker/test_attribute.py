"""What an attribute job answers, in every option."""

import json
from io import BytesIO
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import ovam
from contracts.schema.attribute import AttributeJob, AttributeResult, InstanceOptions, Segment, TargetJob
from contracts.schema.errors import Code, ServiceError
from contracts.schema.fields import Rle
from contracts.schema.images import CaptureOptions
from contracts.schema.jobs import JobRecord, State, utc_now
from contracts.schema.methods import Settings
from contracts.schema.targets import EmbeddingTarget, Target, TokenTarget
from contracts.schema.tokens import TokenCard
from contracts.state import keys
from contracts.state.transitions import LostJob
from ovam.core.label_maps import voc_palette
from ovam.core.methods import METHODS
from ovam.core.pictures import overlay
from tests.worker.client import Client
from tests.worker.jobs import CAT, DOG, TREE
from worker.attempts import Attempt
from worker.questions import drafts_of
from worker.rendering import grey, npy
from worker.resources import Resources
from worker.segments import Heat, draft_of, renumbered
from worker.targets import library_target

pytestmark = pytest.mark.usefixtures("worker")

ROWS = np.random.default_rng(0).normal(size=(3, 32)).round(3).tolist()
ROW = EmbeddingTarget(label="row", embedding=ROWS, rows=[2])
PLAIN = {"method": "daam"}
SHARE = {"kind": "share", "tau": 0.4}
AFFINITY = {"kind": "affinity"}


async def asked(client: Client, source: str, *targets: Target, **options: Any) -> tuple[JobRecord, AttributeResult]:
    """An attribute job that succeeded."""
    record = await client.attributed(source, *targets, **options)
    assert isinstance(record.result, AttributeResult), record.error
    return record, record.result


async def refused(client: Client, job: AttributeJob) -> Code:
    """Why an attribute job failed."""
    record = await client.run(job)
    assert record.state is State.FAILED
    assert await client.stored(keys.job_folder(record.id)) == []
    return record.error.code


async def array(client: Client, record: JobRecord, name: str) -> np.ndarray:
    return np.load(BytesIO(await client.artifact(record, name)))


async def picture(client: Client, record: JobRecord, name: str) -> np.ndarray:
    with Image.open(BytesIO(await client.artifact(record, name))) as image:
        return np.asarray(image)


def decoded(rle: Rle) -> np.ndarray:
    return ovam.coco.decode_run_lengths({"size": list(rle.size), "counts": rle.counts})


def own(target: Target, **settings: Any) -> Target:
    """A target with settings of its own."""
    return target.model_copy(update={"settings": Settings(**settings)})


def as_settings(segment: Segment) -> dict[str, Any]:
    """A segment's settings as a client sends them again."""
    return json.loads(segment.model_dump_json())["settings"]


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
    assert [segment.label for segment in result.segments] == ["cat", "dog", "tree", "row"]
    image = await picture(client, await client.ledger.get(source), "image-0.png")
    for number, segment in enumerate(result.segments):
        heat = await array(client, record, f"heatmap-{number}.npy")
        assert (heat.shape, heat.dtype) == ((64, 64), np.float32)
        assert 0 <= heat.min() <= heat.max() <= 1
        mask = await picture(client, record, f"mask-{number}.png") == 255
        assert (mask == decoded(segment.rle)).all()
        assert (mask == (heat >= np.float32(segment.settings.threshold.tau) * heat.max())).all()
        assert (segment.area, segment.bbox) == (mask.sum(), ovam.coco.bounding_box(mask))
        assert (ovam.coco.fill_polygons(segment.polygons, (64, 64)) == mask).all()
        assert segment.score == pytest.approx(heat[mask].mean() / heat.max())
        assert segment.method == "daam"
        assert (await picture(client, record, f"heatmap-{number}.png") == grey(heat)).all()
        assert (await picture(client, record, f"overlay-{number}.png") == overlay(image, heat, mask)).all()
    assert [segment.settings.threshold.tau for segment in result.segments] == [0.4, 0.4, 0.4, 0.8]
    assert (result.height, result.width, result.model) == (64, 64, "tiny")


def test_grey_shows_the_hottest_pixel_as_white_and_no_heat_as_black() -> None:
    assert grey(np.array([[0, 0.05, 0.2]], np.float32)).tolist() == [[0, 64, 255]]
    assert grey(np.zeros((1, 2), np.float32)).tolist() == [[0, 0]]


def test_numbers_are_stored_in_single_precision() -> None:
    stored = np.load(BytesIO(npy(np.array([[1 / 3]]))))
    assert (stored.dtype, stored.tolist()) == (np.float32, [[np.float32(1 / 3)]])


async def test_segments_are_those_of_the_library(client: Client, whole: str, worker: Resources) -> None:
    _, result = await asked(client, whole, CAT, ROW, method="ovam")
    record = await client.ledger.get(whole)
    pipeline = (await worker.models.get("tiny")).pipeline
    trace = await client.trace(record, pipeline)
    image = await picture(client, record, "image-0.png")
    targets = [ovam.Words(CAT.prompt, CAT.word), ovam.Rows(torch.tensor(ROWS), (2,))]
    for segment, same in zip(result.segments, ovam.segment(trace, pipeline, targets, "ovam", image), strict=True):
        assert segment.settings == same.method
        assert (decoded(segment.rle) == same.mask).all()
        assert segment.score == pytest.approx(same.score)


CHANGES = [
    {"threshold": SHARE | {"normalize": "minmax"}, "refine": {"kind": "none"}},
    {"refine": AFFINITY},
    {"refine": {"kind": "both", "sign": -1}},
]


@pytest.mark.parametrize("change", CHANGES)
async def test_what_the_threshold_cuts_is_a_file_where_it_is_not_the_heatmap(
    client: Client, whole: str, change: dict[str, Any]
) -> None:
    record, result = await asked(client, whole, CAT, settings={"crf": None} | change)
    refined = await array(client, record, "refined-0.npy")
    (segment,) = result.segments
    assert segment.refined_npy.name == "refined-0.npy"
    assert segment.score == pytest.approx(refined[decoded(segment.rle)].mean() / refined.max(), rel=1e-5)
    assert (decoded(segment.rle) == (refined >= np.float32(segment.settings.threshold.tau) * refined.max())).all()
    plain, result = await asked(
        client, whole, CAT, settings={"refine": {"kind": "none"}, "threshold": SHARE | {"normalize": "max"}}
    )
    assert result.segments[0].refined_npy is None
    heat = await array(client, record, "heatmap-0.npy")
    assert (heat == await array(client, plain, "heatmap-0.npy")).all()
    assert (await picture(client, record, "heatmap-0.png") == grey(heat)).all()
    image = await picture(client, await client.ledger.get(whole), "image-0.png")
    assert (await picture(client, record, "overlay-0.png") == overlay(image, heat, decoded(segment.rle))).all()


OVERRIDES: list[dict[str, Any]] = [
    {},
    {"evaluations": {"stop": 2}, "heads": {"start": -1}, "blocks": ["up", 4], "crf": None},
    {"padding": "max_length", "reduction": "sum", "evaluations": [0, -1], "minimum_area": 20, "fill_holes": True},
    {
        "refine": {"kind": "both", "sign": -1, "alpha": 0.3, "steps": 3},
        "crf": {"iterations": 2, "bilateral_colour": 7.5},
    },
    {"refine": AFFINITY, "threshold": {"kind": "otsu"}, "evaluations": 1, "crf": None},
    {"refine": {"kind": "none"}, "threshold": {"kind": "absolute", "level": 0.2}, "evaluations": 0.5, "crf": None},
]


@pytest.mark.parametrize("target", [CAT, ROW], ids=["words", "tokens"])
@pytest.mark.parametrize("method", ["ovam", "attn2mask"])
async def test_settings_sent_again_give_bitwise_the_same_mask(client: Client, whole: str, method: str, target: Target) -> None:
    for overrides in OVERRIDES:
        record, result = await asked(client, whole, target, method=method, settings=overrides)
        again, repeated = await asked(client, whole, target, settings=as_settings(result.segments[0]))
        assert repeated.segments[0].settings == result.segments[0].settings
        assert await client.artifact(again, "mask-0.png") == await client.artifact(record, "mask-0.png")


async def test_settings_sent_again_for_each_of_several_targets_give_bitwise_the_same_masks(client: Client, whole: str) -> None:
    targets = [
        own(target, **overrides).model_copy(update={"label": f"{target.label} {number}"})
        for number, overrides in enumerate(OVERRIDES)
        for target in (CAT, ROW, DOG)
    ]
    record, result = await asked(client, whole, *targets)
    settled = [own(segment.target, **as_settings(segment)) for segment in result.segments]
    again, repeated = await asked(client, whole, *settled, method="attn2mask")
    for number, (one, other) in enumerate(zip(result.segments, repeated.segments, strict=True)):
        assert one.settings == other.settings
        assert await client.artifact(record, f"mask-{number}.png") == await client.artifact(again, f"mask-{number}.png")


async def test_targets_together_are_what_each_is_alone(client: Client, whole: str) -> None:
    targets = [
        CAT,
        DOG,
        own(TREE, padding="max_length", refine=AFFINITY),
        own(CAT, evaluations={"start": 1}, threshold={"kind": "otsu"}),
        ROW,
    ]
    together, result = await asked(client, whole, *targets, settings={"crf": None})
    for number, target in enumerate(targets):
        alone, single = await asked(client, whole, target, settings={"crf": None})
        assert single.segments[0].settings == result.segments[number].settings
        maps = [await array(client, record, f"heatmap-{at}.npy") for record, at in ((together, number), (alone, 0))]
        assert np.allclose(*maps, rtol=1e-5)
        assert (decoded(single.segments[0].rle) == decoded(result.segments[number].rle)).mean() > 0.999


@pytest.mark.parametrize("options", [{}, {"reduction": "sum"}, {"blocks": [8, 4], "evaluations": [0, 2]}])
async def test_maps_of_the_parts_make_up_the_heatmap(client: Client, source: str, options: dict[str, Any]) -> None:
    record, result = await asked(client, source, CAT, ROW, maps=["block", "evaluation", "head"], settings=options, **PLAIN)
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
        {"threshold": SHARE | {"normalize": "minmax"}},
        {"threshold": {"kind": "otsu"}},
        {"threshold": {"kind": "absolute", "level": 0.25}},
        {"refine": {"kind": "both"}},
    ):
        record, result = await asked(client, whole, CAT, method="daam", semantic={}, settings=settings)
        labels = await picture(client, record, "semantic.png")
        assert np.array_equal(labels == 1, decoded(result.segments[0].rle))
        assert result.semantic.areas == {label: int((labels == label).sum()) for label in np.unique(labels).tolist()}


async def test_a_semantic_map_has_a_label_for_every_target_in_vocs_colours(client: Client, source: str) -> None:
    record, result = await asked(client, source, CAT, DOG, ROW, semantic={"least_gap": 0.02}, **PLAIN)
    assert result.semantic.labels == {0: "background", 1: "cat", 2: "dog", 3: "row", 255: "ambiguous"}
    assert sum(result.semantic.areas.values()) == 64 * 64
    assert set(result.semantic.areas) <= set(result.semantic.labels)
    with Image.open(BytesIO(await client.artifact(record, "semantic.png"))) as image:
        assert image.mode == "P"
        assert np.array_equal(np.array(image.getpalette()).reshape(-1, 3), voc_palette()[: len(image.getpalette()) // 3])


async def test_a_semantic_map_takes_the_callers_numbers_and_is_otherwise_the_same(client: Client, source: str) -> None:
    plain, counted = await asked(client, source, CAT, DOG, ROW, semantic={"least_gap": 0.02}, **PLAIN)
    record, result = await asked(client, source, CAT, DOG, ROW, semantic={"least_gap": 0.02, "labels": [8, 2, 254]}, **PLAIN)
    assert result.semantic.labels == {0: "background", 8: "cat", 2: "dog", 254: "row", 255: "ambiguous"}
    numbers = {0: 0, 1: 8, 2: 2, 3: 254, 255: 255}
    expected = np.vectorize(numbers.get)(await picture(client, plain, "semantic.png"))
    assert np.array_equal(await picture(client, record, "semantic.png"), expected)
    assert result.semantic.areas == {numbers[label]: area for label, area in counted.semantic.areas.items()}


def test_numbers_may_be_those_of_other_targets() -> None:
    labels = np.array([[0, 1, 2, 3, 255]], np.uint8)
    assert renumbered(labels, [2, 3, 1]).tolist() == [[0, 2, 3, 1, 255]]


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


def test_regions_touch_by_sides_alone_or_by_corners_as_the_request_says() -> None:
    heat = np.eye(4, dtype=np.float32)
    target = TargetJob(label="cat", target=CAT, method="daam", settings=METHODS["daam"].words)
    image = np.zeros((4, 4, 3), np.uint8)
    for connectivity, count in ((4, 4), (8, 1)):
        options = InstanceOptions(connectivity=connectivity)
        draft = draft_of(0, target, Heat(heat, heat, {}, None, None), heat > 0, image, options)
        assert len(draft.instances or []) == count


async def test_refining_by_what_was_not_kept_is_refused(client: Client, whole: str) -> None:
    job = await client.attribution(whole, method="ovam")
    without = (await client.generated(capture={"keep": "queries"})).id
    assert await refused(client, job.model_copy(update={"job_id": without})) is Code.NO_SELF_ATTENTION


@pytest.mark.parametrize("selection", [{"blocks": [64]}, {"blocks": ["side"]}, {"evaluations": 3}, {"heads": [9]}])
async def test_a_selection_that_selects_nothing_is_refused(client: Client, source: str, selection: dict[str, Any]) -> None:
    assert await refused(client, await client.attribution(source, settings=selection, **PLAIN)) is Code.SELECTION_INVALID


async def test_an_embedding_that_is_too_large_for_the_models_attention_is_refused(client: Client, source: str) -> None:
    huge = EmbeddingTarget(label="x", embedding=[[1e38] * 32, [-1e38] * 32, [0.0] * 32])
    assert await refused(client, await client.attribution(source, huge, **PLAIN)) is Code.EMBEDDING_NOT_FINITE


async def test_work_that_is_to_stop_stops_between_two_targets(client: Client, whole: str, worker: Resources) -> None:
    job = await client.attribution(whole, CAT, DOG)
    attempt = Attempt(await client.record(job), worker.ledger, worker.gate, worker.occupant)
    attempt.stop(LostJob(attempt.job_id))
    with pytest.raises(LostJob):
        drafts_of(attempt, job, worker.scenes.get((whole, 1, 0)).image, [None, None])


def card_of_token(*classes: str) -> TokenCard:
    return TokenCard(
        id="t", name="pets", version=2, model="tiny", width=32, classes=list(classes), origin="import", job_id="0" * 26,
        created_at=utc_now(),
    )  # fmt: skip


def test_a_tokens_class_is_its_row_and_must_be_named_among_several() -> None:
    rows = torch.zeros(3, 32)
    learned = {"pets@2": (card_of_token("cat", "dog"), rows), "cat": (card_of_token("cat"), rows[:2])}

    def sought(token: str, class_name: str | None) -> tuple[int, ...]:
        return library_target(TokenTarget(token=token, class_name=class_name), learned, field="targets.0").chosen

    assert [sought("pets@2", "cat"), sought("pets@2", "dog"), sought("cat", None), sought("cat", "cat")] == [
        (1,),
        (2,),
        (1,),
        (1,),
    ]
    for token, class_name in (("pets@2", None), ("pets@2", "bird"), ("cat", "dog")):
        with pytest.raises(ServiceError, match=r"'pets@2' .*: cat") as error:
            sought(token, class_name)
        assert (error.value.code, error.value.field) == (Code.UNKNOWN_CLASS, "targets.0.class_name")


async def test_several_tokens_are_each_looked_for_with_their_own_rows(client: Client, source: str) -> None:
    record = await client.ledger.get(source)
    for name, noise in (("one", 0.0), ("two", 9.0)):
        job = client.optimization([client.example(record)], name, epochs=1, noise=noise)
        assert (await client.run(job)).state is State.SUCCEEDED
    one, two = TokenTarget(label="1", token="one"), TokenTarget(label="2", token="two")
    alone = [await array(client, (await asked(client, source, each, **PLAIN))[0], "heatmap-0.npy") for each in (one, two)]
    assert not np.allclose(*alone)
    together, _ = await asked(client, source, two, one, **PLAIN)  # in no order of names
    for number, heat in enumerate(reversed(alone)):
        assert np.allclose(await array(client, together, f"heatmap-{number}.npy"), heat, rtol=1e-5)
    wrong = TokenTarget(label="3", token="two", class_name="bird")
    error = (await client.attributed(source, one, wrong, **PLAIN)).error
    assert (error.code, error.field) == (Code.UNKNOWN_CLASS, "targets.1.class_name")


def test_words_and_embeddings_are_the_librarys() -> None:
    late = CAT.model_copy(update={"prompt": "a cat and a cat", "occurrence": 1})
    assert library_target(late, {}, field="targets.0") == ovam.Words("a cat and a cat", "cat", 1)
    every = library_target(EmbeddingTarget(label="x", embedding=ROWS), {}, field="targets.0")
    assert (every.chosen, every.embedding.dtype, every.embedding.tolist()[0][0]) == (
        (1, 2),
        torch.float32,
        pytest.approx(ROWS[0][0]),
    )
    assert library_target(ROW, {}, field="targets.0").chosen == (2,)


async def test_targets_are_looked_for_by_the_settings_of_the_job_and_no_others(client: Client, source: str) -> None:
    job = await client.attribution(source, CAT, **PLAIN)
    settings = METHODS["attn2mask"].words
    targets = [TargetJob(label="another name", target=CAT, method="daam", settings=settings)]
    record = await client.run(job.model_copy(update={"targets": targets}))
    (segment,) = record.result.segments
    assert (segment.label, segment.method, segment.settings) == ("another name", "daam", settings)
    same, _ = await asked(client, source, CAT, method="attn2mask")
    assert await client.artifact(record, "mask-0.png") == await client.artifact(same, "mask-0.png")


async def test_blocks_and_heads_weigh_by_their_contributions_in_a_generation_and_from_its_replay(client: Client) -> None:
    job, automatic = client.generation(), PLAIN | {"settings": Settings(aggregation="automatic")}
    source = await client.run(job)
    plain, _ = await asked(client, source.id, CAT, **PLAIN)  # whose trace, in memory, has no contributions
    record, result = await asked(client, source.id, CAT, maps=["block"], **automatic)
    assert result.segments[0].settings.aggregation == "automatic"
    heat = await array(client, record, "heatmap-0.npy")
    assert np.abs(heat - await array(client, plain, "heatmap-0.npy")).max() > 1e-4
    parts, terms = await array(client, record, "maps-0-block.npy"), np.array(result.segments[0].maps[0].terms)
    assert terms.sum() == pytest.approx(sum(block.heads for block in source.result.blocks) * source.result.evaluations, rel=1e-4)
    targets = (await client.attribution(source.id, CAT, **automatic)).targets
    drawn = await client.run(job.model_copy(update={"targets": targets}))
    own = drawn.result.images[0].segments[0].heatmap_npy.name
    np.testing.assert_allclose(await array(client, drawn, own), heat, atol=1e-5)
    assert len(parts) == len(terms)
