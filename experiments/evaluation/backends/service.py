"""The backend that is a running service: images, tokens and masks are asked for over HTTP."""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from experiments.evaluation.backends import requests
from experiments.evaluation.backends.backend import Examples, Fit, Learned, Words
from experiments.evaluation.backends.competing import word_against
from experiments.evaluation.backends.models import resolutions_of, text_part
from experiments.evaluation.backends.requests import Record
from experiments.evaluation.datasets import Case
from experiments.evaluation.recipes import Recipe
from experiments.evaluation.settings import Setting, Settings
from experiments.evaluation.subjects import Mask, Seconds, Subject, Truth, annotation, clock
from experiments.evaluation.targets import AGAINST_ALL, AGAINST_SCENE
from experiments.evaluation.world import World, world_of
from ovam_client import Client, Job, OvamServiceError, Patience, Segment

TIMEOUT = 60.0  # seconds


class NotServedError(Exception):
    """A service that is not there, or does not have a model."""


def bare(setting: Setting) -> Setting:
    """A setting whose heat is that of all which differ in what comes after it."""
    return replace(setting, method=setting.heat)


@dataclass(frozen=True, eq=False)
class Targets:
    """The targets of an image, as JSON, by which the answers are known again."""

    case: Case
    learned: Learned
    competing: Mapping[str, Record]
    """The rows of words that compete, by target."""

    def text(self, setting: Setting) -> str:
        """A setting's target."""
        return json.dumps(requests.target(setting, self.case, self.learned, self.competing.get(setting.target, {})))


@dataclass(frozen=True, eq=False)
class ServiceAnswers:
    """The segments of an image."""

    targets: Targets
    masks: dict[str, Mask] = field(default_factory=dict)
    heats: dict[str, NDArray[np.float32]] = field(default_factory=dict)

    def heat(self, setting: Setting) -> Float[NDArray, "height width"]:
        """What a setting's threshold cuts."""
        return self.heats[self.targets.text(bare(setting))]

    def mask(self, setting: Setting) -> Mask:
        """The service's own mask."""
        return self.masks[self.targets.text(setting)]


@dataclass(frozen=True, eq=False)
class ServiceBackend:
    """A service that generates images, learns tokens and finds masks."""

    client: Client
    name: str
    """By which it calls the model."""
    model: Path
    """Where the model's text encoder is."""
    world: World
    words: Words
    jobs: list[Job[Any]] = field(default_factory=list)
    """Those whose traces the service keeps."""

    def now(self) -> float:
        """The time that passes: the work is done elsewhere."""
        return time.monotonic()

    def generate(self, cases: Sequence[Case]) -> list[Subject]:
        """Generate the images of cases, each in a job of its own; their traces stay with the service."""
        found: list[Subject] = []
        for group, several in groupby(cases, lambda case: case.group):
            found += [self._traced(case) if group == "real" else self._generated(case) for case in several]
        return found

    def learn(self, recipe: Recipe, words: Words, examples: Examples) -> Fit:
        """Learn the tokens of classes; they stay with the service."""
        result = self._kept("optimize", requests.optimization(recipe, words, examples, resolutions_of(self.model))).result
        return {
            "token": result.token,
            "loss": [result.losses[0], result.best_loss],
            "best epoch": result.best_epoch,
            "ended": result.ended,
        }

    def answers(self, subject: Subject, learned: Learned, *, masks: Settings, heats: Settings) -> ServiceAnswers:
        """Ask for everything that differs once."""
        competing = {
            target: self._competing(subject.case, target)
            for target in dict.fromkeys(one.target for one in (*masks, *heats))
            if target in (AGAINST_ALL, AGAINST_SCENE)
        }
        targets = Targets(subject.case, learned, competing)
        found = ServiceAnswers(targets)
        cut = dict.fromkeys(targets.text(bare(one)) for one in heats)
        for batch in requests.batches([*dict.fromkeys([*cut, *(targets.text(one) for one in masks)])]):
            with self._segments(subject.job, batch) as segments:
                for text, segment in zip(batch, segments, strict=True):
                    found.masks[text] = segment.mask
                    if text in cut:
                        found.heats[text] = segment.refined()
        return found

    def forget(self) -> None:
        """Delete what the service keeps of images and training; the tokens stay."""
        while self.jobs:
            self.jobs.pop().delete()

    @contextmanager
    def _segments(self, job: str, texts: Sequence[str]) -> Iterator[list[Segment]]:
        """The segments of targets, until the block is left; then nothing of them stays with the service."""
        targets = [json.loads(text) | {"label": str(number)} for number, text in enumerate(texts)]
        answer = self.client.attribute(job, *targets, method="ovam").wait()
        yield answer.segments
        answer.delete()

    def _generated(self, case: Case) -> Subject:
        """Generate an image, and see what is true."""
        seconds: Seconds = {}
        with clock(seconds, "generation", self.now):
            job = self._kept("generate", requests.generation(self.name, case))
            image = np.array(job.image())
        with clock(seconds, "annotation", self.now):
            truth = annotation(case, image, self.world)
        return Subject(case, image, truth, seconds, job=job.id)

    def _traced(self, case: Case) -> Subject:
        """Let the service trace a real image, whose truth is exact."""
        seconds: Seconds = {}
        real = self.world.real_image(case.class_name, case.seed, case.things)
        with clock(seconds, "generation", self.now):
            job = self._kept("images", requests.real_image(self.name, real.image)).id
        truth = Truth(real.labels, real.labels == self.world.label(case.class_name))
        return Subject(replace(case, others=real.others), real.image, truth, seconds, job=job)

    def _kept(self, operation: str, body: Record) -> Job[Any]:
        """A job whose files are still needed."""
        job = self.client.submit(operation, body).wait()
        self.jobs.append(job)
        return job

    def _competing(self, case: Case, target: str) -> Record:
        """A class's word with those it competes with, as rows."""
        return rows_against(self.model, case.word, tuple(self.words.values()) if target == AGAINST_ALL else case.others)


@cache
def rows_against(model: Path, word: str, others: tuple[str, ...]) -> Record:
    """A word in one softmax with others, as a target of requests."""
    rows = word_against(text_part(model), word, others)
    return {"embedding": rows.embedding.tolist(), "rows": list(rows.chosen)}


@contextmanager
def connected(url: str, model: Path, source: str, words: Words) -> Iterator[ServiceBackend]:
    """A backend at an address, until the block is left; then nothing but tokens is left there."""
    with Client(url, timeout=TIMEOUT) as client:
        backend = ServiceBackend(client, served_as(client, model, source), model, world_of(model), words)
        try:
            yield backend
        finally:
            backend.forget()


def check_served(url: str, model: Path, source: str) -> None:
    """Raise NotServedError unless a service is there and has a model."""
    try:
        with Client(url, timeout=TIMEOUT, patience=Patience(away=0)) as client:
            served_as(client, model, source)
    except OvamServiceError as error:
        raise NotServedError(f"no service answers at {url!r}: {error}") from error


def served_as(client: Client, model: Path, source: str) -> str:
    """What a service calls a model: it is loaded from the same source, or called as the folder. NotServedError if it has none."""
    cards = client.models()
    name = next((card.name for card in cards if card.source == source or card.name == model.name), None)
    if name is None:
        served = ", ".join(f"{card.name} ({card.source})" for card in cards)
        raise NotServedError(f"the service at {client.address.url} does not have the model {source!r}; it has: {served}")
    return name
