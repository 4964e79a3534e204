import hashlib

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.schema.errors import ServiceError
from contracts.state import keys
from service import artifacts
from service.artifacts import asked_range
from tests.service.in_test_worker import IMAGE, InTestWorker
from tests.service.serving import assert_problem


@pytest.fixture
def url(generated: str) -> str:
    return f"/v1/jobs/{generated}/artifacts/image-0.png"


async def test_an_artifact_comes_whole_with_its_type_its_tag_and_leave_to_keep_it(client: httpx2.AsyncClient, url: str) -> None:
    answer = await client.get(url)
    assert (answer.status_code, answer.content) == (200, IMAGE)
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["content-length"] == str(len(IMAGE))
    assert answer.headers["etag"] == f'"{hashlib.sha256(IMAGE).hexdigest()}"'
    assert answer.headers["cache-control"] == "private, max-age=31536000, immutable"
    assert answer.headers["accept-ranges"] == "bytes"


async def test_who_has_it_already_gets_nothing(client: httpx2.AsyncClient, url: str) -> None:
    tag = (await client.get(url)).headers["etag"]
    for known in (tag, f'"other", {tag}', f"W/{tag}", "*"):
        answer = await client.get(url, headers={"If-None-Match": known})
        assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", tag)
    assert (await client.get(url, headers={"If-None-Match": '"other"'})).status_code == 200


@pytest.mark.parametrize(
    ("wanted", "start", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=10-19", 10, 20),
        ("bytes=2000-", 2000, 2048),
        ("bytes=-5", 2043, 2048),
        ("bytes=0-9999", 0, 2048),
        ("bytes=-9999", 0, 2048),
    ],
)
async def test_a_part_is_served(client: httpx2.AsyncClient, url: str, wanted: str, start: int, end: int) -> None:
    answer = await client.get(url, headers={"Range": wanted})
    assert (answer.status_code, answer.content) == (206, IMAGE[start:end])
    assert answer.headers["content-range"] == f"bytes {start}-{end - 1}/2048"


@pytest.mark.parametrize("wanted", ["bytes=2048-", "bytes=5000-6000", "bytes=-0"])
async def test_a_part_beyond_the_end_is_refused(client: httpx2.AsyncClient, url: str, wanted: str) -> None:
    answer = await client.get(url, headers={"Range": wanted})
    assert_problem(answer, 416, "range-not-satisfiable", "Range")
    assert answer.headers["content-range"] == "bytes */2048"


@pytest.mark.parametrize("wanted", ["bytes=5-1", "bytes=a-b", "items=0-1", "bytes=0-1,4-5", "bytes=-", ""])
async def test_a_range_that_is_none_gives_the_whole(client: httpx2.AsyncClient, url: str, wanted: str) -> None:
    answer = await client.get(url, headers={"Range": wanted})
    assert (answer.status_code, answer.content) == (200, IMAGE)


async def test_a_part_of_something_else_gives_the_whole(client: httpx2.AsyncClient, url: str) -> None:
    tag = (await client.get(url)).headers["etag"]
    assert (await client.get(url, headers={"Range": "bytes=0-1", "If-Range": '"other"'})).status_code == 200
    assert (await client.get(url, headers={"Range": "bytes=0-1", "If-Range": tag})).status_code == 206


async def test_a_large_artifact_comes_in_pieces(client: httpx2.AsyncClient, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artifacts, "PIECE", 100)
    assert (await client.get(url)).content == IMAGE
    assert (await client.get(url, headers={"Range": "bytes=50-349"})).content == IMAGE[50:350]


async def test_an_empty_artifact_comes_empty(client: httpx2.AsyncClient, generated: str) -> None:
    answer = await client.get(f"/v1/jobs/{generated}/artifacts/empty.npy")
    assert (answer.status_code, answer.content, answer.headers["content-length"]) == (200, b"", "0")


async def test_an_unknown_artifact_is_refused_and_the_known_ones_are_named(client: httpx2.AsyncClient, generated: str) -> None:
    found = assert_problem(await client.get(f"/v1/jobs/{generated}/artifacts/nothing.png"), 404, "unknown-artifact", "name")
    assert "image-0.png, image-1.png" in found["detail"]
    assert_problem(await client.get(f"/v1/jobs/{generated}/artifacts/manifest.json"), 404, "unknown-artifact", "name")


async def test_the_artifacts_are_those_of_the_attempt_that_ended_well(client: httpx2.AsyncClient, worker: InTestWorker) -> None:
    job_id = (await client.post("/v1/generate", json={"prompt": "a car"})).json()["id"]
    await worker.begin(job_id)
    await worker.store.put(f"{keys.attempt_folder(job_id, 1)}/image-0.png", b"half an image")
    await worker.begin(job_id)
    assert (await worker.end(job_id)).attempt == 2
    assert (await client.get(f"/v1/jobs/{job_id}/artifacts/image-0.png")).content == IMAGE


async def test_a_job_that_is_not_finished_has_no_artifacts_yet(client: httpx2.AsyncClient, worker: InTestWorker) -> None:
    job_id = (await client.post("/v1/generate", json={"prompt": "a car"})).json()["id"]
    answer = await client.get(f"/v1/jobs/{job_id}/artifacts/image-0.png")
    assert_problem(answer, 409, "job-not-finished", "job_id")
    assert answer.headers["retry-after"] == "1"
    await worker.fail(job_id, "no")
    assert_problem(await client.get(f"/v1/jobs/{job_id}/artifacts/image-0.png"), 404, "unknown-artifact")


@given(st.text(alphabet="bytes=-,0123456789 ", max_size=30) | st.from_regex(r"bytes=\d{0,5}-\d{0,5}"), st.integers(0, 10_000))
def test_a_range_is_always_inside_the_artifact_and_never_empty(wanted: str, size: int) -> None:
    try:
        part = asked_range(wanted, size)
    except ServiceError:
        return
    if part:
        assert 0 <= part[0] < part[1] <= size


@pytest.mark.parametrize("wanted", ["{}-", "0-{}", "-{}"])
async def test_a_range_of_thousands_of_digits_is_no_range(client: httpx2.AsyncClient, generated: str, wanted: str) -> None:
    header = {"Range": f"bytes={wanted.format('9' * 5000)}"}
    answer = await client.get(f"/v1/jobs/{generated}/artifacts/image-0.png", headers=header)
    assert (answer.status_code, answer.content) == (200, IMAGE)
