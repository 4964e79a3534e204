"""What becomes of jobs that learn: a token with a version, exactly when its job has ended with it."""

import asyncio
import base64
import importlib
import json
import time
from dataclasses import replace
from io import BytesIO
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import ovam
from contracts.schema.errors import Code
from contracts.schema.jobs import AnyJob, JobRecord, State
from contracts.schema.masks import RunLengths
from contracts.schema.methods import Settings
from contracts.schema.models import BestMethod
from contracts.schema.optimize import (
    EmbeddingInitial,
    LabelsExample,
    MaskExample,
    MasksExample,
    OptimizeResult,
    TokenInitial,
    WordInitial,
)
from contracts.state import keys
from contracts.state.registry import Registry
from contracts.state.transitions import CancelRequested, LostJob
from ovam.core.label_maps import indexed_png
from ovam.core.schedules import Step
from ovam.learning.initial import initial_tokens
from ovam.learning.token_files import from_npy
from tests.worker.client import Client, base64_mask, left_half
from tests.worker.running import running
from worker.app import opened
from worker.attempts import Attempt, HandedBack
from worker.device import Priority
from worker.handlers.optimize import Initial, learn
from worker.resources import Resources
from worker.settings import WorkerSettings
from worker.tokens import rows_of_token

LABELS = np.zeros((64, 64), np.uint8)
LABELS[8:40, 8:30], LABELS[20:60, 36:60], LABELS[:4] = 1, 2, 255
PNG = base64.b64encode(indexed_png(LABELS)).decode()
ENDLESS = {"epochs": 5000, "patience": None, "optimizer": "sgd", "learning_rate": 0.1}


def asked(client: Client, source: JobRecord, name: str = "cat", **options: Any) -> AnyJob:
    return client.optimization(options.pop("examples", [client.example(source)]), name, **options)


def learned(record: JobRecord) -> OptimizeResult:
    assert isinstance(record.result, OptimizeResult), record.error
    return record.result


async def rows(client: Client, reference: str) -> torch.Tensor:
    card = await Registry(client.redis).get(reference)
    return from_npy(await client.store.get(keys.token_object(card.id, "npy"))).embedding


async def nothing_is_left(client: Client, job_id: str) -> bool:
    """Whether a job leaves neither a token nor a file: soon, since the device is free before its files are gone."""
    for _ in range(100):
        known = await client.redis.hlen(keys.TOKENS)
        if (known, await client.stored("tokens"), await client.stored(keys.job_folder(job_id))) == (0, [], []):
            return True
        await asyncio.sleep(0.1)
    return False


@pytest.mark.usefixtures("worker")
async def test_a_token_is_learned_and_kept_with_its_course(client: Client) -> None:
    source = await client.generated()
    record = await client.run(asked(client, source, epochs=40))
    result = learned(record)
    assert (record.state, result.token, result.ended, result.epochs) == (State.SUCCEEDED, "cat@1", "epochs", 40)
    assert result.best_loss == min(result.losses) == result.losses[result.best_epoch] < result.losses[0]
    course = json.loads(await client.artifact(record, result.curve_json.name))
    assert [each["loss"] for each in course] == result.losses
    assert result.curve_json.media_type == "application/json"
    assert (course[0], course[-1]["epoch"]) == ({"epoch": 0, "loss": result.losses[0], "learning_rate": 0.1}, 39)
    with Image.open(BytesIO(await client.artifact(record, result.curve.name))) as curve:
        assert curve.size == (640, 400)
    epochs = [event["progress"] for event in await client.events(record.id) if event["progress"]]
    assert (epochs[-1]["done"], epochs[-1]["total"], epochs[-1]["unit"]) == (40, 40, "epoch")
    assert epochs[-1]["loss"] == pytest.approx(result.losses[-1])


@pytest.mark.usefixtures("worker")
async def test_a_tokens_card_says_how_to_learn_it_again(client: Client) -> None:
    source = await client.generated()
    options = {"optimizer": "sgd", "schedule": {"kind": "cosine", "floor": 0.1}, "blocks": [8], "evaluations": 0.5, "noise": 0.1}
    result = learned(await client.run(asked(client, source, **options, seed=3, patience=None)))
    card = await Registry(client.redis).get("cat")
    assert (card.reference, card.model, card.classes, card.origin) == ("cat@1", "tiny", ["cat"], "optimize")
    assert (card.best_loss, card.epochs, card.example_iou) == (result.best_loss, 20, result.example_iou)
    assert (card.settings["learning_rate"], card.settings["patience"]) == (100.0, None)
    again = learned(await client.run(asked(client, source, **card.settings)))
    assert (again.token, again.losses) == ("cat@2", result.losses)
    assert torch.equal(await rows(client, "cat@1"), await rows(client, "cat@2"))
    other = learned(await client.run(asked(client, source, **card.settings | {"seed": 4})))
    assert other.losses != result.losses


@pytest.mark.usefixtures("worker")
async def test_a_job_learns_as_the_library_does(client: Client, worker: Resources) -> None:
    source = await client.generated()
    pipeline = (await worker.models.get("tiny")).pipeline
    trace = (await client.trace(source, pipeline)).to(dtype=torch.float32)
    options = {
        "loss": "cross_entropy_minmax", "optimizer": "sgd", "learning_rate": 30.0, "epochs": 12, "patience": 9,
        "blocks": ["up"], "evaluations": [0, 2],
    }  # fmt: skip
    result = learned(
        await client.run(
            asked(client, source, **options, noise=0.5, seed=3, schedule={"kind": "step", "every": 2, "factor": 0.5})
        )
    )
    init = initial_tokens(pipeline, "cat", noise=0.5, seed=3)
    fit = ovam.optimize_tokens([(trace, left_half())], init, **options, schedule=Step(every=2, factor=0.5))
    assert result.losses == pytest.approx(fit.losses, rel=1e-6)
    assert torch.allclose(await rows(client, "cat"), fit.embedding, rtol=1e-5)


async def test_the_iou_is_of_pixels_that_count_and_of_masks_that_are_cut_as_the_model_cuts_tokens(
    client: Client, worker: Resources
) -> None:
    source = await client.generated()
    model = await worker.models.get("tiny")
    best = BestMethod(method="daam", settings=Settings(threshold={"kind": "share", "tau": 0.7, "normalize": "minmax"}))
    tuned = replace(model, card=model.card.model_copy(update={"token_defaults": best}))
    trace = worker.scenes.get((source.id, 1, 0)).trace
    only_cats = np.where(LABELS == 2, 0, LABELS)
    examples = [(trace, LABELS), (trace, only_cats)]
    told = [LabelsExample(job_id=source.id, labels=PNG)] * 2
    job = client.optimization(told, classes=["cat", "dog"], epochs=3, blocks=[8])
    attempt = Attempt(await client.record(job), worker.ledger, worker.gate, worker.occupant)
    fit, iou = await attempt.on_device(
        Priority.OPTIMIZE, lambda: learn(attempt, tuned, job, examples, Initial(["cat", "dog"], None))
    )
    heats = ovam.heatmaps(trace.to(dtype=torch.float32), fit.embedding, size=(64, 64), blocks=[8])[1:]
    masks = [ovam.binarize(heat, 0.7, normalize="minmax") for heat in heats]
    expected = []
    for label, labels in ((1, LABELS), (2, LABELS), (1, only_cats)):
        mask, truth = masks[label - 1][labels != 255], labels[labels != 255] == label
        expected.append((mask & truth).sum() / (mask | truth).sum())
    assert iou == pytest.approx(np.mean(expected))
    assert 0 < iou < 1


@pytest.mark.parametrize("loss", ["bce", "cross_entropy_minmax"])
@pytest.mark.usefixtures("worker")
async def test_a_good_token_finds_its_own_example(client: Client, loss: str) -> None:
    source = await client.generated()
    result = learned(await client.run(asked(client, source, loss=loss, epochs=100, learning_rate=0.1)))
    assert result.losses[-1] < result.losses[0]
    assert 0 < result.example_iou <= 1


@pytest.mark.usefixtures("worker")
async def test_it_ends_early_on_a_plateau(client: Client) -> None:
    source = await client.generated()
    result = learned(await client.run(asked(client, source, optimizer="sgd", learning_rate=1e-9, epochs=100, patience=7)))
    assert (result.ended, result.epochs) == ("plateau", 8)


@pytest.mark.usefixtures("worker")
async def test_the_course_tells_the_learning_rate_of_every_epoch(client: Client) -> None:
    source = await client.generated()
    schedule = {"kind": "step", "every": 2, "factor": 0.5}
    record = await client.run(asked(client, source, epochs=5, learning_rate=0.8, schedule=schedule, optimizer="sgd"))
    course = json.loads(await client.artifact(record, "losses.json"))
    assert [each["learning_rate"] for each in course] == pytest.approx([0.8, 0.8, 0.4, 0.4, 0.2])
    schedule = {"kind": "cosine", "floor": 0.0}  # which depends on how many epochs there were to be, not on how many there were
    options = {"optimizer": "sgd", "learning_rate": 1e-9, "epochs": 100, "patience": 4, "schedule": schedule}
    course = json.loads(await client.artifact(await client.run(asked(client, source, **options)), "losses.json"))
    assert len(course) < 50
    assert course[-1]["learning_rate"] > 0.5e-9


@pytest.mark.usefixtures("worker")
async def test_several_classes_are_learned_from_several_images_in_any_form(client: Client) -> None:
    source, other = await client.generated(), await client.generated(seed=2)
    encoded = ovam.coco.encode_run_lengths(LABELS == 1)
    outlines = ovam.coco.polygons(LABELS == 2)
    masks = {"cat": RunLengths(size=(64, 64), counts=encoded["counts"]), "dog": outlines}
    examples = [MasksExample(job_id=source.id, masks=masks), LabelsExample(job_id=other.id, labels=PNG)]
    result = learned(await client.run(asked(client, source, "pets", classes=["cat", "dog"], examples=examples)))
    assert result.classes == ["cat", "dog"]
    assert result.best_loss < result.losses[0]
    assert (await rows(client, "pets")).shape == (3, 32)


@pytest.mark.usefixtures("worker")
async def test_a_class_starts_from_a_word_a_row_or_a_class_of_a_token_whose_background_comes_along(
    client: Client, worker: Resources
) -> None:
    source = await client.generated()
    pipeline = (await worker.models.get("tiny")).pipeline
    example = LabelsExample(job_id=source.id, labels=PNG)
    two = {"classes": ["cat", "dog"], "examples": [example], "epochs": 1}
    await client.run(asked(client, source, "first", **two, noise=1.0))
    first, words = await rows(client, "first"), initial_tokens(pipeline, "tree", "dog")
    initial = [WordInitial(word="tree"), WordInitial(word="dog")]
    await client.run(asked(client, source, "words", **two, initial=initial))
    assert torch.equal(await rows(client, "words"), words)
    initial = [EmbeddingInitial(embedding=[0.5] * 32), TokenInitial(token="first@1", class_name="cat")]
    await client.run(asked(client, source, "mixed", **two, initial=initial))
    assert torch.equal(await rows(client, "mixed"), torch.stack([first[0], torch.full((32,), 0.5), first[1]]))
    initial = [TokenInitial(token="first", class_name="dog"), TokenInitial(token="words", class_name="cat")]
    await client.run(asked(client, source, "both", **two, initial=initial))
    assert torch.equal(await rows(client, "both"), torch.stack([first[0], first[2], words[1]]))
    assert not torch.equal(first[0], words[0])  # the background is the first token's


@pytest.mark.parametrize(
    ("change", "code", "field"),
    [
        ({"initial": [TokenInitial(token="nobody")]}, Code.UNKNOWN_TOKEN, "initial.0.token"),
        ({"blocks": ["side"]}, Code.SELECTION_INVALID, "blocks"),
        ({"evaluations": [3]}, Code.SELECTION_INVALID, "evaluations"),
    ],
)
@pytest.mark.usefixtures("worker")
async def test_what_cannot_be_learned_from_is_refused_and_leaves_nothing(
    client: Client, change: dict[str, Any], code: Code, field: str | None
) -> None:
    source = await client.generated()
    record = await client.run(asked(client, source, **change))
    assert record.error is not None
    assert (record.state, record.error.code, record.error.field) == (State.FAILED, code, field)
    assert await nothing_is_left(client, record.id)


@pytest.mark.parametrize("mask", ["!!", base64_mask(np.zeros((64, 64), dtype=bool))])
@pytest.mark.usefixtures("worker")
async def test_a_mask_that_no_gateway_has_seen_is_refused_all_the_same(client: Client, mask: str) -> None:
    source = await client.generated()
    record = await client.run(asked(client, source, examples=[MaskExample(job_id=source.id, mask=mask)]))
    assert record.error is not None
    assert record.error.code in (Code.MASK_NOT_AN_IMAGE, Code.MASK_EMPTY)
    assert record.error.field == "examples.0.mask"
    assert await nothing_is_left(client, record.id)


@pytest.mark.usefixtures("worker")
async def test_jobs_that_learn_under_one_name_make_versions_of_it(client: Client) -> None:
    source = await client.generated()
    jobs = [await client.submit(asked(client, source, seed=seed, noise=0.1)) for seed in range(3)]
    results = [learned(await client.ended(job_id)) for job_id in jobs]
    assert sorted(result.token for result in results) == ["cat@1", "cat@2", "cat@3"]
    for job_id, result in zip(jobs, results, strict=True):
        card = await Registry(client.redis).get(result.token)
        assert (card.job_id, card.best_loss) == (job_id, result.best_loss)
        assert {key.rsplit("/", 1)[1] for key in await client.stored(keys.token_folder(card.id))} == {*keys.TOKEN_FILES.values()}


@pytest.mark.usefixtures("worker")
async def test_a_job_that_is_canceled_keeps_its_best_token_so_far(client: Client) -> None:
    source = await client.generated()
    job_id = await client.submit(asked(client, source, **ENDLESS))
    await client.when(job_id, lambda record: record.progress is not None)
    await client.cancel(job_id)
    record = await client.ended(job_id)
    result = learned(record)
    assert (record.state, result.ended, result.token, record.error) == (State.CANCELED, "canceled", "cat@1", None)
    assert len(result.losses) == result.epochs < 5000
    assert result.best_loss == min(result.losses)
    assert len(json.loads(await client.artifact(record, "losses.json"))) == result.epochs
    assert [event["state"] for event in await client.events(job_id)][-1] == "canceled"
    card, embedding = await rows_of_token(Registry(client.redis), client.store, "cat", field="token")
    assert (card.best_loss, embedding.shape) == (result.best_loss, (2, 32))
    with pytest.raises(LostJob):
        await client.ledger.claim(job_id, max_attempts=9)


@pytest.mark.usefixtures("worker")
async def test_a_job_that_is_canceled_after_its_last_epoch_is_canceled_and_keeps_its_token(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, loop = await client.generated(), asyncio.get_running_loop()

    def canceled_then(attempt: Attempt, *rest: Any) -> Any:
        found = learn(attempt, *rest)
        asyncio.run_coroutine_threadsafe(client.cancel(attempt.job_id), loop).result(10)
        while not attempt.canceled:
            time.sleep(0.01)
        return found

    monkeypatch.setattr(importlib.import_module("worker.handlers.optimize"), "learn", canceled_then)
    record = await client.run(asked(client, source, epochs=2))
    result = learned(record)
    assert (record.state, result.ended, result.token, result.epochs) == (State.CANCELED, "canceled", "cat@1", 2)


@pytest.mark.usefixtures("worker")
async def test_a_job_that_is_canceled_before_its_first_epoch_has_nothing_to_keep(client: Client) -> None:
    source = await client.generated()
    running = await client.submit(asked(client, source, **ENDLESS))
    first = await client.when(running, lambda record: record.progress is not None)
    waiting = await client.when(await client.submit(asked(client, source, **ENDLESS)), lambda record: record.claimed)
    queued = await client.record(asked(client, source))
    assert (await client.cancel(queued.id)).state is State.CANCELED
    await client.cancel(waiting.id)
    ended = await client.ended(waiting.id)
    assert (ended.state, ended.result) == (State.CANCELED, None)
    assert await client.redis.hlen(keys.TOKENS) == 0
    await client.cancel(first.id)
    assert (await client.ended(first.id)).result is not None


@pytest.mark.usefixtures("worker")
async def test_a_job_that_is_deleted_while_it_learns_leaves_nothing(client: Client) -> None:
    source = await client.generated()
    for cancel_first in (False, True):
        job_id = await client.submit(asked(client, source, **ENDLESS))
        await client.when(job_id, lambda record: record.progress is not None)
        if cancel_first:
            await asyncio.gather(client.ledger.cancel(job_id), client.ledger.forget(job_id))
        await client.ledger.forget(job_id)
        await client.generated()  # the device is free again
        assert await client.ledger.find(job_id) is None
        assert await nothing_is_left(client, job_id)


@pytest.mark.usefixtures("worker")
async def test_an_attempt_that_was_overtaken_keeps_no_token(client: Client) -> None:
    source = await client.generated()
    job_id = await client.submit(asked(client, source, **ENDLESS))
    await client.when(job_id, lambda record: record.progress is not None)
    assert (await client.ledger.claim(job_id, max_attempts=9)).attempt == 2
    await client.generated()  # the device is free again: the first attempt has stopped
    assert await nothing_is_left(client, job_id)
    await client.cancel(job_id)
    with pytest.raises(LostJob):  # as whoever takes the job from the dead second attempt
        await client.ledger.claim(job_id, max_attempts=9)
    record = await client.ledger.get(job_id)
    assert (record.state, record.result) == (State.CANCELED, None)


async def test_a_job_that_was_handed_back_is_learned_once_by_its_second_attempt(client: Client, settings: WorkerSettings) -> None:
    async with running(settings):
        source = await client.generated()
        job_id = await client.submit(asked(client, source, **ENDLESS))
        await client.when(job_id, lambda record: record.progress is not None)
    assert (await client.ledger.get(job_id)).state is State.QUEUED
    assert await nothing_is_left(client, job_id)
    async with running(settings):
        await client.when(job_id, lambda record: record.attempt == 2 and record.progress is not None)
        await client.cancel(job_id)
        record = await client.ended(job_id)
    assert (record.state, learned(record).token) == (State.CANCELED, "cat@1")
    card = await Registry(client.redis).get("cat@1")
    assert card.id == keys.token_id(job_id, 2)
    assert len(await Registry(client.redis).versions("cat")) == 1


async def test_a_worker_that_stops_finishes_what_was_canceled(client: Client, settings: WorkerSettings) -> None:
    async with running(settings.model_copy(update={"grace_seconds": 60})):
        source = await client.generated()
        job_id = await client.submit(asked(client, source, **ENDLESS))
        await client.when(job_id, lambda record: record.progress is not None)
        await client.cancel(job_id)
    record = await client.ledger.get(job_id)
    assert (record.state, learned(record).token) == (State.CANCELED, "cat@1")


async def test_a_canceled_job_that_keeps_something_can_still_be_lost_but_is_not_handed_back(
    client: Client, settings: WorkerSettings
) -> None:
    async with opened(settings) as resources:
        record = await client.record(client.generation())
        attempt = Attempt(record, resources.ledger, resources.gate, resources.occupant)
        attempt.stop(CancelRequested())
        with pytest.raises(CancelRequested):
            attempt.check()
        attempt.keeps = True
        attempt.check()
        attempt.stop(HandedBack())
        attempt.check()
        assert attempt.canceled
        attempt.stop(LostJob())
        with pytest.raises(LostJob):
            attempt.check()
