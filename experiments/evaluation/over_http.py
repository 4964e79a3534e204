"""The same measurement by a running service: images, tokens and masks are asked for over HTTP, and counted here."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

import httpx2
import numpy as np
from numpy.typing import NDArray

from contracts.attribution import MAX_TARGETS
from contracts.attribution import Settings as SettingsOfRequests
from contracts.targets import counting
from experiments.client import Record, Service, png_base64
from experiments.evaluation.asking import WORDINGS, Asked
from experiments.evaluation.datasets import Case
from experiments.evaluation.images import GUIDANCE_SCALE, Made, Seconds, mask_of_kind
from experiments.evaluation.learning import clear_images, of_class
from experiments.evaluation.lines import Line, line_of, read_lines
from experiments.evaluation.measure import counted
from experiments.evaluation.recipes import Recipe
from experiments.evaluation.settings import Setting, Settings
from experiments.evaluation.work import TokenFiles, as_text
from experiments.tinyworld.annotator import Annotator
from ovam import coco
from ovam.schedules import StepDecay

TIMEOUT = 60.0  # seconds

References = Mapping[tuple[Asked, str], str]  # learned tokens as the service calls them, by recipe and class


@dataclass(frozen=True)
class Address:
    """Where a service is, and which of its models is meant."""

    url: str
    model: str


@dataclass(frozen=True, eq=False)
class RemoteStudio:
    """A service that makes images, and the annotator."""

    service: Service
    model: str
    annotator: Annotator

    def make(self, cases: Sequence[Case], *, both_halves: bool = False) -> list[Made]:  # noqa: ARG002  # a Maker's
        """Make the images of cases, each in a job of its own; their traces stay with the service."""
        return [self._made(case) for case in cases]

    def _made(self, case: Case) -> Made:
        """Generate an image, and let the annotator paint."""
        body = {
            "model": self.model,
            "prompt": case.prompt,
            "seed": case.seed,
            "num_inference_steps": case.steps,
            "guidance_scale": GUIDANCE_SCALE,
            "capture": {"self_attention": True},
        }
        seconds: Seconds = {}
        with stopwatch(seconds, "generation"):
            record = self.service.run("generate", body)
            image = self.service.picture(record["result"]["images"][0]["image"])
        labels = self.annotator.labels(image[None])[0]
        return Made(case, image, {}, labels, mask_of_kind(labels, case.kind), seconds, job=record["id"])

    def learn(self, kind: str, recipe: Recipe) -> Line:
        """Learn a class's token by a recipe."""
        made = clear_images(self, of_class(recipe.dataset, kind), recipe.images)
        seconds: Seconds = {}
        with stopwatch(seconds, "optimisation"):
            result = self.service.run("optimize", lesson(kind, recipe, made))["result"]
        return {
            "recipe": recipe.name,
            "kinds": [kind],
            "token": result["token"],
            "examples": [{"prompt": one.case.prompt, "seed": one.case.seed} for one in made],
            "loss": [result["losses"][0], result["best_loss"]],
            "best epoch": result["best_epoch"],
            "ended": result["ended"],
            "seconds": seconds,
        }

    def line(self, made: Made, settings: Settings, references: References, *, sweep: bool) -> Line:
        """What is kept of an image: every setting's counts, at its own threshold or at every one of its grid."""
        if not made.clear:
            return line_of(made, {}, {}, {})
        every = [one for setting in settings for one in (map(setting.at, setting.grid) if sweep else (setting,))]
        seconds: Seconds = {}
        with stopwatch(seconds, "attribution"):
            masks = list(self.masks(made, every, references))
        found: dict[str, list[NDArray[np.bool_]]] = {}
        for setting, mask in zip(every, masks, strict=True):
            found.setdefault(setting.key, []).append(mask)
        counts = {key: counted(np.stack(several), made.truth) for key, several in found.items()}
        return line_of(made, counts, {}, seconds)

    def masks(self, made: Made, settings: Settings, references: References) -> Iterator[NDArray[np.bool_]]:
        """The mask of every setting, as many in a request as it takes."""
        targets = [target(str(number), one, made.case, references) for number, one in enumerate(settings)]
        for start in range(0, len(targets), MAX_TARGETS):
            body = {"job_id": made.job, "method": "ovam", "targets": targets[start : start + MAX_TARGETS]}
            record = self.service.run("attribute", body)
            for segment in record["result"]["segments"]:
                yield coco.decode_run_lengths(segment["rle"])


def lesson(kind: str, recipe: Recipe, made: Sequence[Made]) -> Record:
    """The request to learn a class's token."""
    schedule = "step" if isinstance(recipe.schedule, StepDecay) else type(recipe.schedule).__name__.lower()
    return {
        "name": f"evaluation-{kind}",
        "classes": [kind],
        "examples": [{"job_id": one.job, "mask": png_base64(one.truth)} for one in made],
        "optimizer": recipe.optimizer,
        "learning_rate": recipe.learning_rate,
        "schedule": {"kind": schedule, **asdict(recipe.schedule)},
        "epochs": recipe.epochs,
    }


def target(label: str, setting: Setting, case: Case, references: References) -> Record:
    """The target of a request for a setting's mask; every choice of its method is said."""
    if setting.asked in WORDINGS:
        prompt, word = WORDINGS[setting.asked](case)
        sought = {"prompt": prompt, "word": word}
    else:
        sought = {"token": references[setting.asked, case.kind]}
    return {"label": label, **sought, "settings": as_request(setting)}


def as_request(setting: Setting) -> dict[str, Any]:
    """A method's settings as a request says them."""
    written = setting.method.settings()
    return counting({field: written[field] for field in SettingsOfRequests.model_fields})


def class_tokens(address: Address, kind: str, recipes: Iterable[Recipe]) -> str:
    """Learn the tokens of one class."""
    with connected(address) as studio:
        return as_text([studio.learn(kind, recipe) for recipe in recipes])


def images(address: Address, cases: Sequence[Case], settings: Mapping[str, Settings], files: TokenFiles, *, sweep: bool) -> str:
    """Make images and count every setting's mask of them."""
    references = read_references(files)
    with connected(address) as studio:
        made = studio.make(cases)
        return as_text([studio.line(one, settings[one.case.group], references, sweep=sweep) for one in made])


@contextmanager
def connected(address: Address) -> Iterator[RemoteStudio]:
    """A studio at an address, until the block is left."""
    with httpx2.Client(base_url=address.url, timeout=TIMEOUT) as http:
        yield RemoteStudio(Service(http), address.model, annotator())


@cache
def annotator() -> Annotator:
    """The annotator of this process."""
    return Annotator.load()


@contextmanager
def stopwatch(seconds: Seconds, stage: str) -> Iterator[None]:
    """Add the time spent waiting inside the `with` to a stage."""
    start = time.monotonic()
    yield
    seconds[stage] = seconds.get(stage, 0.0) + time.monotonic() - start


@cache
def read_references(files: TokenFiles) -> References:
    """Everything that the service learned."""
    return {(line["recipe"], line["kinds"][0]): line["token"] for line in read_lines(files)}
