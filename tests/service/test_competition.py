"""Targets that compete: what the gateway makes of `softmax` and `distractors`, and what it refuses."""

import httpx2
import pytest

from tests.service.in_test_worker import InTestWorker, token
from tests.service.serving import Json, Traces, assert_problem

CAR, TREE = {"word": "car"}, {"word": "tree"}
ROW = {"label": "row", "embedding": [[0.5] * 8, [1.0] * 8]}
PHRASE = {"prompt": "a car and a car", "word": "car", "occurrence": 1}


@pytest.fixture
async def source(worker: InTestWorker, generated: str) -> str:
    """A job with an image, beside tokens of this model and of another."""
    await worker.publish_token(token("foreign", model="other"), token("pets", classes=("cat", "dog")), token("car"))
    return generated


async def job_of(client: httpx2.AsyncClient, source: str, **body: object) -> Json:
    """The job that a request becomes."""
    answer = await client.post("/v1/attribute", json={"job_id": source, **body})
    assert answer.status_code == 202, answer.text
    return answer.json()["request"]


async def test_each_target_has_a_softmax_of_its_own_unless_the_request_says_otherwise(
    client: httpx2.AsyncClient, source: str
) -> None:
    job = await job_of(client, source, targets=[CAR, CAR])
    assert (job["softmax"], job["distractors"]) == ("each", [])
    assert await job_of(client, source, targets=[CAR, CAR], softmax="each", distractors=[]) == job


async def test_distractors_are_filled_in_as_targets_are(client: httpx2.AsyncClient, source: str) -> None:
    distractors = [TREE, PHRASE, {"token": "pets", "class_name": "dog"}, {"token": "car", "label": "it"}, ROW]
    job = await job_of(client, source, targets=[CAR], softmax="together", distractors=distractors)
    words = {"label": "tree", "prompt": "a photograph of a tree", "word": "tree", "occurrence": None, "settings": None}
    assert (job["softmax"], job["distractors"]) == (
        "together",
        [
            words,
            PHRASE | {"label": "car", "settings": None},
            {"token": "pets@1", "class_name": "dog", "label": "dog", "settings": None},
            {"token": "car@1", "class_name": "car", "label": "it", "settings": None},
            ROW | {"rows": [1], "settings": None},
        ],
    )


@pytest.mark.parametrize(
    "body",
    [
        {"targets": [CAR, TREE]},
        {"targets": [CAR], "distractors": [TREE]},
        {"targets": [CAR, CAR | {"settings": {"threshold": {"kind": "otsu"}}}], "distractors": [TREE]},
        {"targets": [CAR, {"token": "car"}, ROW], "distractors": [PHRASE, PHRASE | {"occurrence": 0}]},
        {"targets": [{"token": "pets", "class_name": "cat"}], "distractors": [{"token": "pets", "class_name": "dog"}]},
        {"targets": [{"word": f"{number}"} for number in range(64)], "distractors": [{"word": f"x{n}"} for n in range(64)]},
    ],
)
async def test_whatever_differs_competes(client: httpx2.AsyncClient, source: str, body: Json) -> None:
    job = await job_of(client, source, softmax="together", **body)
    assert [len(job["targets"]), len(job["distractors"])] == [len(body["targets"]), len(body.get("distractors", []))]


async def test_a_job_sent_again_is_the_same_job(client: httpx2.AsyncClient, source: str) -> None:
    job = await job_of(client, source, targets=[CAR], softmax="together", distractors=[TREE, {"token": "car"}, ROW])
    again = {"targets": [each["target"] for each in job["targets"]]} | {name: job[name] for name in ("softmax", "distractors")}
    assert (await job_of(client, source, **again)) == job


AS_WELL = "; allowed: what is no target and no other distractor"
LONE = "`softmax` is 'together', and nothing else competes; allowed: 'each', or a further target or distractor"
CONTRADICTIONS = [
    ({"softmax": "together"}, "softmax", "together", LONE),
    ({"softmax": "together", "targets": [CAR, {"word": "Car"}]}, "softmax", "together", LONE),
    (
        {"distractors": [TREE]},
        "distractors",
        1,
        "`distractors` has 1; allowed with `softmax` 'each': none (with 'together' they compete)",
    ),
    (
        {"softmax": "together", "distractors": [TREE, CAR]},
        "distractors.1",
        "car",
        f"`distractors.1` is 'car', as `targets.0` is{AS_WELL}",
    ),
    (
        {"softmax": "together", "distractors": [{"prompt": "a Photograph of a car", "word": "CAR", "label": "it"}]},
        "distractors.0",
        "it",
        f"`distractors.0` is 'it', as `targets.0` is{AS_WELL}",
    ),
    (
        {"softmax": "together", "distractors": [TREE, {"token": "car"}, {"token": "car@1"}]},
        "distractors.2",
        "car",
        f"`distractors.2` is 'car', as `distractors.1` is{AS_WELL}",
    ),
    (
        {"softmax": "together", "distractors": [ROW, ROW | {"label": "again", "rows": [1]}]},
        "distractors.1",
        "again",
        f"`distractors.1` is 'again', as `distractors.0` is{AS_WELL}",
    ),
    (
        {"softmax": "together", "distractors": [TREE | {"settings": {"fill_holes": True}}]},
        "distractors.0.settings",
        "{'fill_holes': True}",
        "`distractors.0.settings` is {'fill_holes': True}; allowed: none, since a distractor gets no mask",
    ),
]


@pytest.mark.parametrize(
    ("body", "field", "value", "detail"),
    CONTRADICTIONS,
    ids=[f"{field}-{n}" for n, (_, field, _, _) in enumerate(CONTRADICTIONS)],
)
async def test_competitors_that_change_nothing_are_refused(
    client: httpx2.AsyncClient, source: str, traces: Traces, body: Json, field: str, value: object, detail: str
) -> None:
    before = await traces()
    answer = await client.post("/v1/attribute", json={"job_id": source, "targets": [CAR]} | body)
    problem = assert_problem(answer, 422, "settings-contradict", field)
    assert problem["detail"] == detail
    assert problem["errors"] == [{"field": field, "detail": detail, "value": value}]
    assert await traces() == before


BAD_DISTRACTORS = [
    ({"word": ""}, 422, "invalid-request", "distractors.0.word"),
    ({"word": "  "}, 422, "invalid-request", "distractors.0.word"),
    ({"label": "x"}, 422, "invalid-request", "distractors.0"),
    ("tree", 422, "invalid-request", "distractors.0"),
    (TREE | {"words": "x"}, 422, "invalid-request", "distractors.0.words"),
    ({"prompt": "a scar", "word": "car"}, 422, "word-not-in-prompt", "distractors.0.word"),
    (PHRASE | {"occurrence": 2}, 422, "word-not-in-prompt", "distractors.0.occurrence"),
    ({"word": "long" * 20}, 422, "prompt-too-long", "distractors.0.word"),
    ({"token": "nobody"}, 404, "unknown-token", "distractors.0.token"),
    ({"token": "foreign"}, 422, "token-of-other-model", "distractors.0.token"),
    ({"token": "pets"}, 422, "unknown-class", "distractors.0.class_name"),
    (ROW | {"embedding": [[0.0] * 9] * 2}, 422, "embedding-of-other-width", "distractors.0.embedding"),
]


@pytest.mark.parametrize(("distractor", "status", "code", "field"), BAD_DISTRACTORS)
async def test_a_bad_distractor_is_refused_by_its_field(
    client: httpx2.AsyncClient, source: str, distractor: object, status: int, code: str, field: str
) -> None:
    body = {"job_id": source, "targets": [CAR], "softmax": "together", "distractors": [distractor]}
    assert_problem(await client.post("/v1/attribute", json=body), status, code, field)


async def test_there_are_64_distractors_at_most_and_two_kinds_of_softmax(client: httpx2.AsyncClient, source: str) -> None:
    for body, field, allowed in (
        ({"softmax": "together", "distractors": [{"word": f"x{n}"} for n in range(65)]}, "distractors", "at most 64 items"),
        ({"softmax": "both"}, "softmax", "'each' or 'together'"),
    ):
        answer = await client.post("/v1/attribute", json={"job_id": source, "targets": [CAR], **body})
        (error,) = assert_problem(answer, 422, "invalid-request", field)["errors"]
        assert allowed in error["detail"]
