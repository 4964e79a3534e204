"""Where traces come from: each tier gives the same answer, and one that fails gives way to the next or says why."""

import asyncio
import re
import sys
from io import BytesIO
from typing import Any

import numpy as np
import pytest
import torch

import ovam
from contracts.schema.errors import Code
from contracts.schema.jobs import JobRecord, State
from contracts.state import keys, retention
from contracts.state.store import ArtifactStore
from ovam.core.methods import ByAffinity
from ovam.core.tensor_files import layout_of
from ovam.errors import NotReplayableError
from tests.worker.client import Client
from tests.worker.jobs import CAT
from worker import keeping
from worker.resources import Resources
from worker.scenes import Tiers
from worker.traces import Part

pytestmark = pytest.mark.usefixtures("worker")
QUERIES = {"keep": "queries", "self_attention": True}


async def heatmap(client: Client, record: JobRecord) -> np.ndarray:
    assert record.state is State.SUCCEEDED, record.error
    return np.load(BytesIO(await client.artifact(record, "heatmap-0.npy")))


def place(source: JobRecord, name: str) -> str:
    return f"{keys.attempt_folder(source.id, source.attempt)}/{name}"


async def test_by_default_a_replay_is_stored_and_the_next_question_is_answered_from_memory(
    client: Client, worker: Resources
) -> None:
    source = await client.generated()
    files = {artifact.name for artifact in await client.store.manifest(source.id, source.attempt)}
    assert files == {"image-0.png", keys.replay(0)}
    assert (source.result.keep, source.result.self_attention) == ("replay", True)
    assert source.result.images[0].trace_bytes == len(await client.artifact(source, keys.replay(0)))
    assert source.result.images[0].trace_bytes < worker.scenes.nbytes / 5
    before = await heatmap(client, await client.attributed(source))
    await client.store.delete(place(source, keys.replay(0)))
    assert np.array_equal(await heatmap(client, await client.attributed(source)), before)


@pytest.mark.parametrize("image", [0, 1])
async def test_the_first_question_after_a_restart_pays_a_replay_and_the_next_ones_nothing(
    client: Client, worker: Resources, image: int
) -> None:
    source = await client.generated(num_images=2)
    before = await heatmap(client, await client.attributed(source, image=image))
    worker.scenes.forget_model("tiny")
    after = await heatmap(client, await client.attributed(source, image=image))
    assert np.abs(after - before).max() <= 1e-5 * before.max()
    await client.store.delete(place(source, keys.replay(image)))
    assert np.array_equal(await heatmap(client, await client.attributed(source, image=image)), after)


async def test_refinement_that_nobody_foresaw_is_computed_from_the_replay(client: Client, worker: Resources) -> None:
    source = await client.generated()
    assert worker.scenes.get((source.id, 1, 0)).trace.self_attention
    plain = await client.attributed(source, CAT, settings={"refine": {"kind": "none"}})
    worker.scenes.forget_model("tiny")
    await client.attributed(source, CAT, settings={"refine": {"kind": "none"}})
    assert not worker.scenes.get((source.id, 1, 0)).trace.self_attention
    refined = await client.attributed(source, CAT, settings={"refine": {"kind": "affinity"}})
    assert worker.scenes.get((source.id, 1, 0)).trace.self_attention
    assert refined.request.targets[0].settings.refine == ByAffinity()
    assert (await heatmap(client, refined) == await heatmap(client, plain)).all()  # before refinement


@pytest.mark.parametrize("precision", keeping.PRECISIONS)
async def test_stored_queries_of_every_precision_answer_after_a_restart(
    client: Client, worker: Resources, precision: Any, caplog: pytest.LogCaptureFixture
) -> None:
    exact = await client.attributed(await client.generated())
    source = await client.generated(capture=QUERIES | {"precision": precision})
    assert (source.result.keep, source.result.self_attention) == ("queries", True)
    worker.scenes.forget_model("tiny")
    found = await client.attributed(source)
    expected = await heatmap(client, exact)
    assert np.abs(await heatmap(client, found) - expected).max() < {"bfloat16": 1e-2}.get(precision, 3e-3) * expected.max()
    kind = {"float16": "F16", "bfloat16": "BF16", "int8": "I8"}[precision]
    assert [each for each in caplog.records if each.name == "worker.traces"] == [], "no replay was looked for"
    layout = layout_of(await client.artifact(source, keys.trace(0)))
    assert {place.dtype for name, place in layout.places.items() if name.endswith("attn2")} == {kind}


@pytest.mark.parametrize("capture", [{}, {"keep": "queries"}], ids=["replay", "queries"])
async def test_only_what_a_question_wants_is_read_or_computed_and_it_grows_with_questions(
    client: Client, worker: Resources, capture: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = await client.generated(num_inference_steps=5, capture=capture)
    worker.scenes.forget_model("tiny")
    read: list[int] = []
    get_ranges = ArtifactStore.get_ranges

    async def counted(self: ArtifactStore, key: str, ranges: Any) -> Any:
        read.append(sum(end - start for start, end in ranges))
        return await get_ranges(self, key, ranges)

    monkeypatch.setattr(ArtifactStore, "get_ranges", counted)
    few = {"blocks": ["up_blocks.1"], "evaluations": [1, 3], "refine": {"kind": "none"}}
    await client.attributed(source, CAT, settings=few)
    part = Part.of(worker.scenes.get((source.id, 1, 0)).trace)
    assert (part.positions, {name.split(".attn")[0][:11] for name in part.blocks}) == ({1, 3}, {"up_blocks.1"})
    if capture:
        assert 0 < read[0] < 0.2 * source.result.images[0].trace_bytes
    assert (await client.attributed(source, CAT, settings=few | {"evaluations": [3]})).error is None
    await client.attributed(source, CAT, settings=few | {"blocks": ["down_blocks.0"], "evaluations": 0})
    grown = Part.of(worker.scenes.get((source.id, 1, 0)).trace)
    assert grown.covers(part)
    assert (grown.positions, len(read)) == ({0, 1, 3}, 2 if capture else 0)


async def test_several_questions_at_once_about_one_image_compute_it_once(
    client: Client, worker: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = await client.generated()
    worker.scenes.forget_model("tiny")
    replays: list[Any] = []
    trace = ovam.Replay.trace

    def counted(self: ovam.Replay, *args: Any, **options: Any) -> ovam.Trace:
        replays.append(options)
        return trace(self, *args, **options)

    monkeypatch.setattr(ovam.Replay, "trace", counted)
    jobs = [await client.submit(await client.attribution(source)) for _ in range(4)]
    assert [record.error for record in [await client.ended(job) for job in jobs]] == [None] * 4
    assert len(replays) == 1


async def test_a_damaged_replay_names_its_tensor_and_stored_queries_are_tried(client: Client, worker: Resources) -> None:
    source, other = await client.generated(), await client.generated(capture=QUERIES)
    before = await heatmap(client, await client.attributed(source))
    data = bytearray(await client.artifact(source, keys.replay(0)))
    data[layout_of(bytes(data)).places["sample"].start + 3] ^= 1
    await client.store.put(place(source, keys.replay(0)), bytes(data))
    assert np.array_equal(await heatmap(client, await client.attributed(source)), before)  # still in memory
    worker.scenes.forget_model("tiny")
    failed = await client.attributed(source)
    assert failed.error.code is Code.TRACE_UNREADABLE
    assert "tensor 'sample', part 0, is damaged: checksum" in failed.error.detail
    await client.store.put(place(source, keys.trace(0)), await client.artifact(other, keys.trace(0)))
    found = await heatmap(client, await client.attributed(source))
    assert np.abs(found - before).max() < 3e-3 * before.max()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: data[:-5], "it is cut short, or garbled"),
        (lambda data: data[:200], "bytes"),
        (lambda data: data[:-3] + bytes(3), "is damaged: checksum"),
        (lambda _: b"", "not the head of a trace"),
        (None, "trace-0.safetensors of job .* is gone from the store"),
    ],
)
async def test_damaged_or_missing_queries_say_what_is_wrong(client: Client, worker: Resources, damage: Any, message: str) -> None:
    source = await client.generated(capture=QUERIES)
    worker.scenes.forget_model("tiny")
    key = place(source, keys.trace(0))
    if damage is None:
        await client.store.delete(key)
    else:
        await client.store.put(key, damage(await client.artifact(source, keys.trace(0))))
    failed = await client.attributed(source)
    assert failed.error.code is Code.TRACE_UNREADABLE
    assert re.search(message, failed.error.detail), failed.error.detail


async def test_weights_that_changed_since_the_capture_are_named(client: Client, worker: Resources) -> None:
    source = await client.generated()
    worker.scenes.forget_model("tiny")
    unet = (await worker.models.get("tiny")).pipeline.unet
    before = unet.conv_out.weight.detach().clone()
    with torch.no_grad():
        unet.conv_out.weight.mul_(1.5)
    failed = await client.attributed(source)
    with torch.no_grad():
        unet.conv_out.weight.copy_(before)
    assert failed.error.code is Code.TRACE_MISMATCH
    assert "weights: " in failed.error.detail
    assert " at capture, " in failed.error.detail
    assert (await client.attributed(source)).error is None


async def test_what_cannot_be_replayed_is_stored_as_queries(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> Any:
        raise NotReplayableError("a ControlNet adds residuals")

    monkeypatch.setattr(sys.modules["worker.drawing"], "capture_replay", refused)
    source = await client.generated()
    assert source.result.keep == "queries"
    assert {file.name for file in await client.store.manifest(source.id, 1)} == {"image-0.png", keys.trace(0)}
    assert (await client.attributed(source)).error is None


async def test_an_image_whose_queries_have_no_room_in_memory_keeps_its_replay_alone(client: Client, worker: Resources) -> None:
    room = Tiers(torch.device("cpu"), hot=0, warm=100)
    generated = await client.generated()
    object.__setattr__(worker, "scenes", room)
    source = await client.generated()
    assert len(room) == 0
    assert source.result.model_dump(exclude={"images"}) == generated.result.model_dump(exclude={"images"})
    one, other = await client.attributed(source), await client.attributed(generated)
    assert np.abs(await heatmap(client, one) - await heatmap(client, other)).max() < 1e-6
    assert len(room) == 0


async def test_a_trace_that_is_collected_while_it_is_asked_for_says_so(client: Client) -> None:
    source = await client.generated()
    asked = await client.attribution(source)
    await client.redis.zadd(keys.USED, {source.id: float("inf")})  # a collection has begun
    failed = await client.run(asked)
    assert failed.error.code is Code.JOB_EXPIRED
    assert "the store's quota is reached" in failed.error.detail
    await retention.collect(client.redis, client.store, 10**12)
    assert (await client.ledger.get(source.id)).state is State.EXPIRED
    assert await client.stored(keys.job_folder(source.id)) == []
    failed = await client.run(asked)
    assert failed.error.code is Code.JOB_EXPIRED


async def test_what_was_asked_for_lately_is_not_collected(client: Client) -> None:
    old, used = await client.generated(), await client.generated()
    for source in (old, used):
        await client.redis.zadd(keys.USED, {source.id: 0})
    assert (await client.attributed(used)).error is None
    assert await retention.collect(client.redis, client.store, 0) == [old.id]
    assert (await client.ledger.get(used.id)).state is State.SUCCEEDED


async def test_scenes_that_a_device_has_no_room_for_move_to_the_host() -> None:
    tiers = Tiers(torch.device("meta"), hot=20, warm=20)

    class Sized:
        nbytes = 10

        def on(self, device: str) -> str:
            assert device == "cpu"
            return self

    for name in "abcde":
        await tiers.keep((name, 1, 0), "model", Sized())
    assert [len(tiers.hot), len(tiers.warm), tiers.nbytes] == [2, 2, 40]
    assert [name for name in "abcde" if tiers.get((name, 1, 0))] == ["b", "c", "d", "e"]
    await tiers.keep(("b", 1, 0), "model", Sized())
    assert [name for name in "abcde" if tiers.get((name, 1, 0))] == ["b", "c", "d", "e"]
    tiers.forget_model("model")
    assert (len(tiers), tiers.nbytes) == (0, 0)
    one, same, other = tiers.lock(("a", 1, 0)), tiers.lock(("a", 1, 0)), tiers.lock(("b", 1, 0))
    assert one is same is not other
    assert isinstance(other, asyncio.Lock)
