"""What is said of segments beside what they are: how sure they are, how they differ elsewhere, and what their words do."""

from dataclasses import replace
from io import BytesIO
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from contracts.schema.attribute import AttributeResult
from contracts.schema.comparing import CausalOptions
from contracts.schema.conditions import Emphasis
from contracts.schema.errors import Code
from contracts.schema.jobs import JobRecord, State
from contracts.schema.methods import Settings
from contracts.schema.targets import Target, WordsTarget
from contracts.state.transitions import LostJob
from ovam.core.confidence import Calibration, Confidence
from ovam.core.crf import CrfParameters
from ovam.core.differences import diverging
from ovam.core.thresholds import Share
from tests.worker.client import Client
from tests.worker.jobs import CAT, DOG, TREE
from worker import redrawing
from worker.batches import Abandoned
from worker.resources import Resources
from worker.starting import Start

HALF = {"method": "daam", "settings": Settings(threshold=Share(0.5, "minmax"))}
pytestmark = pytest.mark.usefixtures("worker")


async def asked(client: Client, source: JobRecord, *targets: Target, **options: Any) -> tuple[JobRecord, AttributeResult]:
    record = await client.attributed(source.id, *targets, **options)
    assert isinstance(record.result, AttributeResult), record.error
    return record, record.result


async def array(client: Client, record: JobRecord, name: str) -> np.ndarray:
    return np.load(BytesIO(await client.artifact(record, name)))


async def picture(client: Client, record: JobRecord, name: str) -> np.ndarray:
    with Image.open(BytesIO(await client.artifact(record, name))) as image:
        return np.asarray(image)


async def test_a_difference_has_the_other_sign_the_other_way_round_and_is_nothing_from_itself(client: Client) -> None:
    one, other = await client.generated(), await client.generated(prompt="a dog and a tree", num_inference_steps=4)
    there, result = await asked(client, one, CAT, TREE, against=other.id, **HALF)
    back, returned = await asked(client, other, CAT, TREE, against=one.id, **HALF)
    for number, (here, again) in enumerate(zip(result.segments, returned.segments, strict=True)):
        heat = await array(client, there, f"difference-{number}.npy")
        assert (heat.dtype, heat.any()) == (np.float32, True)
        assert (heat == -await array(client, back, f"difference-{number}.npy")).all()
        heats = [await array(client, record, f"heatmap-{number}.npy") for record in (there, back)]
        np.testing.assert_allclose(heat, heats[0] - heats[1], atol=1e-7)
        assert (await picture(client, there, f"difference-{number}.png") == diverging(heat)).all()
        assert here.difference is not None
        assert again.difference is not None
        assert here.difference.inside == pytest.approx(-again.difference.inside)
        assert here.difference.total == pytest.approx(np.abs(heat).mean())
        assert here.difference.iou == again.difference.iou < 1
    fitted = {"method": "daam", "settings": Settings(threshold=Share(0.5, "minmax"), crf=CrfParameters())}
    _, itself = await asked(client, one, CAT, against=one.id, **fitted)
    found = itself.segments[0].difference
    assert (found.inside, found.outside, found.total, found.iou) == (0, 0, 0, 1)
    several = await client.generated(num_images=2)
    _, beside = await asked(client, several, CAT, against=several.id, against_image=1, **HALF)
    found = beside.segments[0].difference
    assert found is not None
    assert found.total > 0, "it is that of another image of the same job"


async def test_a_word_is_left_out_of_the_image_that_was_drawn(client: Client) -> None:
    source = await client.generated(num_images=2, prompt="a cat and a tree")
    stored = await picture(client, source, "image-1.png")
    asking = {"image": 1, "causal": CausalOptions(from_evaluation=1), **HALF}
    record, result = await asked(client, source, CAT, DOG, WordsTarget(prompt="a tree", word="tree"), **asking)
    assert (result.causal.from_evaluation, result.causal.evaluations) == (1, 3)
    assert result.causal.redrawn < 0.01  # it was drawn in a batch of two
    cat, dog, tree = (segment.causal for segment in result.segments)
    assert [cat.prompt, dog.prompt, tree.prompt] == ["a and a tree", "a cat and a tree", "a cat and a"]
    assert (dog.inside, dog.outside) == (0, 0)  # it is not in the prompt
    assert not (await picture(client, record, "change-1.png")).any()
    assert cat.inside > 0
    again = await picture(client, record, "without-0.png")
    assert np.abs(again.astype(int) - stored).max() > 0
    alone = await client.generated(prompt="a cat and a tree", seed=2)
    record, result = await asked(client, alone, CAT, method="daam", causal=CausalOptions(from_evaluation=0, instead="hat"))
    assert result.causal.redrawn == 0
    hat = await client.generated(prompt="a hat and a tree", seed=2)
    assert (await picture(client, record, "without-0.png") == await picture(client, hat, "image-0.png")).all()


async def test_an_image_of_other_weights_is_not_drawn_again(client: Client, worker: Resources) -> None:
    source = await client.generated()
    model = await worker.models.get("tiny")
    worker.models._loaded["tiny"] = replace(model, weights="0" * 16)
    record = await client.attributed(source.id, CAT, method="daam", causal=CausalOptions())
    assert (record.state, record.error.code) == (State.FAILED, Code.TRACE_MISMATCH)


async def test_an_image_with_emphasis_is_not_drawn_again(client: Client) -> None:
    job = client.generation().model_copy(update={"emphasis": [Emphasis(word="cat", weight=1.5)]})
    record = await client.attributed((await client.run(job)).id, CAT, method="daam", causal=CausalOptions())
    assert (record.error.code, record.error.field) == (Code.SETTINGS_CONTRADICT, "causal")


async def test_a_job_that_is_to_stop_while_an_image_is_drawn_again_says_why(
    client: Client, worker: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    def left(*_: Any) -> Any:
        raise Abandoned

    def check() -> None:
        raise LostJob

    monkeypatch.setattr(redrawing, "run_pipeline", left)
    drawing: Any = SimpleNamespace(job=client.generation(), start=Start(), attempt=SimpleNamespace(check=check))
    with pytest.raises(LostJob):
        redrawing.drawn_again(drawing, CausalOptions(), ["cat"], await worker.models.get("tiny"))


async def test_a_segment_says_how_sure_it_is_by_its_calibration(client: Client) -> None:
    source = await client.generated()
    _, plain = await asked(client, source, CAT, method="daam")
    record, sure = await asked(client, source, CAT, method="daam", confidence=True)
    assert plain.segments[0].confidence is None
    agreement = sure.segments[0].confidence.agreement
    assert sure.segments[0].confidence == Confidence(agreement, agreement, calibrated=False)
    assert sure.segments[0].rle == plain.segments[0].rle
    job, curve = record.request, Calibration((0.0, 1.0), (0.25, 0.75))
    found = (await client.run(job.model_copy(update={"calibrations": [curve]}))).result.segments[0].confidence
    assert found == Confidence(curve.iou_at(agreement), agreement, calibrated=True)


async def test_targets_of_a_generation_are_as_sure_as_when_they_are_asked_for_later(client: Client) -> None:
    later = await client.attribution("0" * 26, CAT, TREE, method="daam", confidence=True)
    drawn = client.generation().model_copy(update={"targets": later.targets, "confidence": True})
    source = await client.run(drawn)
    _, asked_later = await asked(client, source, CAT, TREE, method="daam", confidence=True)
    found = [segment.confidence for segment in source.result.images[0].segments]
    assert found == [segment.confidence for segment in asked_later.segments]
    assert all(found)
