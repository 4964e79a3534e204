"""Jobs that are drawn together: each as if it were alone."""

import asyncio
import threading
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from contracts.schema.attribute import TargetJob
from contracts.schema.conditions import FilledConditions
from contracts.schema.errors import Code, Failure
from contracts.schema.images import GenerateJob
from contracts.schema.jobs import State
from contracts.state import keys
from ovam.core.methods import METHODS
from tests.contracts.test_adapters import STEERED
from tests.worker.client import Client
from tests.worker.jobs import CAT
from tests.worker.test_generate import pixels_of, trace_of
from worker import drawing
from worker.batches import SEVERAL, Member
from worker.device import Priority, turn
from worker.resources import Resources
from worker.settings import WorkerSettings

PROMPTS = ("a photograph of a cat", "a dog", "a tree and a car", "a hat on a dog")
LONG = 40  # steps: long enough to do something meanwhile


@pytest.fixture
def settings(settings: WorkerSettings) -> WorkerSettings:
    return settings.model_copy(update={"batch_jobs": 4})


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The prompts of every call of the pipeline."""
    seen: list[list[str]] = []
    run = drawing.run_pipeline

    def heard(pipeline: Any, rows: Sequence[Any], call: tuple[int, int], live: Any) -> Any:
        seen.append([member.job.prompt for member, _ in rows])
        return run(pipeline, rows, call, live)

    monkeypatch.setattr(drawing, "run_pipeline", heard)
    return seen


async def submitted(client: Client, worker: Resources, jobs: Sequence[GenerateJob]) -> list[str]:
    """Submit jobs while the device is busy, so that all wait for it."""
    release = threading.Event()
    worker.gate.submit(turn("interactive", Priority.INTERACTIVE), lambda: release.wait(60))
    ids = []
    for job in jobs:
        ids.append(await client.submit(job))
        while len(worker.batches._waiting) < len(ids):
            await asyncio.sleep(0.01)
    release.set()
    return ids


async def test_four_jobs_in_one_batch_are_as_four_alone(client: Client, worker: Resources, calls: list[list[str]]) -> None:
    jobs = [client.generation(prompt=prompt, seed=seed, num_inference_steps=6) for seed, prompt in enumerate(PROMPTS)]
    alone = [await client.run(job) for job in jobs]
    assert [len(call) for call in calls] == [1, 1, 1, 1]
    together = [await client.ended(job_id) for job_id in await submitted(client, worker, jobs)]
    assert calls[4:] == [list(PROMPTS)]
    for one, other in zip(alone, together, strict=True):
        assert other.state is State.SUCCEEDED, other.error
        assert (other.attempt, other.progress.done, other.progress.total) == (1, 6, 6)
        fields = {"images": {"__all__": {"image", "trace_bytes"}}}
        assert one.result.model_dump(exclude=fields) == other.result.model_dump(exclude=fields)
        assert np.abs(await pixels_of(client, one) - await pixels_of(client, other)).max() <= 1
        before, after = await trace_of(client, worker, one), await trace_of(client, worker, other)  # by replays
        for block, its in zip(before.blocks, after.blocks, strict=True):
            assert float((block.queries - its.queries).abs().max() / block.queries.abs().max()) < 1e-4
        masks = [await client.attributed(record, CAT, settings={"crf": None}) for record in (one, other)]
        heats = [np.frombuffer(await client.artifact(mask, "heatmap-0.npy"), np.float32, offset=128) for mask in masks]
        assert np.abs(heats[0] - heats[1]).max() < 1e-5 * heats[0].max()


async def test_a_job_that_is_canceled_leaves_at_once_and_the_others_go_on(client: Client, worker: Resources) -> None:
    jobs = [client.generation(prompt=prompt, num_inference_steps=LONG) for prompt in PROMPTS[:3]]
    plain = await client.run(jobs[1])
    first, second, third = await submitted(client, worker, jobs)  # the first has taken the others along
    await client.when(first, lambda record: record.progress is not None)
    await client.cancel(first)
    record = await client.ended(first)
    assert (record.state, record.result) == (State.CANCELED, None)
    assert not (await client.ledger.get(second)).state.final  # it did not wait for them
    assert (await client.ended(third)).state is State.SUCCEEDED
    assert np.abs(await pixels_of(client, await client.ended(second)) - await pixels_of(client, plain)).max() <= 1
    assert await client.stored(keys.job_folder(first)) == []


@pytest.mark.parametrize("error", [ValueError("a prompt that breaks the text encoder"), torch.OutOfMemoryError("too much")])
async def test_what_breaks_a_batch_is_found_by_halves_and_fails_alone(
    client: Client, worker: Resources, calls: list[list[str]], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    run = drawing.run_pipeline

    def breaks(pipeline: Any, rows: Sequence[Any], call: tuple[int, int], live: Any) -> Any:
        images = run(pipeline, rows, call, live)
        if any(member.job.prompt == PROMPTS[2] for member, _ in rows):
            raise error
        return images

    monkeypatch.setattr(drawing, "run_pipeline", breaks)
    jobs = [client.generation(prompt=prompt) for prompt in PROMPTS]
    records = [await client.ended(job_id) for job_id in await submitted(client, worker, jobs)]
    assert [record.state for record in records] == ["succeeded", "succeeded", "failed", "succeeded"]
    assert records[2].error.code in (Code.INTERNAL, Code.OUT_OF_MEMORY)
    assert calls == [list(PROMPTS), [*PROMPTS[:2]], [*PROMPTS[2:]], [PROMPTS[2]], [PROMPTS[3]]]


CHANGES: list[dict[str, Any]] = [
    {"num_inference_steps": 4},
    {"height": 96},
    {"guidance_scale": 1.0},
    {"scheduler": "PNDMScheduler"},
    {"negative_prompt": "a dog"},
    {"capture": {"keep": "queries"}},
    {"capture": {"heads": 0}},
]


CONDITIONS = FilledConditions.model_validate(
    dict(STEERED) | {"mask": [[0, 0, 4, 0, 4, 4]], "strength": 0.5, "clip_skip": 1, "emphasis": [{"word": "cat", "weight": 1.5}]}
)


def member(job: GenerateJob, *, number: int = 1, priority: str = "normal") -> Member:
    return Member(SimpleNamespace(number=number, record=SimpleNamespace(priority=priority)), job)


async def test_jobs_that_differ_in_more_than_prompts_and_seeds_do_not_suit(client: Client) -> None:
    plain = member(client.generation())
    assert plain.suits(member(client.generation(prompt="a dog", seed=9, num_images=3)))
    others = [member(client.generation(**change)) for change in CHANGES]
    assert not any(plain.suits(other) or other.suits(plain) for other in others)
    steered = [member(plain.job.model_copy(update={name: each})) for name, each in dict(CONDITIONS).items()]
    assert len(steered) == 8
    assert not any(plain.suits(other) or other.suits(plain) for other in steered)
    same = [member(client.generation(prompt=text).model_copy(update=dict(CONDITIONS))) for text in ("a cat", "a cat on a mat")]
    assert same[0].suits(same[1])
    both = [member(client.generation(negative_prompt=text)) for text in ("a dog", "a cat")]
    assert both[0].suits(both[1])
    target = TargetJob(label="cat", target=CAT, method="daam", settings=METHODS["daam"].words)
    watched = member(client.generation().model_copy(update={"targets": [target]}))
    alone = [member(client.generation(), number=2), member(client.generation(), priority="bulk"), watched]
    assert not any(plain.suits(other) for other in alone)
    assert not watched.suits(member(watched.job))


def test_who_has_left_stays_as_it_left() -> None:
    one, first = member(GenerateJob.model_construct()), LookupError()
    one.leave(first)
    one.leave(ValueError())
    assert one.outcome.exception() is first


async def test_a_job_that_was_drawn_with_another_is_not_drawn_again_when_its_turn_comes(
    client: Client, worker: Resources
) -> None:
    members, batches, draws = [member(client.generation(prompt=text)) for text in PROMPTS[:2]], worker.batches, list[Any]()
    batches._waiting = [*members]

    def drawn(some: Sequence[Member], _draw: Any) -> None:
        draws.append([*some])
        for each in some:
            each.outcome.set_result(None)

    batches._draw = drawn
    for each in members:
        batches._run(each, None)
    assert draws == [members]


async def test_a_batch_has_no_more_images_than_fit_and_a_job_all_of_its_own(
    client: Client, worker: Resources, calls: list[list[str]]
) -> None:
    many = [client.generation(prompt=prompt, num_images=2) for prompt in PROMPTS[:3]]
    records = [await client.ended(job_id) for job_id in await submitted(client, worker, many)]
    assert [len(record.result.images) for record in records] == [2, 2, 2]
    assert calls == [[PROMPTS[0]] * 2 + [PROMPTS[1]] * 2, [PROMPTS[2]] * 2]
    calls.clear()
    worker.batches.images = 1  # of one job, at a time
    await client.generated(num_images=2)
    assert [len(call) for call in calls] == [1, 1]


async def test_a_job_waits_for_others_until_the_batch_is_full_or_its_window_is_over(
    client: Client, worker: Resources, calls: list[list[str]]
) -> None:
    worker.batches.most, worker.batches.window = 2, 60.0
    ids = [await client.submit(client.generation(prompt=prompt)) for prompt in PROMPTS[:2]]
    for job_id in ids:
        assert (await client.ended(job_id)).state is State.SUCCEEDED
    assert [sorted(call) for call in calls] == [sorted(PROMPTS[:2])]
    worker.batches.window = 0.1
    assert (await client.run(client.generation())).state is State.SUCCEEDED
    assert len(calls[-1]) == 1


async def test_nobody_is_charged_with_a_death_among_several_and_each_is_then_tried_alone(
    client: Client, worker: Resources, calls: list[list[str]]
) -> None:
    jobs = [client.generation(prompt=prompt, num_inference_steps=LONG) for prompt in PROMPTS[:2]]
    ids = await submitted(client, worker, jobs)
    await client.when(ids[1], lambda record: record.progress is not None)
    assert await client.redis.get(keys.on_device(worker.occupant.holder)) == SEVERAL.encode()
    for job_id in ids:
        record = await client.ledger.claim(job_id, max_attempts=3, holder="another worker")
        assert (record.deaths, record.attempt) == (0, 2)  # a second attempt is no batch's
        await client.ledger.fail(job_id, 2, Failure(code=Code.INTERNAL, detail="over"))
    assert len(calls) == 1
