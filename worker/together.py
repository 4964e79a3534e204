"""Questions that wait for the device and are about one trace: the first whose turn it is answers them all in one pass.

When the turns of the others come, there is nothing left to do. Where the pass fails, each is answered by itself.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock

from contracts.schema.attribute import FilledQuestion
from ovam.attention.targets import Rows, Words
from worker.attempts import Attempt
from worker.device import Priority
from worker.models import Model
from worker.scenes import Scene
from worker.segments import Heat

log = logging.getLogger(__name__)


@dataclass(eq=False)
class Question:
    """What one job wants to know of an image."""

    model: Model
    scene: Scene
    job: FilledQuestion
    wanted: Sequence[Words | Rows]
    """Its targets, then its distractors."""
    sociable: bool = True
    """Whether it may be answered with others: not if a worker died with it, nor after a pass that failed."""
    heats: list[Heat] | None = None
    """The answer."""

    def suits(self, other: "Question") -> bool:
        """Whether one pass can answer both."""
        return (
            self.sociable
            and other.sociable
            and self.model is other.model
            and self.scene.trace is other.scene.trace
            and self.job.confidence == other.job.confidence
        )


Answer = Callable[[Sequence[Question]], list[list[Heat]]]
"""Answers questions that suit each other in one pass."""


class Questions:
    """The questions that wait for this worker's device. The event loop enlists them, the device's thread answers them."""

    def __init__(self) -> None:
        self._waiting: list[Question] = []
        self._lock = Lock()

    async def ask(self, attempt: Attempt, question: Question, answer: Answer) -> list[Heat]:
        """Answer a question when its turn comes, perhaps with others. Raises LostJob, HandedBack, and what `answer` raises."""
        with self._enlisted(question):
            return await attempt.on_device(Priority.INTERACTIVE, lambda: self._answered(question, answer))

    @contextmanager
    def _enlisted(self, question: Question) -> Iterator[None]:
        """Let a question be answered with others inside the `with`."""
        with self._lock:
            self._waiting.append(question)
        try:
            yield
        finally:
            with self._lock:
                self._waiting.remove(question)

    def _answered(self, first: Question, answer: Answer) -> list[Heat]:
        """Answer a question with those that suit it, unless it has been answered with another."""
        if first.heats is None:
            with self._lock:
                company = [each for each in self._waiting if each.heats is None and (each is first or each.suits(first))]
            if len(company) > 1:
                self._answer_all(company, answer)
        if first.heats is None:
            (first.heats,) = answer([first])
        return first.heats

    def _answer_all(self, company: Sequence[Question], answer: Answer) -> None:
        """Answer questions in one pass; whose fault it is if that fails is known once each is tried alone."""
        try:
            found = answer(company)
        except Exception as error:  # noqa: BLE001  # it is raised again by the question that it belongs to
            log.info("%d questions about one trace are answered one by one: %s", len(company), error)
            for each in company:
                each.sociable = False
            return
        for each, heats in zip(company, found, strict=True):
            each.heats = heats
