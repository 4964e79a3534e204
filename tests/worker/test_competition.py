"""Targets that compete: segments are those of the library, in every interplay with tokens, refinement and label maps."""

from io import BytesIO
from typing import Any

import numpy as np
import pytest
import torch

import ovam
from contracts.schema.attribute import AttributeResult, Segment
from contracts.schema.errors import Code
from contracts.schema.images import CaptureOptions
from contracts.schema.jobs import JobRecord, State
from contracts.schema.methods import Settings
from contracts.schema.targets import EmbeddingTarget, Target, TokenTarget
from contracts.state.registry import Registry
from tests.worker.client import Client, left_half
from tests.worker.jobs import CAT, DOG, TREE
from worker.models import Model
from worker.resources import Resources
from worker.tokens import rows_of_token

pytestmark = pytest.mark.usefixtures("worker")

ROWS = np.random.default_rng(0).normal(size=(3, 32)).round(3).tolist()
ROW = EmbeddingTarget(label="row", embedding=ROWS, rows=[2])
TOGETHER: dict[str, Any] = {"softmax": "together"}


async def asked(client: Client, source: JobRecord, *targets: Target, **options: Any) -> tuple[JobRecord, list[Segment]]:
    """The segments of an attribute job that succeeded."""
    record = await client.attributed(source, *targets, **options)
    assert isinstance(record.result, AttributeResult), record.error
    return record, record.result.segments


async def heat(client: Client, record: JobRecord, number: int) -> np.ndarray:
    return np.load(BytesIO(await client.artifact(record, f"heatmap-{number}.npy")))


def decoded(segment: Segment) -> np.ndarray:
    return ovam.coco.decode_run_lengths({"size": list(segment.rle.size), "counts": segment.rle.counts})


@pytest.fixture
async def source(client: Client) -> JobRecord:
    """A job with the trace of an image, self-attention too."""
    return await client.generated(capture=CaptureOptions(self_attention=True))


@pytest.fixture
async def model(worker: Resources) -> Model:
    return await worker.models.get("tiny")


async def traced(client: Client, source: JobRecord, model: Model) -> ovam.Trace:
    return await client.trace(source, model.pipeline)


SETTINGS: list[dict[str, Any]] = [
    {"method": "ovam"},
    {"method": "daam"},
    {"settings": {"refine": {"kind": "affinity", "steps": 2}, "threshold": {"kind": "otsu"}, "evaluations": [0, -1]}},
    {"settings": {"refine": {"kind": "both"}, "threshold": {"kind": "share", "tau": 0.5, "normalize": "minmax"}, "crf": None}},
]


@pytest.mark.parametrize("options", SETTINGS)
async def test_competing_words_tokens_and_embeddings_are_the_librarys(
    client: Client, source: JobRecord, model: Model, worker: Resources, options: dict[str, Any]
) -> None:
    examples = [client.example(source, mask) for mask in (left_half(), ~left_half())]
    for name, example in zip(("bird", "hat"), examples, strict=True):
        assert (await client.run(client.optimization([example], name, classes=[name], epochs=2))).state is State.SUCCEEDED
    bird, hat = (TokenTarget(token=f"{name}@1", class_name=name) for name in ("bird", "hat"))
    strict = DOG.model_copy(update={"settings": Settings(threshold={"kind": "absolute", "level": 0.1}, crf=None)})
    _, found = await asked(client, source, CAT, strict, bird, ROW, distractors=[TREE, hat], **TOGETHER, **options)
    tokens = [
        ovam.Rows((await rows_of_token(Registry(worker.redis), worker.store, f"{name}@1", field="token"))[1], (1,))
        for name in ("bird", "hat")
    ]
    image = np.asarray(worker.scenes.get((source.id, 1, 0)).image)
    expected = ovam.segment(
        await traced(client, source, model),
        model.pipeline,
        [ovam.Words(CAT.prompt, CAT.word), ovam.Words(DOG.prompt, DOG.word), tokens[0], ovam.Rows(torch.tensor(ROWS), (2,))],
        [segment.settings for segment in found],
        image,
        softmax="together",
        distractors=[ovam.Words(TREE.prompt), tokens[1]],
    )
    for segment, same in zip(found, expected, strict=True):
        assert (decoded(segment) == same.mask).all()
        assert segment.score == pytest.approx(same.score)
        assert segment.leakage == pytest.approx(same.leakage, abs=1e-4)


async def test_leakage_is_told_where_targets_compete_and_nowhere_else(client: Client, source: JobRecord) -> None:
    plain = {"threshold": {"kind": "share", "tau": 0.7, "normalize": "minmax"}}
    _, each = await asked(client, source, CAT, DOG, settings=plain)
    _, together = await asked(client, source, CAT, DOG, settings=plain, **TOGETHER)
    _, alone = await asked(client, source, CAT, settings=plain, distractors=[DOG], **TOGETHER)
    assert [segment.leakage for segment in (*each, *alone)] == [None] * 3
    assert all(0 <= segment.leakage <= 1 for segment in together)


async def test_distractors_only_lower_heat_and_are_no_segments(client: Client, source: JobRecord) -> None:
    plain, segments = await asked(client, source, CAT, DOG, **TOGETHER)
    lowered, same = await asked(client, source, CAT, DOG, distractors=[TREE, ROW], **TOGETHER)
    assert [each.label for each in same] == [each.label for each in segments] == ["cat", "dog"]
    for number in range(2):
        before, after = await heat(client, plain, number), await heat(client, lowered, number)
        assert (after <= before * (1 + 1e-5)).all()
        assert after.mean() < before.mean()


async def test_competing_targets_have_maps_of_parts_and_one_label_a_pixel(client: Client, source: JobRecord) -> None:
    """The maps of the parts are of the joint softmax, and targets whose masks overlap share no pixel of the label map."""
    loose = {"refine": {"kind": "none"}, "crf": None, "threshold": {"kind": "share", "tau": 0.1}}
    record, segments = await asked(
        client, source, CAT, DOG, distractors=[TREE], maps=["block", "head"], semantic={}, settings=loose, **TOGETHER
    )
    overlap = decoded(segments[0]) & decoded(segments[1])
    assert overlap.any()
    areas = record.result.semantic.areas
    assert sum(areas.values()) == overlap.size
    assert {1, 2} >= set(areas) - {0, 255}
    for number, segment in enumerate(segments):
        for split in segment.maps:
            parts = np.load(BytesIO(await client.artifact(record, split.file.name)))
            whole = torch.from_numpy(np.average(parts, axis=0, weights=split.terms))[None, None].float()
            resized = torch.nn.functional.interpolate(whole, size=(64, 64), mode="bilinear", align_corners=False)
            assert np.allclose(resized[0, 0].numpy(), await heat(client, record, number), rtol=1e-4)


async def test_the_job_sent_again_gives_bitwise_the_same_masks(client: Client, source: JobRecord) -> None:
    record, segments = await asked(client, source, CAT, DOG, distractors=[TREE], **TOGETHER)
    again = await client.run(record.request)
    assert [each.leakage for each in again.result.segments] == [each.leakage for each in segments]
    for number in range(2):
        assert await client.artifact(again, f"mask-{number}.png") == await client.artifact(record, f"mask-{number}.png")


async def test_what_only_a_worker_can_see_fails_the_job_by_its_field(client: Client, source: JobRecord) -> None:
    first = CAT.model_copy(update={"occurrence": 0})  # the only one, so the same rows
    for options, code, field in (
        ({"distractors": [TokenTarget(token="nobody@1", class_name="x")]}, Code.UNKNOWN_TOKEN, "distractors.0.token"),
        ({"distractors": [first]}, Code.INVALID_ARGUMENT, "softmax"),
    ):
        record = await client.attributed(source, CAT, **TOGETHER, **options)
        assert (record.state, record.error.code, record.error.field) == (State.FAILED, code, field)
