"""What is at a place, asked over HTTP."""

from typing import Any

import httpx2
import pytest

from contracts.schema.probe import ProbeJob
from service.prompts import Prompt
from service.validation import probe
from tests.service.in_test_worker import InTestWorker
from tests.service.serving import Traces, assert_problem

HERE = {"point": [47, 63]}
WORDS = {"words": ["car", "cat"]}


async def test_a_probe_is_a_job_of_its_own_with_its_prompt_filled_in(
    client: httpx2.AsyncClient, generated: str, worker: InTestWorker
) -> None:
    answer = await client.post(f"/v1/jobs/{generated}/probe", json=HERE | WORDS | {"image": 1})
    assert answer.status_code == 202, answer.text
    record = answer.json()
    assert (record["kind"], answer.headers["location"]) == ("probe", f"/v1/jobs/{record['id']}")
    request = ProbeJob.model_validate(record["request"])
    assert (request.job_id, request.image, request.words) == (generated, 1, ["car", "cat"])
    assert (request.prompt, request.box, request.model) == ("a photograph of a car, a cat", (47, 63, 1, 1), "tiny")
    assert (await worker.end(record["id"])).state == "succeeded"


@pytest.mark.parametrize(
    ("given", "words"),
    [({"prompt": "a car, a Car and 2 cats"}, ["a", "car", "and", "2", "cats"]), ({"prompt": "car", "words": ["CAR"]}, ["CAR"])],
)
async def test_the_words_are_those_given_or_all_of_the_prompt(
    client: httpx2.AsyncClient, generated: str, given: dict[str, Any], words: list[str]
) -> None:
    job = (await client.post(f"/v1/jobs/{generated}/probe", json={"box": [1, 2, 3, 4]} | given)).json()["request"]
    assert (job["words"], job["prompt"], job["box"]) == (words, given["prompt"], [1, 2, 3, 4])


async def test_a_word_of_the_prompt_that_the_tokenizer_drops_is_left_out(
    client: httpx2.AsyncClient, generated: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "fitting", lambda *_, **__: Prompt("a car", 3, ((0, 1),)))
    job = (await client.post(f"/v1/jobs/{generated}/probe", json={"point": [0, 0], "prompt": "a car"})).json()["request"]
    assert job["words"] == ["a"]


GOOD: list[dict[str, Any]] = [
    HERE | {"prompt": "a car and a cat"},
    HERE | {"prompt": "A Car, a cat", "words": ["car", "a  CAT"]},
    {"box": [0, 0, 48, 64]} | WORDS,
    {"box": [47, 63, 1, 1]} | WORDS | {"padding": "max_length", "heads": 0, "evaluations": {"stop": 3}},
    {"box": [0, 0, 1, 1]} | WORDS | {"blocks": ["down", 4], "evaluations": 0.5, "heads": [0, -1]},
]


@pytest.mark.parametrize("body", GOOD)
async def test_a_place_is_a_pixel_or_a_box_and_words_come_alone_or_with_a_prompt(
    client: httpx2.AsyncClient, generated: str, body: dict[str, Any]
) -> None:
    answer = await client.post(f"/v1/jobs/{generated}/probe", json=body)
    assert answer.status_code == 202, answer.text
    job = answer.json()["request"]
    choices = {name: body[name] for name in ("padding", "blocks", "heads") if name in body}
    assert choices == {name: job[name] for name in choices}
    assert (job["evaluations"] == "all") is ("evaluations" not in body)


BAD: dict[str, tuple[dict[str, Any], str, str]] = {
    "no place": (WORDS, "invalid-request", "body"),
    "two places": (HERE | WORDS | {"box": [0, 0, 1, 1]}, "invalid-request", "body"),
    "no words": (HERE, "invalid-request", "body"),
    "a word twice": (HERE | {"words": ["car", "cat", "Car"]}, "invalid-request", "words"),
    "an empty word": (HERE | {"words": ["car", " "]}, "invalid-request", "words.1"),
    "too many words": (HERE | {"words": [f"w{number}" for number in range(65)]}, "invalid-request", "words"),
    "a negative pixel": ({"point": [-1, 0]} | WORDS, "invalid-request", "point.0"),
    "an empty box": ({"box": [0, 0, 0, 1]} | WORDS, "invalid-request", "box.2"),
    "a pixel on the right": ({"point": [48, 0]} | WORDS, "region-outside-image", "point"),
    "a pixel below": ({"point": [0, 64]} | WORDS, "region-outside-image", "point"),
    "a wide box": ({"box": [1, 0, 48, 1]} | WORDS, "region-outside-image", "box"),
    "a high box": ({"box": [0, 0, 1, 65]} | WORDS, "region-outside-image", "box"),
    "a box far away": ({"box": [2**70, 0, 1, 1]} | WORDS, "region-outside-image", "box"),
    "a word that is not there": (HERE | {"prompt": "a car", "words": ["car", "cat"]}, "word-not-in-prompt", "words.1"),
    "a part of a word": (HERE | {"prompt": "a scar", "words": ["car"]}, "word-not-in-prompt", "words.0"),
    "a prompt without words": (HERE | {"prompt": "..."}, "word-not-in-prompt", "prompt"),
    "a long prompt": (HERE | {"prompt": "long " * 20}, "prompt-too-long", "prompt"),
    "many words": (HERE | {"words": ["long", "longer", "by far the longest"]}, "prompt-too-long", "words"),
    "no such image": (HERE | WORDS | {"image": 2}, "image-index-out-of-range", "image"),
    "no such block": (HERE | WORDS | {"blocks": ["left"]}, "selection-invalid", "blocks"),
    "no such evaluation": (HERE | WORDS | {"evaluations": 30}, "selection-invalid", "evaluations"),
    "no such head": (HERE | WORDS | {"heads": 2}, "selection-invalid", "heads"),
}


@pytest.mark.parametrize(("body", "code", "field"), BAD.values(), ids=BAD.keys())
async def test_a_bad_probe_is_refused_and_leaves_no_trace(
    client: httpx2.AsyncClient, generated: str, traces: Traces, body: dict[str, Any], code: str, field: str
) -> None:
    before = await traces()
    assert_problem(await client.post(f"/v1/jobs/{generated}/probe", json=body), 422, code, field)
    assert await traces() == before


async def test_the_job_must_be_one_with_images(client: httpx2.AsyncClient, generated: str, worker: InTestWorker) -> None:
    assert_problem(await client.post("/v1/jobs/nonsense/probe", json=HERE | WORDS), 422, "invalid-request", "job_id")
    assert_problem(await client.post(f"/v1/jobs/{'0' * 26}/probe", json=HERE | WORDS), 404, "unknown-job", "job_id")
    waiting = (await client.post("/v1/generate", json={"prompt": "a car"})).json()["id"]
    assert_problem(await client.post(f"/v1/jobs/{waiting}/probe", json=HERE | WORDS), 409, "job-not-finished", "job_id")
    probe = (await client.post(f"/v1/jobs/{generated}/probe", json=HERE | WORDS)).json()["id"]
    await worker.end(probe)
    assert_problem(await client.post(f"/v1/jobs/{probe}/probe", json=HERE | WORDS), 422, "wrong-job-kind", "job_id")


async def test_a_key_is_of_one_job_and_one_place(client: httpx2.AsyncClient, generated: str) -> None:
    path, headers = f"/v1/jobs/{generated}/probe", {"Idempotency-Key": "k1"}
    first = await client.post(path, json=HERE | WORDS, headers=headers)
    assert (await client.post(path, json=HERE | WORDS, headers=headers)).json() == first.json()
    assert_problem(await client.post(path, json={"point": [0, 0]} | WORDS, headers=headers), 422, "idempotency-key-reused")
    elsewhere = await client.post(f"/v1/jobs/{'0' * 26}/probe", json=HERE | WORDS, headers=headers)
    assert_problem(elsewhere, 422, "idempotency-key-reused")
