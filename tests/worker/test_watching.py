"""Targets of a generation: previews while it draws, segments at its end, and a gate that gives images up."""

import asyncio
import base64
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image

from contracts.schema.attribute import FilledQuestion
from contracts.schema.errors import Code
from contracts.schema.images import GenerateJob, ImagesResult
from contracts.schema.jobs import JobRecord, State
from contracts.schema.previews import MAX_LIVE_TARGETS, PREVIEW_BYTES, Gate
from contracts.schema.targets import Target, WordsTarget
from contracts.state import results
from contracts.state.results import with_result
from contracts.state.usage import bytes_of
from tests.worker.client import Client, soon
from tests.worker.jobs import CAT, DOG
from worker.attempts import Attempt
from worker.previews import mask_url, picture_url

pytestmark = pytest.mark.usefixtures("worker")

PLAIN = {"refine": {"kind": "none"}, "crf": None}
TOGETHER = {"softmax": "together", "distractors": [WordsTarget(label="tree", prompt="a tree", word="tree")]}
LATE = WordsTarget(label="late", prompt="a hat", word="hat", settings={"evaluations": [-4]})


async def watched(client: Client, *targets: Target, draws: dict[str, Any] | None = None, **options: Any) -> GenerateJob:
    """A generation that looks for targets as an attribute job does with the same options."""
    plain = client.generation(**{"num_inference_steps": 6, **(draws or {})}).model_copy(update={"every": 2})
    source = await client.generated(num_inference_steps=6)
    question = await client.attribution(source, *targets, **options)
    return plain.model_copy(update={name: getattr(question, name) for name in FilledQuestion.model_fields})


async def previews(client: Client, job_id: str) -> list[dict[str, Any]]:
    events = [event["progress"] for event in await client.events(job_id)]
    return [event["preview"] for event in events if event and event["preview"]]


def pixels(url: str) -> np.ndarray:
    with Image.open(BytesIO(base64.b64decode(url.partition(",")[2]))) as picture:
        return np.asarray(picture)


async def test_its_segments_are_those_of_an_attribute_job_and_its_images_those_without_targets(client: Client) -> None:
    draws = {"num_images": 2, "height": 96, "width": 64}
    crf = {"crf": {"iterations": 2}, "refine": {"kind": "affinity", "steps": 1}}
    job = await watched(client, CAT, DOG, draws=draws, settings=crf, semantic={}, instances={}, maps=["block"], **TOGETHER)
    record = await client.run(job)
    assert record.state is State.SUCCEEDED, record.error
    assert isinstance(record.result, ImagesResult)
    plain = await client.generated(num_inference_steps=6, **draws)
    names = {file.name for file in await client.store.manifest(record.id, record.attempt)}
    for image in record.result.images:
        name = f"image-{image.index}.png"
        assert await client.artifact(record, name) == await client.artifact(plain, name)
        asked = await client.attributed(record, CAT, DOG, image=image.index, settings=crf, semantic={}, instances={},
                                        maps=["block"], **TOGETHER)  # fmt: skip
        for here, there in zip(image.segments, asked.result.segments, strict=True):
            files = {"heatmap", "heatmap_npy", "refined_npy", "mask", "overlay", "maps"}
            assert here.model_dump(exclude=files) == there.model_dump(exclude=files)
            for kind in files - {"maps"}:
                one, other = getattr(here, kind), getattr(there, kind)
                assert one.name == f"image-{image.index}-{other.name}"
                assert one.name in names
                assert one.sha256 == other.sha256
            assert here.maps[0].file.sha256 == there.maps[0].file.sha256
        assert image.semantic.areas == asked.result.semantic.areas
    assert bytes_of(record) == sum([len(await client.artifact(record, name)) for name in names])


async def test_previews_come_with_progress_and_the_last_one_has_the_masks_of_the_result(client: Client) -> None:
    job_id = await client.submit(await watched(client, CAT, LATE, settings=PLAIN))
    seen: dict[int, dict[str, Any]] = {}
    while not (record := await client.ledger.get(job_id)).state.final:
        for each in await previews(client, job_id):
            seen[each["evaluation"]] = each
        await asyncio.sleep(0)
    (last,) = await previews(client, job_id)  # each takes the place of the one before
    assert record.progress is not None
    assert record.progress.preview is None  # records stay small
    assert (last["evaluation"], last["evaluations"], last["seed"]) == (6, 6, 1)
    assert set(seen) <= {2, 4, 6}
    assert all(each["masks"][1]["mask"] is None for made, each in seen.items() if made < 4)
    for segment, shown in zip(record.result.images[0].segments, last["masks"], strict=True):
        with Image.open(BytesIO(await client.artifact(record, segment.mask.name))) as mask:
            assert (pixels(shown["mask"]) == (np.asarray(mask) > 0)).all()
        assert shown["area"] == pytest.approx(segment.area / 64**2)
    with Image.open(BytesIO(await client.artifact(record, "image-0.png"))) as image:
        assert np.abs(pixels(last["picture"]).astype(int) - np.asarray(image).astype(int)).mean() < 12  # it is a JPEG


async def test_a_preview_shows_what_the_evaluations_so_far_say(client: Client) -> None:
    """Cut short after 4 of 6 evaluations, a job's preview is what the trace of these 4 gives."""
    job = await watched(client, CAT, settings=PLAIN)
    shown: list[Any] = []
    report = Attempt.report

    def heard(self: Attempt, progress: Any) -> None:
        shown.append(progress.preview)
        report(self, progress)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Attempt, "report", heard)
        record = await client.run(job)
    by_evaluation = {each.evaluation: each for each in shown if each is not None}
    assert sorted(by_evaluation) == [2, 4, 6]
    part = await client.attributed(record, CAT, settings=PLAIN | {"evaluations": [0, 1, 2, 3]})
    with Image.open(BytesIO(await client.artifact(part, "mask-0.png"))) as mask:
        assert (pixels(by_evaluation[4].masks[0].mask) == (np.asarray(mask) > 0)).all()


SMALL = {"threshold": {"kind": "share", "tau": 0.8, "normalize": "max"}, "crf": None}


async def test_a_gate_tries_the_next_seeds_and_says_why_none_passed(client: Client) -> None:
    job = await watched(client, CAT, DOG, draws={"num_images": 2}, settings=SMALL)
    record = await client.run(job.model_copy(update={"gate": Gate(target="cat", min_area=0.99, seeds=3)}))
    assert (record.state, record.error.code, record.error.field) == (State.FAILED, Code.GATE_NOT_PASSED, "gate")
    tried = record.error.value
    assert sorted((each["image"], each["seed"]) for each in tried) == [(0, 1), (0, 3), (0, 5), (1, 2), (1, 4), (1, 6)]
    assert {(each["evaluation"], each["reason"]) for each in tried} == {(3, "too-small")}
    assert await client.stored("jobs/" + record.id) == []


async def test_a_gate_lets_the_images_pass_that_fit_and_draws_the_others_again(client: Client) -> None:
    job = await watched(client, CAT, draws={"num_images": 3}, settings=SMALL)
    plain = await client.run(job)
    areas = [image.segments[0].area / 64**2 for image in plain.result.images]
    bound = sorted(areas)[1]
    assert min(areas) < bound
    gate = Gate(target="cat", min_area=bound - 1e-9, at=1, on_fail="stop")
    stopped = await client.run(job.model_copy(update={"gate": gate}))
    kept = [image for image, area in zip(plain.result.images, areas, strict=True) if area >= bound]
    assert [image.seed for image in stopped.result.images] == [image.seed for image in kept]
    assert [image.index for image in stopped.result.images] == [*range(len(kept))]
    rejected = stopped.result.rejected
    assert {(each.seed, each.evaluation, each.reason) for each in rejected} == {
        (1 + number, 6, "too-small") for number, area in enumerate(areas) if area < bound
    }
    for index, image in enumerate(kept):
        assert await client.artifact(stopped, f"image-{index}.png") == await client.artifact(plain, f"image-{image.index}.png")
    again = await client.run(job.model_copy(update={"gate": gate.model_copy(update={"on_fail": "next-seed", "seeds": 16})}))
    seeds = [image.seed for image in again.result.images]
    assert {each.seed for each in again.result.rejected} >= {each.seed for each in rejected}
    assert not {*seeds} & {each.seed for each in again.result.rejected}
    assert all(seed % 3 == (1 + number) % 3 for number, seed in enumerate(seeds) if len(seeds) == 3)


async def test_a_watched_job_that_is_canceled_stops_and_keeps_nothing(client: Client) -> None:
    job = await watched(client, CAT, draws={"num_inference_steps": 900}, settings=PLAIN)
    job_id = await client.submit(job)
    await soon(lambda: previewed(client, job_id))
    await client.cancel(job_id)
    record = await client.ended(job_id)
    assert (record.state, record.result) == (State.CANCELED, None)
    await soon(lambda: nothing_of(client, job_id))


async def previewed(client: Client, job_id: str) -> bool:
    return bool(await previews(client, job_id))


async def nothing_of(client: Client, job_id: str) -> bool:
    return await client.stored(f"jobs/{job_id}") == []


async def test_large_segments_are_put_aside_and_the_images_stay_a_source(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "LARGE", 1000)
    record = await client.run(await watched(client, CAT, DOG, settings=PLAIN))
    assert record.stored_result is not None
    assert record.result.images[0].segments == []
    whole: JobRecord = await with_result(record, client.store)
    assert [segment.label for segment in whole.result.images[0].segments] == ["cat", "dog"]
    assert (await client.attributed(record, CAT)).state is State.SUCCEEDED
    size = sum([file.size for file in await client.store.manifest(record.id, record.attempt)])
    assert bytes_of(record) == size + record.stored_result.size


def test_an_event_is_bounded_whatever_is_drawn() -> None:
    noise = np.random.default_rng(0)
    size = (128, 128)
    picture = picture_url(noise.integers(0, 256, (*size, 3), dtype=np.uint8), size)
    mask = mask_url(noise.random(size) < 0.5, size)
    assert len(picture) + MAX_LIVE_TARGETS * (len(mask) + 600) + 1000 < PREVIEW_BYTES  # a label is at most 400 bytes
