"""What Label Studio's webhooks teach: which examples, of which tokens, from where on, and what replaces what."""

import asyncio

import httpx2
import numpy as np
import pytest
from structlog.testing import capture_logs

from contracts.schema.errors import Code, ServiceError
from contracts.schema.jobs import JobRecord, State
from contracts.schema.optimize import OptimizeJob
from ovam.core.coco import decode_run_lengths
from service.integrations.label_studio import brush, learning, routes
from tests.integrations.theirs import BOXES, CONFIG, PATH, Json, happened, painted
from tests.service.in_test_worker import InTestWorker, token
from tests.service.serving import assert_problem

CAR = "label-studio-7-car"
SIZE = (64, 48)
LEFT = np.zeros(SIZE, np.bool_)
LEFT[10:50, :20] = True
RIGHT = LEFT[:, ::-1]


def brushed(mask: np.ndarray, label: str = "Car") -> Json:
    return painted(mask, brush.encoded(mask), label)


def outlined(label: str, *points: tuple[float, float]) -> Json:
    value = {"points": [*map(list, points)], "polygonlabels": [label]}
    return {**brushed(LEFT), "type": "polygonlabels", "from_name": "outline", "value": value}


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine an answer takes longer than Label Studio waits."""
    monkeypatch.setattr(routes, "ANSWERED_WITHIN", 15.0)


@pytest.fixture
async def image(online: httpx2.AsyncClient, worker: InTestWorker) -> str:
    """A job with an image of 64x48."""
    return (await worker.end((await online.post("/v1/generate", json={"prompt": "a car"})).json()["id"])).id


async def told(client: httpx2.AsyncClient, body: Json) -> Json:
    answer = await client.post(f"{PATH}/webhook", json=body)
    assert answer.status_code == 201, answer.text
    assert answer.json()["status"] == "ok"
    return answer.json()["result"]


async def lesson(worker: InTestWorker, outcome: Json) -> tuple[JobRecord, OptimizeJob, list[np.ndarray]]:
    """The job that learns a label, and the masks of its examples."""
    record = await worker.ledger.get(outcome["job"])
    assert isinstance(record.request, OptimizeJob)
    masks = [decode_run_lengths(example.mask.model_dump()) for example in record.request.examples]  # type: ignore[missing-attribute]
    return record, record.request, masks


async def test_an_annotation_is_an_example_of_each_label_that_it_shows(
    online: httpx2.AsyncClient, worker: InTestWorker, image: str
) -> None:
    hat = outlined("Hat", (0, 0), (100, 0), (100, 50), (0, 50))
    regions = (brushed(LEFT), brushed(RIGHT), hat, brushed(LEFT, "Unsure"))
    found = await told(online, happened("ANNOTATION_CREATED", image, *regions))
    assert {label: each["token"] for label, each in found.items()} == {"Car": CAR, "Hat": "label-studio-7-hat"}
    _, job, masks = await lesson(worker, found["Car"])
    assert (job.name, job.classes, job.initial[0].model_dump()) == (CAR, ["Car"], {"word": "car"})
    assert np.array_equal(masks[0], LEFT | RIGHT)
    _, _, masks = await lesson(worker, found["Hat"])
    assert np.array_equal(masks[0], np.arange(64)[:, None] < 32 + np.zeros(48))


async def test_a_changed_annotation_counts_once_and_the_job_that_waits_gives_way(
    online: httpx2.AsyncClient, worker: InTestWorker, image: str
) -> None:
    first = (await told(online, happened("ANNOTATION_CREATED", image, brushed(LEFT))))["Car"]
    await worker.publish_token(token(CAR, classes=("Car",)))
    second = (await told(online, happened("ANNOTATION_UPDATED", image, brushed(RIGHT))))["Car"]
    assert (await worker.ledger.get(first["job"])).state is State.CANCELED
    _, job, masks = await lesson(worker, second)
    assert job.initial[0].model_dump() == {"token": f"{CAR}@1", "class_name": "Car"}
    assert [mask.tolist() for mask in masks] == [RIGHT.tolist()]
    await worker.begin(second["job"])
    third = (await told(online, happened("ANNOTATION_CREATED", image, brushed(LEFT), annotation=2)))["Car"]
    assert (await worker.ledger.get(second["job"])).state is State.RUNNING  # what has begun ends
    _, _, masks = await lesson(worker, third)
    assert [mask.tolist() for mask in masks] == [LEFT.tolist(), RIGHT.tolist()]

    training = await told(online, happened("START_TRAINING"))
    _, job, masks = await lesson(worker, training["Car"])
    assert (job.initial[0].model_dump(), len(masks)) == ({"word": "car"}, 2)
    assert training["Hat"]["error"] == "no annotated image is kept of it"

    assert await told(online, happened("ANNOTATION_UPDATED", image, annotation=2)) == {}  # it shows the label no more
    gone = await told(online, happened("ANNOTATIONS_DELETED", annotation=1))
    assert gone == {"Car": {"token": CAR, "error": "no annotated image is kept of it"}}


async def test_a_label_teaches_the_token_that_it_names_unless_that_may_not_change(
    online: httpx2.AsyncClient, worker: InTestWorker, image: str
) -> None:
    await worker.publish_token(token("logo"), token("pair", classes=("a", "Car")))
    drawn = happened("ANNOTATION_CREATED", image, brushed(LEFT), config=CONFIG.replace('ovam="car"', 'ovam="logo"'))
    assert (await told(online, drawn))["Car"]["token"] == "logo"  # noqa: S105
    for kept in ("logo@1", "pair"):
        drawn = happened("ANNOTATION_CREATED", image, brushed(LEFT), config=CONFIG.replace('ovam="car"', f'ovam="{kept}"'))
        assert await told(online, drawn) == {}
    afresh = happened("START_TRAINING")
    afresh["project"]["label_config"] = CONFIG.replace('ovam="car"', 'ovam="logo"')
    _, job, _ = await lesson(worker, (await told(online, afresh))["Car"])
    assert job.initial[0].model_dump() == {"word": "Car"}  # no word is the name of a token


async def test_the_newest_examples_are_enough_and_a_job_that_a_worker_has_is_left_to_it(
    online: httpx2.AsyncClient, worker: InTestWorker, image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learning, "MOST_EXAMPLES", 1)
    first = (await told(online, happened("ANNOTATION_CREATED", image, brushed(LEFT))))["Car"]
    await worker.claim(first["job"])
    second = (await told(online, happened("ANNOTATION_CREATED", image, brushed(RIGHT), annotation=2)))["Car"]
    _, _, masks = await lesson(worker, second)
    assert [mask.tolist() for mask in masks] == [RIGHT.tolist()]
    assert (await worker.ledger.get(first["job"])).state is State.QUEUED


async def test_why_nothing_is_learned_after_an_answer_is_logged() -> None:
    async def failing() -> dict[str, learning.Outcome]:
        raise ServiceError(Code.MASK_UNREADABLE, "torn")

    with capture_logs() as logs:
        await routes.finished(asyncio.create_task(failing()))
    assert [(each["event"], each["code"], each["detail"]) for each in logs] == [
        ("label-studio-not-learned", Code.MASK_UNREADABLE, "torn")
    ]


async def test_what_teaches_nothing_says_so(online: httpx2.AsyncClient, worker: InTestWorker, image: str) -> None:
    full = await told(online, happened("ANNOTATION_CREATED", image, brushed(np.ones(SIZE, np.bool_))))
    assert "mask-full" in full["Car"]["error"]
    assert "mask-empty" not in str(await told(online, happened("ANNOTATION_UPDATED", image, brushed(np.zeros(SIZE, np.bool_)))))
    assert await told(online, happened("ANNOTATION_CREATED", image, brushed(LEFT), was_cancelled=True)) == {}
    unknown = await online.post(f"{PATH}/webhook", json=happened("TASKS_CREATED"))
    assert (unknown.status_code, unknown.json()) == (200, {"status": "Unknown event"})
    torn = brushed(LEFT) | {"original_height": 65}
    assert_problem(await online.post(f"{PATH}/webhook", json=happened("ANNOTATION_CREATED", image, torn)), 422, "mask-unreadable")
    line = outlined("Hat", (0, 0), (1, 1))
    assert_problem(await online.post(f"{PATH}/webhook", json=happened("ANNOTATION_CREATED", image, line)), 422, "mask-unreadable")
    box = {
        **brushed(LEFT),
        "type": "rectanglelabels",
        "value": {"x": 0, "y": 0, "width": 50, "height": 100, "rectanglelabels": ["Car"]},
    }
    found = await told(online, happened("ANNOTATION_CREATED", image, box, config=BOXES))
    _, _, masks = await lesson(worker, found["Car"])
    assert np.array_equal(masks[0], np.zeros((64, 1)) + np.arange(48) < 24)


async def test_an_image_that_nobody_looked_at_is_learned_from_after_the_answer(
    online: httpx2.AsyncClient, worker: InTestWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routes, "ANSWERED_WITHIN", 0.1)
    pixel = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="
    answer = await told(online, happened("ANNOTATION_CREATED", f"data:image/png;base64,{pixel}", brushed(LEFT)))
    assert "first" in answer
    async with asyncio.timeout(60):
        while not (waiting := [job for job, *_ in [await worker.ledger.newest(None, 1)] for job in job]):
            await asyncio.sleep(0.02)
        await worker.end(waiting[0].id)
        while (newest := (await worker.ledger.newest(None, 1))[0][0]).kind != "optimize":
            await asyncio.sleep(0.02)
    assert newest.request is not None
    assert newest.request.name == CAR  # type: ignore[missing-attribute]
