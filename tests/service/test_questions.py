"""What is asked beside where things are: how sure, against which other image, and what a word does."""

import httpx2
import numpy as np
import pytest

from contracts.schema.attribute import AttributeJob
from contracts.schema.datasets import Entry, Found
from contracts.schema.filters import ConfidenceRange, FilledFilters
from contracts.schema.models import MaskCalibration
from ovam.core.confidence import Calibration, Confidence
from ovam.core.export.datasheet import line_of
from ovam.core.export.entries import Split, entries_of
from ovam.core.export.samples import Annotation, Sample
from ovam.core.methods import METHODS
from ovam.errors import InvalidArgumentError
from service.datasets.judging import judged
from tests.service.in_test_worker import InTestWorker, card, token
from tests.service.serving import Json, assert_problem
from tests.service.test_admission import sized

CAR, ROW = {"word": "car"}, {"label": "row", "embedding": [[0.5] * 8, [1.0] * 8]}
CURVE = Calibration((0.5, 0.9), (0.1, 0.8))
SURE = {"car": 0.4, "tree": 0.8}
KNOWN = MaskCalibration(images="generate", targets="words", settings=METHODS["daam"].words, calibration=CURVE)


async def made(client: httpx2.AsyncClient, worker: InTestWorker, **body: object) -> str:
    """Another generate job that succeeded."""
    answer = await client.post("/v1/generate", json={"prompt": "a tree", **body})
    return (await worker.end(answer.json()["id"])).id


async def test_a_question_can_be_asked_of_another_image_too(
    client: httpx2.AsyncClient, worker: InTestWorker, generated: str
) -> None:
    other = await made(client, worker, num_images=2)
    body = {"job_id": generated, "targets": [CAR, ROW]}
    answer = await client.post("/v1/attribute", json=body | {"against": other, "against_image": 1})
    assert answer.status_code == 202, answer.text
    assert (answer.json()["request"]["against"], answer.json()["request"]["against_image"]) == (other, 1)


async def test_images_that_cannot_be_compared_are_refused(
    client: httpx2.AsyncClient, worker: InTestWorker, generated: str
) -> None:
    await worker.publish(card("other"))
    small, foreign = await made(client, worker, height=32), await made(client, worker, model="other")
    running = (await client.post("/v1/generate", json={"prompt": "a tree"})).json()["id"]
    question = (await client.post("/v1/attribute", json={"job_id": generated, "targets": [CAR]})).json()["id"]
    cases: list[tuple[Json, int, str, str]] = [
        ({"against": small}, 422, "settings-contradict", "against"),
        ({"against": foreign}, 422, "settings-contradict", "against"),
        ({"against": running}, 409, "job-not-finished", "against"),
        ({"against": question}, 422, "wrong-job-kind", "against"),
        ({"against": "0" * 26}, 404, "unknown-job", "against"),
        ({"against": generated, "against_image": 9}, 422, "image-index-out-of-range", "against_image"),
    ]
    for more, status, code, field in cases:
        answer = await client.post("/v1/attribute", json={"job_id": generated, "targets": [CAR], **more})
        assert_problem(answer, status, code, field)
    lone = await client.post("/v1/attribute", json={"job_id": generated, "targets": [CAR], "against_image": 1})
    assert_problem(lone, 422, "invalid-request")
    assert "`against_image` has no effect without `against`" in lone.text


async def test_a_word_is_left_out_of_a_prompt_and_nothing_else_can_be(
    client: httpx2.AsyncClient, worker: InTestWorker, generated: str
) -> None:
    await worker.publish_token(token("car-1"))
    ask = {"job_id": generated, "targets": [CAR], "causal": {}}
    answer = await client.post("/v1/attribute", json=ask)
    assert answer.json()["request"]["causal"] == {"from_evaluation": 0.5, "instead": None}
    for target in (ROW, {"token": "car-1"}, {"prompt": "a red car"}):
        answer = await client.post("/v1/attribute", json=ask | {"targets": [CAR, target]})
        assert_problem(answer, 422, "settings-contradict", "targets.1")
    many = await client.post("/v1/attribute", json=ask | {"targets": [{"word": f"w{n}"} for n in range(9)]})
    assert "`causal` has 9 targets; allowed: at most 8" in many.text
    answer = await client.post("/v1/attribute", json=ask | {"causal": {"from_evaluation": 30}})
    assert_problem(answer, 422, "selection-invalid", "causal.from_evaluation")
    assert "drawn in 30 evaluations: 0 to 29" in answer.text
    for wrong in (1.5, -1, "half", 1001):
        assert_problem(
            await client.post("/v1/attribute", json=ask | {"causal": {"from_evaluation": wrong}}), 422, "invalid-request"
        )


async def test_a_mask_is_calibrated_for_the_images_and_the_settings_that_were_measured(
    client: httpx2.AsyncClient, worker: InTestWorker
) -> None:
    await worker.publish(card().model_copy(update={"calibrations": [KNOWN]}))
    source = await made(client, worker)
    other = {**CAR, "settings": {"heads": 0}}

    async def calibrations(**more: object) -> list[Json | None]:
        answer = await client.post("/v1/attribute", json={"job_id": source, "targets": [CAR, other], "method": "daam", **more})
        assert answer.status_code == 202, answer.text
        await client.post(f"/v1/jobs/{answer.json()['id']}/cancel")  # few may wait
        return answer.json()["request"]["calibrations"]

    assert await calibrations(confidence=True) == [{"agreement": [0.5, 0.9], "iou": [0.1, 0.8]}, None]
    assert await calibrations() == []
    assert await calibrations(confidence=True, softmax="together", distractors=[{"word": "tree"}]) == [None, None]
    assert await calibrations(confidence=True, method="attn2mask") == [None, None]


async def test_what_is_compared_is_estimated_and_to_draw_again_is_the_work_of_drawing(
    client: httpx2.AsyncClient, worker: InTestWorker
) -> None:
    await worker.publish(sized())
    drawn = (await client.post("/v1/generate", json={"prompt": "a car"})).json()
    await worker.end(drawn["id"])
    body = {"job_id": drawn["id"], "targets": [CAR, {"word": "tree"}]}
    found = []
    for more in ({}, {"against": drawn["id"]}, {"causal": {}}, {"confidence": True}):
        found.append((await client.post("/v1/attribute", json=body | more)).json())
        await client.post(f"/v1/jobs/{found[-1]['id']}/cancel")  # few may wait
    plain, _, causal, _ = found
    kept, work, memory = ([each["estimate"][name] for each in found] for name in ("kept_bytes", "work", "memory_bytes"))
    assert kept[1] > kept[0] == kept[3] < kept[2]
    assert work[1] == 2 * work[0] < work[2] == pytest.approx(3 * drawn["estimate"]["work"])
    assert work[0] < work[3] < 1.2 * work[0]
    assert memory[0] < min(memory[1:])
    assert [AttributeJob.model_validate(each["request"]).paced_as for each in (plain, causal)] == ["attribute", "generate"]


@pytest.mark.parametrize(
    ("least", "most", "reason"), [(0.0, 1.0, None), (0.4, 0.8, None), (0.41, 1.0, "confidence"), (0.0, 0.79, "confidence")]
)
def test_an_image_is_rejected_if_one_of_its_masks_is_less_sure_or_surer(least: float, most: float, reason: str | None) -> None:
    found = {name: Found(area=9, score=1.0, confidence=Confidence(sure, sure, calibrated=False)) for name, sure in SURE.items()}
    entry = Entry(number=0, custom_id="0", prompt="a car", seed=0, state="accepted", height=4, width=4, found=found)
    filters = FilledFilters(confidence=ConfidenceRange(least=least, most=most))
    assert judged(entry, None, filters).reason == reason
    single = entry.model_copy(update={"found": {"car": Found(area=9, score=1.0)}})  # one map is all there was
    assert judged(single, None, filters).reason is None


def test_an_exported_image_says_how_sure_its_masks_are() -> None:
    sample = Sample("0", np.zeros((2, 2, 3), np.uint8), [Annotation("car", np.ones((2, 2), bool), 0.5, 0.25)])
    (entry,) = entries_of([sample], {"car": 1}, Split(), None)
    assert line_of(entry)["annotations"] == [{"label": "car", "score": 0.5, "area": 4, "confidence": 0.25}]
    wrong = Sample("0", np.zeros((2, 2, 3), np.uint8), [Annotation("car", np.ones((2, 2), bool), 0.5, 1.5)])
    with pytest.raises(InvalidArgumentError, match="confidence"):
        next(entries_of([wrong], {"car": 1}, Split(), None))
