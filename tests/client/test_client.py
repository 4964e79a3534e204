"""The client that awaits, against a real gateway. The one that blocks is written from it; what differs has tests of its own."""

import asyncio
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from PIL import Image

from contracts.schema.access import KeyCard
from contracts.schema.jobs import utc_now
from contracts.schema.previews import Preview, PreviewMask
from contracts.state import keys
from contracts.state.keyring import Keyring
from ovam_client import (
    AccessError,
    AddressError,
    AsyncClient,
    BusyError,
    Code,
    ConflictError,
    Example,
    InvalidRequestError,
    JobCanceledError,
    JobExpiredError,
    JobFailedError,
    NotFinishedError,
    NotFoundError,
    OvamServiceError,
    Patience,
    Progress,
    UnexpectedAnswerError,
    UnreachableError,
    WaitTimeoutError,
    picture_of,
    pictures,
)
from service.app import create_app
from service.settings import GatewaySettings
from tests.client.conftest import Line
from tests.conftest import free_port
from tests.service.in_test_worker import InTestWorker, card, token
from tests.service.serving import Traces, served

pytestmark = pytest.mark.usefixtures("worker")


async def run(worker: InTestWorker, job_id: str, steps: int = 3) -> None:
    """Carry out a job, with a report for each step."""
    await worker.begin(job_id)
    for done in range(1, steps + 1):
        await worker.step(job_id, done)
    await worker.end(job_id)


async def test_a_job_is_waited_for_step_by_step(client: AsyncClient, worker: InTestWorker) -> None:
    job = await client.generate("a red car", seed=7, num_images=2)
    assert (job.kind, job.state, job.final) == ("generate", "queued", False)
    with pytest.raises(NotFinishedError, match="wait"):
        _ = job.result
    seen: list[tuple[int, int]] = []
    waiting = asyncio.create_task(job.wait(lambda progress: seen.append((progress.done, progress.total))))
    await run(worker, job.id)
    assert await waiting is job
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert [image.seed for image in job.result.images] == [7, 8]
    assert repr(job) == f"<generate job {job.id}: succeeded>"
    assert len(await client.download(job.result.images[0].image)) == 2048
    assert await job.wait() is job  # it has ended: nothing is asked for


async def test_words_tokens_and_targets_with_options_are_asked_for_together(client: AsyncClient, worker: InTestWorker) -> None:
    await worker.publish_token(token("car"))
    job = await client.generate("a red car")
    await worker.end(job.id)
    card = await client.tokens.get("car")
    asking = asyncio.create_task(
        job.attribute("wheel", {"word": "roof", "label": "top"}, card, softmax="together", distractors=["sky"])
    )
    async for other in listed(client, kind="attribute"):
        await worker.end(other)
    segments = await asking
    assert [segment.label for segment in segments] == ["wheel", "top", "car"]
    assert segments[0].mask.shape == (64, 48)
    assert segments[0].mask.sum() == 1
    assert segments[0].data.target["word"] == "wheel"
    record = await client.jobs.get((await anext(aiter(client.jobs.list(kind="attribute")))).id)
    assert record.record.request is not None
    assert record.record.request["distractors"][0]["word"] == "sky"
    assert record.record.request["targets"][2]["target"].items() >= {"token": "car@1"}.items()


async def test_a_generation_with_targets_shows_itself_while_one_waits(client: AsyncClient, worker: InTestWorker) -> None:
    seen: list[Progress] = []
    job = await client.generate("a red car", targets=["wheel", {"word": "roof", "label": "top"}], every=1, num_images=2)
    waiting = asyncio.create_task(job.wait(seen.append))
    await worker.begin(job.id)
    black = f"data:image/png;base64,{pictures.file_of(Image.new('1', (4, 2)))}"
    masks = [PreviewMask(label="wheel", area=0.25, mask=black), PreviewMask(label="top", area=0, mask=None)]
    shown = None
    for made in (1, 2):
        preview = Preview(image=1, seed=8, evaluation=made, evaluations=3, picture=black, masks=masks)
        shown = await worker.show(job.id, preview, instead_of=shown)
        await asyncio.sleep(0.1)
    await worker.end(job.id)
    await waiting
    last = [each.preview for each in seen if each.preview is not None][-1]
    assert (last.image, last.evaluation, last.masks[0].area, last.masks[1].mask) == (1, 2, 0.25, None)
    assert picture_of(last.masks[0].mask or "").size == (4, 2)
    assert [segment.label for segment in job.segments] == ["wheel", "top"]
    assert job.segments_of(1)[0].mask.sum() == 1
    with pytest.raises(IndexError):
        job.segments_of(2)
    with pytest.raises(ValueError, match="allowed: data:image/"):
        picture_of("http://127.0.0.1/")


async def listed(client: AsyncClient, **options: Any) -> Any:
    """The ids of jobs that are there within two seconds."""
    for _ in range(100):
        found = [summary.id async for summary in client.jobs.list(**options) if summary.state == "queued"]
        if found:
            break
        await asyncio.sleep(0.02)
    for job_id in found:
        yield job_id


async def test_a_token_is_learned_from_masks_as_programs_have_them(client: AsyncClient, worker: InTestWorker) -> None:
    job = await client.generate("a red car")
    await worker.end(job.id)
    mask = np.zeros((64, 48), dtype=bool)
    mask[10:40, 10:30] = True
    learning = await client.learn("car", Example(job, mask=mask), Example(job.id, mask=[[10, 10, 30, 10, 30, 40]]), epochs=3)
    await worker.end(learning.id)
    result = (await learning.wait()).result
    assert (result.token, result.losses) == ("car@1", [0.7, 0.6, 0.5])
    assert [listing.name async for listing in client.tokens.list()] == ["car"]
    assert [version.version for version in await client.tokens.versions("car")] == [1]
    await client.tokens.rename("car", "auto")
    await client.tokens.delete("auto")
    assert [listing async for listing in client.tokens.list()] == []


async def test_classes_are_those_of_the_masks(client: AsyncClient, worker: InTestWorker) -> None:
    job = await client.generate("a cat and a dog")
    await worker.end(job.id)
    cat, dog = np.zeros((64, 48), dtype=np.uint8), np.zeros((64, 48), dtype=np.uint8)
    cat[:20], dog[40:] = 255, 255
    learning = await client.learn("pets", Example(job, masks={"cat": cat, "dog": dog}))
    assert learning.record.request is not None
    assert learning.record.request["classes"] == ["cat", "dog"]
    with pytest.raises(ValueError, match="one of mask, masks, labels"):
        await client.learn("pets", Example(job, mask=cat, masks={"cat": cat}))


async def test_a_real_image_comes_from_a_file_or_an_array(client: AsyncClient, tmp_path: Path) -> None:
    picture = np.zeros((32, 48, 3), dtype=np.uint8)
    (tmp_path / "real.png").write_bytes(b"no picture")
    job = await client.images.upload(picture, prompt="a photograph")
    assert job.kind == "image"
    assert job.record.request is not None
    assert job.record.request["upload"]["height"] == 32
    with pytest.raises(InvalidRequestError) as refused:
        await client.images.upload(tmp_path / "real.png")
    assert refused.value.code in (Code.IMAGE_UNREADABLE, Code.IMAGE_UNSUPPORTED)
    with pytest.raises(FileNotFoundError):
        await client.images.upload(tmp_path / "absent.png")
    with pytest.raises(ValueError, match="float64 of shape"):
        await client.images.upload(np.zeros((3, 4, 3)))  # type: ignore[bad-argument-type]


async def test_a_probe_ranks_words(client: AsyncClient, worker: InTestWorker) -> None:
    job = await client.generate("a red car")
    await worker.end(job.id)
    asking = asyncio.create_task(job.probe(point=(3, 4), words=["car", "sky"]))
    async for other in listed(client, kind="probe"):
        await worker.end(other)
    assert [word.word for word in await asking] == ["car", "sky"]


async def test_listings_go_on_over_all_pages(client: AsyncClient, worker: InTestWorker) -> None:
    await worker.publish_token(*(token(f"t{number:03}") for number in range(130)))
    assert len([listing async for listing in client.tokens.list()]) == 130


async def test_models_and_methods_are_told(client: AsyncClient) -> None:
    assert [model.name for model in await client.models()] == [card().name]
    assert "ovam" in [method.name for method in await client.methods()]


# what goes wrong


async def test_a_job_that_fails_is_an_error_with_its_code(client: AsyncClient, worker: InTestWorker) -> None:
    job = await client.generate("a red car")
    await worker.fail(job.id, "the worker ran out of memory")
    with pytest.raises(JobFailedError, match="ran out of memory") as failed:
        await job.wait()
    assert failed.value.code == Code.OUT_OF_MEMORY
    assert failed.value.record.id == job.id


async def test_a_job_that_is_canceled_is_an_error_and_canceling_twice_is_none(client: AsyncClient) -> None:
    job = await client.generate("a red car")
    assert (await job.cancel()).state == "canceled"
    assert (await job.cancel()).state == "canceled"
    with pytest.raises(JobCanceledError):
        await job.wait()
    await job.delete()
    with pytest.raises(NotFoundError) as gone:
        await job.refresh()
    assert gone.value.code == Code.UNKNOWN_JOB


async def test_a_refusal_names_code_field_and_value(client: AsyncClient) -> None:
    with pytest.raises(InvalidRequestError, match="num_inference_steps") as refused:
        await client.generate("a red car", num_inference_steps=0)
    assert (refused.value.code, refused.value.status) == (Code.INVALID_REQUEST, 422)
    assert [(error.field, error.value) for error in refused.value.errors] == [("num_inference_steps", 0)]
    job = await client.generate("a red car")
    with pytest.raises(ConflictError) as early:
        await client.attribute(job, "car")
    assert early.value.code == Code.JOB_NOT_FINISHED


async def test_a_wait_ends_when_its_time_is_over_and_the_job_goes_on(client: AsyncClient) -> None:
    job = await client.generate("a red car")
    with pytest.raises(WaitTimeoutError, match=r"within 0\.3 s"):
        await job.wait(timeout=0.3)
    assert (await job.refresh()).state == "queued"


@pytest.mark.parametrize("cancel", [True, False])
async def test_a_task_that_is_cancelled_cancels_its_job(client: AsyncClient, *, cancel: bool) -> None:
    job = await client.generate("a red car")
    waiting = asyncio.create_task(job.wait(cancel=cancel))
    await asyncio.sleep(0.2)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert (await job.refresh()).state == ("canceled" if cancel else "queued")


async def test_an_expired_job_is_an_error(client: AsyncClient, worker: InTestWorker, redis: Any) -> None:
    job = await client.generate("a red car")
    record = await worker.end(job.id)
    old = record.changed(expires_at=record.created_at)
    await redis.set(keys.job(job.id), old.model_dump_json())
    with pytest.raises(OvamServiceError) as gone:
        await job.wait()
    assert isinstance(gone.value, JobExpiredError | NotFoundError)
    assert gone.value.code == Code.JOB_EXPIRED


# bad connections


async def test_a_lost_answer_does_not_double_the_job(line: tuple[Line, str], traces: Traces) -> None:
    bad, address = line
    bad.faults = ["lose", "refuse", "lose"]
    async with AsyncClient(address, patience=Patience(away=10, busy=10)) as client:
        job = await client.generate("a red car")
    assert await traces() == (1, 1, 1, 1)
    assert job.state == "queued"
    assert bad.connections == 4


async def test_a_stream_that_breaks_goes_on_where_it_broke(line: tuple[Line, str], worker: InTestWorker) -> None:
    bad, address = line
    seen: list[int] = []
    async with AsyncClient(address) as client:
        job = await client.generate("a red car")
    bad.faults = ["cut", "refuse", "cut", "cut"]
    async with AsyncClient(address) as client:
        job = await client.jobs.get(job.id)  # its connection is cut by the stream's first event
        waiting = asyncio.create_task(job.wait(lambda progress: seen.append(progress.done)))
        await worker.begin(job.id)
        for done in (1, 2, 3):
            await asyncio.sleep(0.3)
            await worker.step(job.id, done)
        await worker.end(job.id)
        await asyncio.wait_for(waiting, 20)
    assert seen == [1, 2, 3]
    assert bad.connections >= 4


async def test_a_deletion_whose_answer_was_lost_is_done(line: tuple[Line, str]) -> None:
    bad, address = line
    async with AsyncClient(address) as client:
        job = await client.generate("a red car")
    bad.faults = ["", "lose"]
    async with AsyncClient(address) as client:
        found = await client.jobs.get(job.id)
    async with AsyncClient(address) as other:
        found.client = other
        await found.delete()
        with pytest.raises(NotFoundError):
            await found.delete()


async def test_too_many_requests_are_waited_for_as_long_as_is_said(line: tuple[Line, str]) -> None:
    bad, address = line
    bad.faults = ["busy"]
    begun = asyncio.get_running_loop().time()
    async with AsyncClient(address) as client:
        await client.generate("a red car")
    assert asyncio.get_running_loop().time() - begun >= 1


async def test_a_full_queue_is_waited_for_as_far_as_patience_goes(url: str, worker: InTestWorker) -> None:
    async with AsyncClient(url, patience=Patience(busy=1)) as client:
        jobs = [await client.generate("a red car") for _ in range(3)]
        with pytest.raises(BusyError) as full:
            await client.generate("a red car")
        assert (full.value.code, full.value.retry_after) == (Code.QUEUE_FULL, 5)
    async with AsyncClient(url) as client:
        waiting = asyncio.create_task(client.generate("a red car"))
        await asyncio.sleep(0.2)
        await worker.end(jobs[0].id)
        assert (await waiting).state == "queued"


async def test_the_same_idempotency_key_gives_the_same_job(client: AsyncClient) -> None:
    one = await client.submit("generate", {"prompt": "a red car"}, key="mine")
    other = await client.submit("generate", {"prompt": "a red car"}, key="mine")
    assert one.id == other.id
    with pytest.raises(InvalidRequestError) as refused:
        await client.submit("generate", {"prompt": "a blue car"}, key="mine")
    assert refused.value.code == Code.IDEMPOTENCY_KEY_REUSED


async def test_nobody_at_the_address_is_said_with_the_address() -> None:
    port = free_port()
    async with AsyncClient(f"http://127.0.0.1:{port}", patience=Patience(away=0.1)) as client:
        with pytest.raises(UnreachableError, match=f"http://127.0.0.1:{port} does not answer"):
            await client.models()


async def test_something_else_at_the_address_is_told_apart(url: str) -> None:
    async with AsyncClient(f"{url}/openapi.json?", patience=Patience(away=0.1)) as client:
        with pytest.raises(OvamServiceError):
            await client.models()

    async def other(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(other, "127.0.0.1", 0)
    async with server, AsyncClient(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}") as client:
        with pytest.raises(UnexpectedAnswerError, match="ModelList"):
            await client.models()


@pytest.mark.parametrize(("address", "key"), [("localhost:8000", None), ("ftp://host", None), ("http://", None), (None, "a\nb")])
def test_an_address_or_a_key_that_cannot_be_one_is_refused(address: str | None, key: str | None) -> None:
    with pytest.raises(AddressError):
        AsyncClient(address, key=key)


async def test_the_key_lets_in_and_is_shown_nowhere(
    settings: GatewaySettings, redis: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = KeyCard(name="me", tenant="me", scopes=["generate", "read"], created_at=utc_now())
    key = await Keyring(redis).create(made)
    async with served(create_app(settings.model_copy(update={"keys": "required"}))) as http:
        address = str(http.base_url)
        async with AsyncClient(address) as nobody:
            with pytest.raises(AccessError) as refused:
                await nobody.generate("a red car")
        assert (refused.value.code, refused.value.status) == (Code.UNAUTHENTICATED, 401)
        monkeypatch.setenv("OVAM_API_KEY", key)
        monkeypatch.setenv("OVAM_URL", address)
        async with AsyncClient() as client:
            assert (await client.generate("a red car")).record.tenant == "me"
            assert key not in f"{client!r} {client.address!r}"


async def test_below_a_proxy_s_path_files_are_found(settings: GatewaySettings, worker: InTestWorker) -> None:
    async with (
        served(create_app(settings.model_copy(update={"root_path": "/ovam"}))) as http,
        AsyncClient(f"{str(http.base_url).rstrip('/')}/ovam/") as client,
    ):
        job = await client.generate("a red car")
        await worker.end(job.id)
        file = (await job.wait()).result.images[0].image
        assert file.url.startswith("/ovam/v1/")
        assert len(await client.download(file)) == file.size


def test_no_error_of_the_http_library_leaves_the_client() -> None:
    assert not issubclass(OvamServiceError, httpx2.HTTPError)
