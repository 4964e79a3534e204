"""All work of Table 3: every network trained from every seed on synthetic images, on real ones, and on one after the other."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from time import process_time
from typing import Any

import torch

from experiments.evaluation.lines import read_lines
from experiments.evaluation.tasks import Task
from experiments.networks.examples import Examples
from experiments.networks.exporting import load, load_backbone, save, save_backbone
from experiments.networks.naming import RATES as NAMING_RATES
from experiments.networks.naming import named
from experiments.networks.nets import IMAGENET, KINDS, SIDES, Backbone, Size, backbone_of
from experiments.networks.training import RECIPES, measured, train

SYNTHETIC, REAL, HALF_REAL = "S", "R", "R/2"
"""Images that are trained on, and the rows of networks that see them alone."""
THEN_HALF, THEN_ALL, AGAIN = "S -> R/2", "S -> R", "R -> R"
"""Second stages: two of the paper's, and one that tells the images of S from the steps that they were trained for."""
TENTH, FULL = 0.1, 1.0
"""Rates of second stages, as shares of the first one's. On renders that nothing else uses, with one seed, R alone reached 54.4,
41.2 and 30.0 (UPerNet, Mask2Former, that on Swin), S -> R at three tenths 54.0, 44.2 and 36.0, at the full rate 58.3, 46.7 and
34.7."""


@dataclass(frozen=True)
class Row:
    """What the last stage of a row is trained on."""

    images: str
    after: str = ""
    """The row that it goes on from; none: a backbone."""
    rate: float = FULL
    """Of the recipe's."""


def second(name: str, rate: float) -> str:
    """The row of a second stage; at the published tenth of the rate its name alone."""
    return name if rate == TENTH else f"{name}, full rate"


_SECOND = {
    THEN_HALF: Row(HALF_REAL, after=SYNTHETIC),
    THEN_ALL: Row(REAL, after=SYNTHETIC),
    AGAIN: Row(REAL, after=REAL),
}
ROWS: Mapping[str, Row] = {SYNTHETIC: Row(SYNTHETIC), REAL: Row(REAL)} | {
    second(name, rate): replace(row, rate=rate) for rate in (TENTH, FULL) for name, row in _SECOND.items()
}
"""The paper's four, and those that say what they depend on."""
HALF = 5000 / 11_530
"""What the paper calls a scarcity of real images, as a share of them."""
OF_SYNTHETIC = 11_530 / 13_484
"""How many real images the paper has for each synthetic one."""
SEEDS = 3
BATCHES: Mapping[Size, int] = {"tiny": 8, "published": 2}


@dataclass(frozen=True)
class Data:
    """What is trained on and judged by."""

    synthetic: Examples
    real: Examples
    validation: Examples

    def of(self, images: str) -> Examples:
        """Images that rows are trained on, by their name."""
        return {SYNTHETIC: self.synthetic, HALF_REAL: self.real.part(HALF), REAL: self.real}[images]


@dataclass(frozen=True)
class Course:
    """How much is trained."""

    size: Size = "tiny"
    steps: int = 1500
    """Of each stage."""
    seeds: int = SEEDS
    networks: tuple[str, ...] = tuple(KINDS)
    naming: int = 3000
    """Steps in which backbones learn to name things before; none: they begin from nothing. Published ones come from ImageNet."""

    @property
    def backbones(self) -> tuple[Backbone, ...]:
        """Those that know something before."""
        known = self.naming or self.size == "published"
        return tuple(dict.fromkeys(KINDS[name].backbone for name in self.networks)) if known else ()

    @property
    def side(self) -> int:
        """Of the squares that networks see."""
        return SIDES[self.size]

    @property
    def batch(self) -> int:
        """Images a step."""
        return BATCHES[self.size]


SECONDS = dict(zip(KINDS, (0.07, 0.11, 0.16), strict=True))
"""Of a step of the default course, on one thread."""
SECONDS_OF_NAMING: Mapping[Backbone, float] = {"ResNet": 0.07, "Swin": 0.13}


@dataclass(frozen=True)
class Plan:
    """All work, and where its results lie."""

    work: Path
    data: Data
    course: Course = Course()

    @property
    def stages(self) -> Mapping[str, Callable[[], list[Task]]]:
        """What backbones learn before, then what begins with them, then what goes on."""
        return {"backbones": self.naming, "first": partial(self.tasks, second=False), "second": partial(self.tasks, second=True)}

    def naming(self) -> list[Task]:
        """What backbones learn before they become part of a network."""
        steps, paths = self.course.naming, {name: self.backbone(name).with_suffix(".json") for name in self.course.backbones}
        return [Task(path, steps * SECONDS_OF_NAMING[name], partial(begun, self, name)) for name, path in paths.items()]

    def backbone(self, name: Backbone) -> Path:
        """The folder of a backbone as networks begin with it."""
        return self.folder / f"{name} as networks begin"

    def tasks(self, *, second: bool) -> list[Task]:
        """The trainings of a stage."""
        return [
            Task(self.path(name, row, seed), self.course.steps * SECONDS[name], partial(trained, self, name, row, seed))
            for seed in range(self.course.seeds)
            for name in self.course.networks
            for row, how in ROWS.items()
            if bool(how.after) is second
        ]

    def cost(self) -> float:
        """In seconds or so."""
        return sum(task.cost for stage in self.stages.values() for task in stage())

    def path(self, network: str, row: str, seed: int) -> Path:
        """The result of a training; its weights are in a folder beside it."""
        plain = row.replace(" -> ", " then ").replace("R/2", "half of R")
        return self.folder / f"{network}; {plain}; {seed}.json"

    def weights(self, network: str, row: str, seed: int) -> Path:
        """The folder of a trained network."""
        return self.path(network, row, seed).with_suffix("")

    @cached_property
    def folder(self) -> Path:
        """Where results lie: elsewhere whenever anything is trained otherwise."""
        course = {name: value for name, value in vars(self.course).items() if name not in ("seeds", "networks")}
        source = (
            self.data,
            course,
            RECIPES[self.course.size],
            NAMING_RATES,
            [repr(getattr(one, "names", "")) for one in vars(self.data).values()],
        )
        return self.work / f"table3-{hashlib.sha256(repr(source).encode()).hexdigest()[:8]}"

    def known_before(self) -> list[dict[str, Any]]:
        """What backbones have learned before."""
        return read_lines(task.path for task in self.naming())

    def lines(self) -> list[dict[str, Any]]:
        """What every training has reached."""
        return read_lines(task.path for second in (False, True) for task in self.tasks(second=second))


def begun(plan: Plan, name: Backbone) -> str:
    """Let a backbone learn to name things, or fetch one that does, keep it, and say how well it does."""
    torch.set_num_threads(1)
    start = process_time()
    told: dict[str, Any] = {"backbone": name}
    if plan.course.size == "published":
        backbone = load_backbone(name, IMAGENET[name])
    else:
        backbone, right = named(name, plan.course.naming, plan.course.side)
        told |= {"named": right}
    save_backbone(backbone, plan.backbone(name))
    return json.dumps(told | {"seconds": round(process_time() - start, 1)}) + "\n"


def trained(plan: Plan, network: str, row: str, seed: int) -> str:
    """Train a network, keep it, and say what it reaches on the validation set."""
    torch.set_num_threads(1)
    course, kind, how = plan.course, KINDS[network], ROWS[row]
    recipe, start = RECIPES[course.size][network].at(how.rate), process_time()
    torch.manual_seed(seed)
    if how.after:
        net = load(plan.weights(network, how.after, seed)).net
    else:
        net = kind.build(course.size)
        if kind.backbone in course.backbones:
            begin = load_backbone(kind.backbone, plan.backbone(kind.backbone))
            backbone_of(net).load_state_dict(begin.state_dict())
    examples = plan.data.of(how.images)
    # what goes on sees its images in another order than what came before
    order = seed + 1000 * bool(how.after)
    losses = train(net, kind, examples, recipe, course.steps, course.batch, course.side, order)
    training = process_time() - start
    found = measured(net, kind, plan.data.validation, course.side)
    save(net, network, course.side, plan.weights(network, row, seed))
    parameters = sum(one.numel() for one in net.parameters())
    seconds = {"training": round(training, 1), "all": round(process_time() - start, 1)}
    told = {"network": network, "row": row, "seed": seed, "images": len(examples), "parameters": parameters, "seconds": seconds}
    return json.dumps(told | {"losses": losses, "confusion": found.tolist()}) + "\n"
