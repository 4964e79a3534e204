"""Parts of a data set, each by itself: its lines, what its jobs ask, how its images are numbered, made and counted."""

import asyncio
import json
from collections.abc import Sequence
from functools import partial
from io import BytesIO
from types import SimpleNamespace
from typing import Any, cast

import httpx2
import numpy as np
import pytest
from PIL import Image as Picture
from pydantic import ValidationError
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisAwayError

from contracts.schema.access import Limits
from contracts.schema.attribute import Appraisal, AttributeResult
from contracts.schema.datasets import Counts, DatasetPrompt, DatasetRecord, DatasetRequest, DatasetState, Entry, Found, KeptMasks
from contracts.schema.errors import Code, Failure, FieldError, ServiceError
from contracts.schema.estimates import ModelSizes
from contracts.schema.fields import Rle
from contracts.schema.filters import Filters
from contracts.schema.images import GenerateJob
from contracts.schema.jobs import new_job_id
from contracts.schema.workers import Heartbeat
from contracts.state import keys
from contracts.state.datasets import SEGMENT, Datasets
from contracts.state.store import ArtifactStore
from ovam.core.coco import encode_run_lengths
from ovam.core.confidence import Confidence
from ovam.core.export import Split, Yolo
from ovam.core.words import spans_of
from service import examples
from service.access import Client
from service.datasets import driver, exporting, images
from service.datasets.driver import Drive
from service.datasets.exporting import form_of
from service.datasets.files import AT_ONCE, PROMPTS, read_prompts, write_prompts
from service.datasets.images import Image, Jobs, whole
from service.datasets.judging import clip_scores, found_in
from service.prompts import fitting
from service.refusals import InvalidLinesError
from service.validation.datasets import estimated, image_of, named_in, question
from service.validation.prompt_lines import MOST_ERRORS, checked
from tests.service.in_test_worker import card, letters

FIT = partial(fitting, letters(), limit=30, field="prompt")
RECORD = DatasetRecord.model_validate(examples.DATASET)
CLASSES = [{"name": "car"}, {"name": "dog"}]
AWAY = Failure(code=Code.REDIS_UNAVAILABLE, detail="Redis cannot be reached")


def lines(*given: object, classes: Sequence[object] = CLASSES) -> list[DatasetPrompt]:
    jsonl = "\n".join(each if isinstance(each, str) else json.dumps(each) for each in given)
    return checked(DatasetRequest.model_validate({"classes": classes, "jsonl": jsonl}), FIT)


def test_lines_have_their_own_names_or_their_numbers_and_the_classes_that_they_mention() -> None:
    found = lines(
        {"prompt": "a dog"}, "", {"prompt": "Car, dog, car", "custom_id": "mine", "seed": 3}, {"prompt": "x", "classes": ["DOG"]}
    )
    assert [(each.custom_id, each.classes, each.seed) for each in found] == [
        ("000000", ["dog"], None),
        ("mine", ["car", "dog"], 3),
        ("000002", ["dog"], None),
    ]


@pytest.mark.parametrize(
    ("classes", "prompt", "found"),
    [
        (["猫", "狗"], "猫\uff0c一只狗", ["猫", "狗"]),
        (["汽车", "狗"], "一辆汽车在草地上", ["汽车"]),
        (["車", "犬"], "芝生の上の車", ["車"]),
        (["고양이", "개"], "고양이 옆에 개가", ["고양이", "개"]),
        (["รถยนต์", "สุนัข"], "รถยนต์บนหญ้า", ["รถยนต์"]),
        (["hot dog", "dog"], "a hot\ndog", ["hot dog"]),
        (["hot dog", "dog"], "a dog and a hot  dog", ["dog", "hot dog"]),
        (["hot dog", "hot", "dog"], "hot dogs, and a dog", ["hot", "dog"]),
        (["cafe", "dog"], "a cafe\u0301 and a dog", ["dog"]),
        (["caf\u00e9", "dog"], "a cafe\u0301 on a street", ["caf\u00e9"]),
        (["cafe\u0301", "dog"], "a CAF\u00c9 on a street", ["cafe\u0301"]),
        (["kap\u0131", "dog"], "KAPI", ["kap\u0131"]),
        (["car", "dog"], "a scar, a dog's car", ["dog", "car"]),
    ],
)
def test_a_prompt_names_a_class_by_the_rule_by_which_attribution_finds_words(
    classes: list[str], prompt: str, found: list[str]
) -> None:
    for name in classes:
        assert (name in found) or not spans_of(prompt, name) or any(name in other for other in found)
    request = {"classes": [{"name": name} for name in classes], "prompts": [prompt]}
    assert checked(DatasetRequest.model_validate(request), FIT)[0].classes == found


def test_two_names_that_unicode_writes_in_two_ways_are_one() -> None:
    with pytest.raises(ValidationError, match="twice"):
        DatasetRequest.model_validate({"classes": [{"name": "caf\u00e9"}, {"name": "cafe\u0301"}], "prompts": ["a"]})


def test_numbers_as_names_leave_those_that_are_taken_alone() -> None:
    found = lines({"prompt": "a dog", "custom_id": "000001"}, {"prompt": "a dog"}, {"prompt": "a dog", "custom_id": "0000001"})
    assert [each.custom_id for each in found] == ["000001", "00000001", "0000001"]


def test_a_byte_order_mark_is_no_part_of_the_first_line() -> None:
    request = {"classes": CLASSES, "jsonl": "\ufeff" + json.dumps({"prompt": "a dog"}) + "\r\n"}
    assert checked(DatasetRequest.model_validate(request), FIT)[0].classes == ["dog"]


def test_a_template_is_filled_in_with_each_class() -> None:
    request = DatasetRequest.model_validate({"classes": CLASSES, "templates": ["a {class}", "{class}!"]})
    found = checked(request, FIT)
    assert [(each.prompt, each.classes) for each in found] == [
        ("a car", ["car"]), ("a dog", ["dog"]), ("car!", ["car"]), ("dog!", ["dog"]),
    ]  # fmt: skip


def test_what_is_wrong_with_a_line_repeats_it_and_the_first_twenty_things_are_enough() -> None:
    with pytest.raises(InvalidLinesError) as caught:
        lines("[1]", {"prompt": "a bird"}, {"prompt": "a car", "seed": -1})
    assert [(each.field, each.value) for each in caught.value.errors] == [
        ("jsonl.1", "[1]"), ("jsonl.2.classes", None), ("jsonl.3.seed", -1),
    ]  # fmt: skip
    assert "names none of the classes" in caught.value.errors[1].detail
    assert "and more" not in caught.value.detail
    with pytest.raises(InvalidLinesError, match="and more"):
        lines(*["["] * 6)  # of which the sentence tells five
    with pytest.raises(InvalidLinesError) as caught:
        lines(*["["] * 30)
    assert len(caught.value.errors) == MOST_ERRORS
    assert caught.value.detail.endswith("and more")


def test_lines_that_are_wrong_in_different_ways_are_an_invalid_request() -> None:
    wrong = [(code, FieldError(field="jsonl.1", detail="no")) for code in (Code.UNKNOWN_TOKEN, Code.UNKNOWN_CLASS)]
    assert InvalidLinesError(wrong, more=False).code is Code.INVALID_REQUEST
    assert InvalidLinesError(wrong[:1] * 2, more=False).code is Code.UNKNOWN_TOKEN


def test_an_image_of_the_data_set_has_as_many_evaluations_as_its_scheduler_makes() -> None:
    job = GenerateJob(
        prompt="a car", model="tiny", seed=1, guidance_scale=3.0, height=64, width=48, scheduler="Heun",
        num_inference_steps=10, capture={"self_attention": False},
    )  # fmt: skip
    assert image_of(job, card()).evaluations == 10
    sizes = ModelSizes(
        parameters=1, latent_factor=8, unet_channels=1, vae_channels=1, channels={}, self_attention={},
        scheduler_evaluations={"Heun": (2, -1)},
    )  # fmt: skip
    assert image_of(job, card().model_copy(update={"sizes": sizes})).evaluations == 19


@pytest.mark.parametrize(
    ("filters", "appraised"),
    [({}, False), ({"single_colour": True}, True), ({"duplicates": "perceptual"}, True), ({"duplicates": "exact"}, False)],
)
def test_an_image_is_appraised_only_for_a_filter_that_needs_it(filters: dict[str, Any], appraised: bool) -> None:  # noqa: FBT001
    job = RECORD.request.model_copy(update={"filters": Filters.model_validate(filters).filled()})
    assert (question(job, ["car"], "0" * 26).appraisal is not None) == appraised


def test_an_error_names_its_field_as_the_request_has_it() -> None:
    inside = {"targets.0.": "place.", "settings.": "attribution.settings."}
    for renamed, field, expected in (
        (None, "height", "place.height"),
        (inside, "targets.0.token", "place.token"),
        (inside, "settings.network", "attribution.settings.network"),
        (inside, "image", "place"),
    ):
        with pytest.raises(ServiceError) as caught, named_in("place", renamed):
            raise ServiceError(Code.INVALID_ARGUMENT, "x", field=field)
        assert caught.value.field == expected


def test_images_are_named_and_seeded_by_their_numbers_or_their_prompts_seed() -> None:
    prompt = DatasetPrompt(prompt="a car", custom_id="car", classes=["car"])
    job = RECORD.request.model_copy(update={"images_per_prompt": 3, "seed": 100})
    assert Image.of(job, prompt, 7, 1) == Image(7, "car-1", prompt, 107)
    own = prompt.model_copy(update={"seed": 5})
    assert Image.of(job.model_copy(update={"images_per_prompt": 1}), own, 7, 0) == Image(7, "car", own, 5)
    assert Image.of(job, own, 7, 2).seed == 7


async def test_what_takes_a_moment_is_done_to_its_end_though_it_is_given_up() -> None:
    done = []

    async def work() -> None:
        await asyncio.sleep(0.05)
        done.append(1)

    task = asyncio.create_task(whole(work()))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert done == [1]


async def test_what_is_refused_for_a_time_is_tried_again_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "LONGEST_PAUSE", 0.01)
    monkeypatch.setattr(images, "PAUSE", 0.01)
    said: list[Failure | None] = []
    jobs = Jobs(cast("Any", None), Client(), RECORD, said.append)
    busy = ServiceError(Code.QUEUE_FULL, "full", retry_after=60)
    answers: list[Exception | int] = [RedisAwayError(), busy, 3]

    async def ask() -> int:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async with asyncio.timeout(5):
        assert await jobs.surely(ask) == 3
    assert said == [AWAY, Failure.of(busy), None]
    answers.append(ServiceError(Code.UNKNOWN_JOB, "gone"))
    with pytest.raises(ServiceError, match="gone"):
        await jobs.surely(ask)


@pytest.mark.parametrize(("code", "tries"), [(Code.JOB_EXPIRED, images.TRIES), (Code.OUT_OF_MEMORY, 1), (None, 1)])
async def test_an_image_is_made_again_only_if_its_jobs_are_gone(code: Code | None, tries: int) -> None:
    asked = []

    class Failing(Jobs):
        async def kept(self, image: Image, mine: list[str]) -> Any:
            asked.append((image, mine))
            raise images.FailedJobError(Failure(code=code, detail="it")) if code else ZeroDivisionError

    image = Image.of(RECORD.request, DatasetPrompt(prompt="a car", custom_id="car", classes=["car"]), 4, 0)
    entry = await Failing(cast("Any", None), Client(), RECORD, print).tried(image, [])
    assert (entry.number, entry.state, entry.error.code, len(asked)) == (4, "failed", code or Code.INTERNAL, tries)


class Noting:
    """Datasets that only note what they are told."""

    def __init__(self) -> None:
        self.noted: dict[str, str] = {}
        self.moves: list[tuple[Any, ...]] = []

    async def note(self, _id: str, **fields: str) -> None:
        self.noted = fields

    async def announce(self, _id: str) -> None:
        pass

    async def move(self, *move: Any, **_options: Any) -> None:
        self.moves.append(move)


async def test_a_drive_begins_few_segments_ahead_and_says_how_long_it_takes(store_url: str) -> None:
    datasets = Noting()
    record = RECORD.model_copy(update={"counts": Counts(entries=10 * SEGMENT, done=100)})
    resources = cast("Any", type("Resources", (), {"store": ArtifactStore.at(store_url)}))
    drive = Drive(resources, Client(), cast("Any", datasets), record, 1)
    assert drive.edge() == driver.AHEAD * SEGMENT
    drive.sealed = 9
    assert drive.edge() == 10 * SEGMENT
    await drive.tell()
    assert datasets.noted == {"waits": ""}
    drive.begun, drive.done, drive.waits = (drive.begun[0] - 10, 100), 120, AWAY
    await drive.tell()
    assert datasets.noted["waits"] == AWAY.model_dump_json()
    assert float(datasets.noted["seconds"]) == pytest.approx((10 * SEGMENT - 120) / 2, rel=0.01)


async def test_a_data_set_fails_for_what_does_not_pass() -> None:
    datasets = Noting()
    for passes in (RedisAwayError(), ServiceError(Code.STORE_UNAVAILABLE, "away", retry_after=1)):
        await driver.failed(cast("Any", datasets), "it", 1, passes)
    assert datasets.moves == []
    for error, code in ((ServiceError(Code.NO_CLIP, "none"), Code.NO_CLIP), (ZeroDivisionError(), Code.INTERNAL)):
        await driver.failed(cast("Any", datasets), "it", 1, error)
        _, state, _, fields = datasets.moves.pop()
        assert (state, Failure.model_validate_json(fields["error"]).code) == (DatasetState.FAILED, code)


async def test_prompts_are_stored_in_objects_of_a_thousand(store_url: str) -> None:
    store = ArtifactStore.at(store_url)
    prompts = [DatasetPrompt(prompt=f"car {n}", custom_id=str(n), classes=["car"]) for n in range(AT_ONCE * PROMPTS + 1)]
    await write_prompts(store, "it", prompts)
    assert await read_prompts(store, "it", AT_ONCE) == prompts[-1:]
    assert [len(await read_prompts(store, "it", segment)) for segment in (0, AT_ONCE - 1)] == [PROMPTS, PROMPTS]
    with pytest.raises(ServiceError, match="is gone from the artifact store"):
        await read_prompts(store, "it", AT_ONCE + 1)


def test_scores_of_clip_are_those_of_the_classes_in_their_order() -> None:
    filters = Filters(preset="published-code").filled()
    unscaled = Appraisal(single_colour=False, looks="", clip=[1.0, -1.0])
    assert clip_scores(unscaled, filters) == pytest.approx([1 / (1 + 2.718281828**-2)])
    result = AttributeResult.model_validate({**examples.ATTRIBUTE_SUCCEEDED["result"], "appraisal": None})
    assert {each.clip for each in found_in(result, filters).values()} == {None}
    assert len(found_in(result, filters)) == len(result.segments)


def test_a_form_has_the_settings_that_are_given_if_it_has_any() -> None:
    assert [form_of("coco", None, outlines).outlines for outlines in (None, "rle", "polygons")] == ["rle", "rle", "polygons"]  # type: ignore[missing-attribute]
    assert [form_of("labelme", None, outlines).shapes for outlines in (None, "rle", "polygons")] == ["polygon", "mask", "polygon"]  # type: ignore[missing-attribute]
    for name in ("voc", "webdataset", "huggingface"):
        assert [form_of(name, rest, None).rest for rest in (None, "0", "255")] == [0, 0, 255]  # type: ignore[missing-attribute]
    assert form_of("yolo", "255", "rle") == Yolo()


MASK = np.array([[True, True, True], [False, False, True]])
NAME = RECORD.request.classes[0].name


async def kept_entries(store: ArtifactStore, states: Sequence[str]) -> list[Entry]:
    """Entries in these states, with their images and masks in the store."""
    runs = encode_run_lengths(MASK)
    masks = KeptMasks(masks={NAME: Rle(size=tuple(runs["size"]), counts=runs["counts"])})
    found = {NAME: Found(area=4, score=0.5, confidence=Confidence(0.75, 0.6, calibrated=True), clip=0.0)}
    entries = []
    for number, state in enumerate(states):
        facts: Any = {"number": number, "custom_id": f"image {number}", "state": state, "found": found, "weights": "f" * 16}
        entries.append(Entry(prompt="a car", seed=number, **facts))
        Picture.fromarray(np.full((2, 3, 3), number, np.uint8)).save(file := BytesIO(), "PNG")
        await store.put(keys.dataset_image(RECORD.id, number), file.getvalue())
        await store.put(keys.dataset_masks(RECORD.id, number), masks.model_dump_json().encode())
    return entries


async def test_an_export_holds_what_is_accepted_in_the_order_of_the_data_set(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ArtifactStore.at(store_url)
    entries = await kept_entries(store, ["accepted", "rejected", "accepted", "accepted", "failed", "accepted"])
    lines = [each.model_dump_json() for each in entries]
    await store.put(keys.dataset_entries(RECORD.id, 0), "\n".join(lines[:3]).encode())
    await store.put(keys.dataset_entries(RECORD.id, 0, final=True), (lines[0] + "\n").encode())
    unsealed = (1, {5: lines[5], 4: lines[4], 3: lines[3]})
    counts = RECORD.counts.model_copy(update={"done": 6, "accepted": 4, "failed": 1})
    paused = RECORD.model_copy(update={"state": DatasetState.PAUSED, "counts": counts})
    assert [each.number for each in exporting.chosen(store, paused, *unsealed)] == [0, 2, 3, 5]
    assert [*exporting.chosen(store, paused, 0, {})] == [], "what is not sealed may yet change"
    done = RECORD.model_copy(update={"state": DatasetState.SUCCEEDED})
    assert [each.number for each in exporting.chosen(store, done, 0, {})] == [0]

    monkeypatch.setattr(exporting, "READ_AHEAD", 2)
    found = [*exporting.samples(store, paused, exporting.chosen(store, paused, *unsealed))]
    assert [each.name for each in found] == [f"image {number}" for number in (0, 2, 3, 5)]
    (annotation,) = found[1].annotations
    assert (annotation.label, annotation.score, annotation.confidence) == (NAME, 0.5, 0.75)
    assert np.array_equal(annotation.mask, MASK)
    assert found[1].metadata == {"number": 2, "clip": {NAME: 0.0}}

    files = {
        each.path: each for each in exporting.exported_files(store, paused, unsealed, form_of("coco", None, None), Split(0.0))
    }
    assert len([path for path in files if path.startswith("images/")]) == 4
    sheet = json.loads(cast("bytes", files["datasheet.json"].content))
    assert sheet["model_hash"] == "f" * 16
    assert sheet["description"].startswith("Not complete: 6 of 200 images")
    with pytest.raises(ServiceError, match="is running; wait until it is done, or pause it") as caught:
        exporting.exported_files(
            store, RECORD.model_copy(update={"state": DatasetState.RUNNING}), unsealed, form_of("coco", None, None), Split(0.0)
        )
    assert caught.value.code is Code.JOB_NOT_FINISHED
    with pytest.raises(ServiceError, match="allowed: an empty one"):
        exporting.into_store([], store)


async def test_data_sets_are_listed_page_by_page(client: httpx2.AsyncClient, redis: Redis) -> None:
    records = [RECORD.model_copy(update={"id": new_job_id()}) for _ in range(3)]
    for record in records:
        await Datasets(redis, "").file(record, Limits())
    seen, cursor = [], {}
    for more in (True, False):
        page = (await client.get("/v1/datasets", params={"limit": 2, **cursor})).json()
        seen += [each["id"] for each in page["datasets"]]
        assert (page["next"] is not None) == more
        cursor = {"cursor": page["next"]}
    assert seen == sorted((record.id for record in records), reverse=True)
    assert (await client.get("/v1/datasets", params={"limit": 3})).json()["next"] is None


async def test_a_data_set_takes_as_long_as_its_images_by_the_workers_that_are_there(redis: Redis) -> None:
    lookups = cast("Any", SimpleNamespace(catalog=SimpleNamespace(redis=redis)))
    assert RECORD.request.entries == RECORD.counts.entries == 200
    for workers in (1, 2):
        await redis.set(keys.worker(f"worker-{workers}"), Heartbeat(name=f"worker-{workers}").model_dump_json())
        assert (await estimated(RECORD.request, [1.0, 2.5], lookups)).seconds == 700 / workers
    found = await estimated(RECORD.request, [1.0, None], lookups)
    assert (found.seconds, found.kept_bytes) == (None, 200 * 128 * 128 * 2)


async def test_jobs_that_two_delete_at_once_are_all_gone() -> None:
    gone: list[str] = []

    async def delete(_: object) -> None:
        await asyncio.sleep(0)

    async def forget(record: Any) -> None:
        await asyncio.sleep(0)
        gone.append(record.id)

    view = SimpleNamespace(
        store=SimpleNamespace(delete_folder=delete), queue=SimpleNamespace(forget=forget), redis=SimpleNamespace(delete=delete)
    )
    jobs = Jobs(cast("Any", SimpleNamespace(seen_by=lambda _: view)), Client(), RECORD, lambda _: None)
    names = [f"job-{number}" for number in range(6)]
    jobs.under_way = {name: cast("Any", (SimpleNamespace(id=name), SimpleNamespace(key=name))) for name in names}
    await asyncio.gather(jobs.discard(names[:1] + names[2:4]), jobs.discard(), jobs.discard(names[4:]))
    assert sorted(gone) == names
