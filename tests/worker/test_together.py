"""Questions that wait for the device together are answered in one pass, and each as if it were alone."""

import asyncio
import importlib
import threading
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from contracts.schema.jobs import State
from tests.worker.client import Client
from tests.worker.jobs import CAT, DOG
from tests.worker.test_tiers import heatmap
from worker.device import Priority, turn
from worker.resources import Resources
from worker.together import Question, Questions

attribute: Any = importlib.import_module("worker.handlers.attribute")  # the package has its function under that name


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many questions every pass answered."""
    seen: list[int] = []
    real = attribute.heats_together

    def heard(questions: Sequence[Question]) -> Any:
        seen.append(len(questions))
        return real(questions)

    monkeypatch.setattr(attribute, "heats_together", heard)
    return seen


async def asked(client: Client, worker: Resources, jobs: Sequence[Any]) -> list[Any]:
    """Ask questions while the device is busy, so that all wait for it; their records."""
    release = threading.Event()
    worker.gate.submit(turn("interactive", Priority.INTERACTIVE), lambda: release.wait(60))
    ids = [await client.submit(job) for job in jobs]
    while len(worker.questions._waiting) < len(ids):
        await asyncio.sleep(0.01)
    release.set()
    return [await client.ended(job_id) for job_id in ids]


async def test_questions_about_one_trace_are_answered_in_one_pass_as_each_alone(
    client: Client, worker: Resources, passes: list[int]
) -> None:
    source = await client.generated()
    jobs = [await client.attribution(source, target) for target in (CAT, DOG, CAT)]
    alone = [await heatmap(client, await client.ended(await client.submit(job))) for job in jobs]
    assert passes == [1, 1, 1]
    together = [await heatmap(client, record) for record in await asked(client, worker, jobs)]
    assert passes[3:] == [3]
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_allclose(other, one, atol=1e-6 * one.max())
    assert worker.questions._waiting == []


async def test_a_question_that_breaks_the_pass_fails_alone(
    client: Client, worker: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, real, sizes = await client.generated(), attribute.heats_together, list[int]()

    def breaks(questions: Sequence[Question]) -> Any:
        sizes.append(len(questions))
        if any(each.job.targets[0].label == "dog" for each in questions):
            raise RuntimeError("a target that breaks the pass")
        return real(questions)

    monkeypatch.setattr(attribute, "heats_together", breaks)
    records = await asked(client, worker, [await client.attribution(source, target) for target in (CAT, DOG, CAT)])
    assert [record.state for record in records] == [State.SUCCEEDED, State.FAILED, State.SUCCEEDED]
    assert sizes == [3, 1, 1, 1]


SCENE, MODEL = SimpleNamespace(trace=object()), object()


def question(**changes: Any) -> Question:
    parts = {"model": MODEL, "scene": SCENE, "job": SimpleNamespace(confidence=False), "wanted": [], "sociable": True}
    return Question(**parts | changes)


def test_two_are_answered_in_one_pass_and_none_a_second_time() -> None:
    questions, three, passes = Questions(), [question() for _ in range(3)], list[list[Question]]()

    def answer(company: Sequence[Question]) -> Any:
        passes.append([*company])
        return [[] for _ in company]

    questions._waiting = three[:2]
    questions._answered(three[0], answer)
    questions._waiting = three
    questions._answered(three[2], answer)
    assert passes == [three[:2], three[2:]]


def test_questions_of_another_kind_are_answered_apart() -> None:
    assert question().suits(question())
    others: list[dict[str, Any]] = [
        {"model": object()},
        {"scene": SimpleNamespace(trace=object())},
        {"job": SimpleNamespace(confidence=True)},
        {"sociable": False},
    ]
    for changes in others:
        assert not question().suits(question(**changes))
        assert not question(**changes).suits(question())


async def test_a_question_that_is_gone_waits_no_longer() -> None:
    questions = Questions()

    async def canceled(*_: Any) -> Any:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await questions.ask(SimpleNamespace(on_device=canceled), SimpleNamespace(), lambda _: [])
    assert questions._waiting == []
