"""The studio that is a running service: images, tokens and masks are asked for over HTTP."""

import io
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

import ovam
from experiments.client import Record, Service
from experiments.evaluation.asking import VOCABULARY
from experiments.evaluation.datasets import Case, render
from experiments.evaluation.images import Made, Mask, Seconds, annotation, clock, drawn
from experiments.evaluation.recipes import Recipe
from experiments.evaluation.settings import Setting, Settings
from experiments.evaluation.studios import bodies
from experiments.evaluation.studios.models import text_part
from experiments.evaluation.studios.studio import Examples, Fit, Learned, Words
from ovam import coco
from ovam.methods import Method
from ovam.trace import Half

TIMEOUT = 60.0  # seconds


class NotServedError(Exception):
    """A service that is not there, or does not have a model."""


def bare(setting: Setting) -> Setting:
    """A setting whose heat is that of all which differ in what comes after it."""
    return replace(setting, method=replace(setting.method, tau=Method("bare").tau, crf=None))


@dataclass(frozen=True, eq=False)
class Questions:
    """What the targets of an image are, as JSON, by which the answers are known again."""

    case: Case
    learned: Learned
    vocabulary: Record

    def text(self, setting: Setting) -> str:
        """A setting's target."""
        return json.dumps(bodies.target(setting, self.case, self.learned, self.vocabulary))


Question = tuple[Half, str]


@dataclass(frozen=True, eq=False)
class ServiceHeats:
    """What a service answered of an image."""

    questions: Questions
    masks: dict[Question, Mask] = field(default_factory=dict)
    heats: dict[Question, Tensor] = field(default_factory=dict)

    def heat(self, setting: Setting) -> Float[Tensor, "height width"]:
        """What a setting's threshold cuts."""
        return self.heats[setting.half, self.questions.text(bare(setting))]

    def mask(self, setting: Setting) -> Mask:
        """The service's own mask."""
        return self.masks[setting.half, self.questions.text(setting)]


@dataclass(frozen=True, eq=False)
class RemoteStudio:
    """A service that makes images, learns and measures."""

    service: Service
    name: str
    """By which it calls the model."""
    model: Path
    """Where the model's text encoder is."""
    words: Words
    jobs: list[str] = field(default_factory=list)
    """Those whose traces the service keeps."""

    def now(self) -> float:
        """The time that passes: the work is done elsewhere."""
        return time.monotonic()

    def make(self, cases: Sequence[Case], *, both_halves: bool = False) -> list[Made]:
        """Make the images of cases, each in a job of its own for every half; their traces stay with the service."""
        found: list[Made] = []
        for (source, seed), several in groupby(cases, lambda case: (case.source, case.seed)):
            if source == "render":
                found += self._looked_at(seed, list(several))
            else:
                found += [self._generated(case, both_halves=both_halves) for case in several]
        return found

    def learn(self, recipe: Recipe, words: Words, examples: Examples) -> Fit:
        """Learn the tokens of classes; they stay with the service."""
        record = self.service.run("optimize", bodies.lesson(recipe, words, examples))
        self.jobs.append(record["id"])
        result = record["result"]
        return {
            "token": result["token"],
            "loss": [result["losses"][0], result["best_loss"]],
            "best epoch": result["best_epoch"],
            "ended": result["ended"],
        }

    def look(self, made: Made, learned: Learned, *, masks: Settings, heats: Settings) -> ServiceHeats:
        """Ask for everything that differs once."""
        asked = any(one.asked == VOCABULARY for one in (*masks, *heats))
        questions = Questions(made.case, learned, self._vocabulary(made.case.kind) if asked else {})
        found = ServiceHeats(questions)
        for half, job in made.jobs.items():
            cut = dict.fromkeys(questions.text(bare(one)) for one in heats if one.half == half)
            texts = dict.fromkeys([*cut, *(questions.text(one) for one in masks if one.half == half)])
            for batch in bodies.batches(list(texts)):
                for text, segment in zip(batch, self._segments(job, batch, cut), strict=True):
                    found.masks[half, text] = coco.decode_run_lengths(segment["rle"])
                    if text in cut:
                        found.heats[half, text] = segment["heat"]
        return found

    def forget(self) -> None:
        """Delete what the service keeps of images and lessons; the tokens stay."""
        while self.jobs:
            self.service.delete(self.jobs.pop())

    def _segments(self, job: str, texts: Sequence[str], cut: dict[str, None]) -> list[dict[str, Any]]:
        """The answers to targets, some with what their threshold cuts; nothing of them stays with the service."""
        targets = [json.loads(text) | {"label": str(number)} for number, text in enumerate(texts)]
        record = self.service.run("attribute", {"job_id": job, "method": "ovam", "targets": targets})
        segments = record["result"]["segments"]
        for text, segment in zip(texts, segments, strict=True):
            if text in cut:
                data = self.service.bytes(segment["refined_npy"] or segment["heatmap_npy"])
                segment["heat"] = torch.from_numpy(np.load(io.BytesIO(data)))
        self.service.delete(record["id"])
        return segments

    def _generated(self, case: Case, *, both_halves: bool) -> Made:
        """Generate an image, and see what is true."""
        seconds: Seconds = {}
        jobs: dict[Half, str] = {}
        with clock(seconds, "generation", self.now):
            record = self._kept("generate", bodies.generation(self.name, case, "conditional"))
            jobs["conditional"] = record["id"]
            if both_halves:
                jobs["unconditional"] = self._kept("generate", bodies.generation(self.name, case, "unconditional"))["id"]
            image = self.service.picture(record["result"]["images"][0]["image"])
        with clock(seconds, "annotation", self.now):
            annotated = annotation(case, image)
        return Made(case, image, *annotated, seconds, jobs=jobs)

    def _looked_at(self, seed: int, cases: Sequence[Case]) -> Iterator[Made]:
        """Let the service look at a render, once for all that is looked for in it."""
        seconds: Seconds = {}
        drawing = render(seed)
        with clock(seconds, "generation", self.now):
            job = self._kept("images", bodies.looking(self.name, drawing.image))["id"]
        for case in cases:
            yield Made(case, drawing.image, *drawn(case, drawing), seconds, jobs={"conditional": job})
            seconds = {}

    def _kept(self, operation: str, body: Record) -> Record:
        """A job whose trace is still needed."""
        record = self.service.run(operation, body)
        self.jobs.append(record["id"])
        return record

    def _vocabulary(self, kind: str) -> Record:
        """The words of all classes as rows, and which is that of a class."""
        return {"embedding": rows_of(self.model, tuple(self.words.values())), "rows": [1 + list(self.words).index(kind)]}


@cache
def rows_of(model: Path, words: tuple[str, ...]) -> list[list[float]]:
    """The rows of words behind the background's, as tokens start from them."""
    return ovam.initial_tokens(text_part(model), *words).tolist()


@contextmanager
def connected(url: str, model: Path, source: str, words: Words) -> Iterator[RemoteStudio]:
    """A studio at an address, until the block is left; then nothing but tokens is left there."""
    with httpx2.Client(base_url=url, timeout=TIMEOUT) as http:
        studio = RemoteStudio(Service(http), served_as(http, model, source), model, words)
        try:
            yield studio
        finally:
            studio.forget()


def check_served(url: str, model: Path, source: str) -> None:
    """Raise NotServedError unless a service is there and has a model."""
    try:
        with httpx2.Client(base_url=url, timeout=TIMEOUT) as http:
            served_as(http, model, source)
    except httpx2.HTTPError as error:
        raise NotServedError(f"no service answers at {url!r}: {error}") from error


def served_as(http: httpx2.Client, model: Path, source: str) -> str:
    """What a service calls a model: it is loaded from the same source, or called as the folder. NotServedError if it has none."""
    cards = http.get("/v1/models").raise_for_status().json()["models"]
    name = next((card["name"] for card in cards if card["source"] == source or card["name"] == model.name), None)
    if name is None:
        served = ", ".join(f"{card['name']} ({card['source']})" for card in cards)
        raise NotServedError(f"the service at {http.base_url} does not have the model {source!r}; it has: {served}")
    return name
