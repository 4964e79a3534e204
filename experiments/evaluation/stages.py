"""The stages of the evaluation: learn tokens, choose thresholds, measure. Each is a list of tasks for several processes."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

from experiments.evaluation import learning, over_http, work
from experiments.evaluation import settings as rows
from experiments.evaluation.datasets import DATASETS, Case, renders
from experiments.evaluation.images import annotator_hash, weights_hash
from experiments.evaluation.lines import Line, read_lines
from experiments.evaluation.over_http import Address
from experiments.evaluation.recipes import ASKED_OF_RENDERS, PUBLISHED_RECIPE, RECIPES, RENDER_RECIPES, Recipe
from experiments.evaluation.settings import Settings
from experiments.evaluation.tasks import Task
from experiments.evaluation.tuning import Choice, choices
from experiments.tinyworld.shapes import CLASS_NAMES

IMAGES_A_TASK = 10
TUNING, REPORTING, LONG = ("voc-sim-tuning", "coco-cap-tuning"), ("voc-sim", "coco-cap"), "voc-sim-100"
SHORT = "voc-sim, the images of voc-sim-100"
Stage = Callable[[], list[Task]]


@dataclass(frozen=True)
class Scale:
    """How much is done."""

    images: dict[str, int]
    """Of every class, by data set."""
    renders: dict[str, int]
    """Of every class, by purpose; none: real images are left out."""
    everything: bool = True
    """Whether all settings and recipes take part, or those of the published methods."""
    kinds: tuple[str, ...] = CLASS_NAMES
    """The classes that are looked for."""


FULL = Scale(images={name: DATASETS[name].images for name in (*TUNING, *REPORTING, LONG)}, renders={"tuning": 5, "reporting": 20})
"""All that the paper asks, and more."""
HEADLINE = Scale(images={name: DATASETS[name].images for name in (*TUNING, *REPORTING)}, renders={}, everything=False)
"""Tables 1 and 2 with all their images."""
QUICK = Scale(images={"voc-sim-tuning": 2, "coco-cap-tuning": 2, "voc-sim": 4, "coco-cap": 5}, renders={}, everything=False)


@dataclass(frozen=True)
class Plan:
    """All work that a model's evaluation takes, and where its results lie."""

    model: Path
    work: Path
    """The folder for what is under way."""
    scale: Scale = FULL
    service: str = ""
    """The URL of a service that serves the model and is asked for everything; none: all is done in process."""

    @property
    def stages(self) -> dict[str, Stage]:
        """The stages in order; what a later one does depends on what the earlier ones found."""
        return {"tokens": self.learning, "tuning": self.tuning, "reporting": self.reporting}

    @cached_property
    def model_hash(self) -> str:
        """SHA-256 of the model's weights."""
        return weights_hash(self.model)

    @cached_property
    def annotator_hash(self) -> str:
        """SHA-256 of the annotator's weights."""
        return annotator_hash()

    @cached_property
    def resolutions(self) -> tuple[int, ...]:
        """The resolutions of the model's cross-attention, the highest first."""
        unet = json.loads((self.model / "unet" / "config.json").read_text())
        levels = enumerate(unet["down_block_types"])
        return tuple(unet["sample_size"] >> level for level, kind in levels if "CrossAttn" in kind)

    @cached_property
    def settings(self) -> dict[str, Settings]:
        """What is measured, by group of sets; what is measured at 100 steps under that set's name."""
        if not self.scale.everything:
            return {"generated": rows.quick()}
        of_renders = {group: rows.on_renders(asked) for group, asked in ASKED_OF_RENDERS.items()} if self.scale.renders else {}
        return {"generated": rows.generated(self.resolutions), LONG: rows.LONG, **of_renders}

    def learning(self) -> list[Task]:
        """Learn all tokens, the slowest first."""
        recipes = list(RECIPES.values()) if self.scale.everything else [RECIPES[PUBLISHED_RECIPE]]
        alone = tuple(recipe for recipe in recipes if not recipe.joint)
        tasks = [
            (recipe.name, 1000 * recipe.images, partial(work.joint_tokens, self.model, recipe))
            for recipe in sorted(recipes, key=lambda recipe: -recipe.images)
            if recipe.joint
        ]
        tasks += [(kind, 200 * len(alone), self._learn(kind, alone)) for kind in self.scale.kinds]
        if self.scale.renders:
            for kinds in learning.render_kinds():
                made = partial(work.render_tokens, self.model, kinds)
                tasks.append((f"render {kinds[0]}", 100 * len(kinds), made))
        folder = self._folder("tokens", recipes, RENDER_RECIPES if self.scale.renders else {})
        return [Task(folder / f"{name}.jsonl", cost, make) for name, cost, make in tasks]

    def tuning(self) -> list[Task]:
        """Measure every setting at every threshold of its grid."""
        return self._measuring("tuning", TUNING, self.settings, sweep=True)

    def reporting(self) -> list[Task]:
        """Measure every setting at its threshold; none before they are chosen."""
        return self._measuring("reporting", (*REPORTING, LONG), self.chosen, sweep=False)

    @cached_property
    def choices(self) -> dict[str, dict[str, Choice]]:
        """The thresholds that were chosen, by group of sets and by setting."""
        lines = read_lines(task.path for task in self.tuning())
        groups = [group for group in self.settings if group != LONG]
        return {group: choices(self.settings[group], [one for one in lines if one["group"] == group]) for group in groups}

    @cached_property
    def chosen(self) -> dict[str, Settings]:
        """All settings with the thresholds that were chosen."""
        found: dict[str, Settings] = {}
        for group, several in self.settings.items():
            taus = self.choices["generated" if group == LONG else group]
            found[group] = tuple(one.at(taus[one.key].tau) for one in several)
        return found

    def lines(self) -> list[Line]:
        """What was measured on every image of the reporting sets."""
        return read_lines(task.path for task in self.reporting())

    def cost(self) -> float:
        """Of all tasks together, known before thresholds are."""
        everything = (self.learning(), self.tuning(), self._measuring("", (*REPORTING, LONG), self.settings, sweep=False))
        return sum(task.cost for tasks in everything for task in tasks)

    def _measuring(self, stage: str, sets: Sequence[str], settings: dict[str, Settings], *, sweep: bool) -> list[Task]:
        """The tasks of measuring some sets of generated images, and the renders of the stage's purpose."""
        files = tuple(task.path for task in self.learning())
        folder = self._folder(stage, settings, files)
        purpose = "tuning" if sweep else "reporting"
        found = []
        for name, cases in self._batches(sets, purpose):
            make = self._measure(cases, settings, files, sweep=sweep)
            found.append(Task(folder / f"{name}.jsonl", sum(case.steps or 10 for case in cases) * (1.5 if sweep else 1.0), make))
        return found

    def _learn(self, kind: str, recipes: Sequence[Recipe]) -> Callable[[], str]:
        """How a class's tokens are learned."""
        if self.service:
            return partial(over_http.class_tokens, self._address, kind, recipes)
        return partial(work.class_tokens, self.model, kind, recipes)

    def _measure(
        self, cases: Sequence[Case], settings: dict[str, Settings], files: work.TokenFiles, *, sweep: bool
    ) -> Callable[[], str]:
        """How cases are measured."""
        if self.service:
            return partial(over_http.images, self._address, cases, settings, files, sweep=sweep)
        return partial(work.images, self.model, cases, settings, files, sweep=sweep)

    @property
    def _address(self) -> Address:
        """The model at the service, which calls it by its folder's name."""
        return Address(self.service, self.model.name)

    def _batches(self, sets: Sequence[str], purpose: str) -> list[tuple[str, tuple[Case, ...]]]:
        """The cases of every task; renders of one task are whole rounds of the classes."""
        found = []
        for name in sets:
            if name in self.scale.images:
                cases = DATASETS[name].cases(self.scale.images[name], self.scale.kinds)
                starts = range(0, len(cases), IMAGES_A_TASK)
                found += [(f"{name}-{start:04d}", cases[start : start + IMAGES_A_TASK]) for start in starts]
        if purpose in self.scale.renders:
            cases = tuple(renders(purpose, self.scale.renders[purpose]))
            rounds = sorted({case.number for case in cases})
            found += [(f"renders-{number:04d}", tuple(case for case in cases if case.number == number)) for number in rounds]
        return found

    def _folder(self, stage: str, *what: object) -> Path:
        """Where the results of a stage lie: elsewhere whenever anything is asked otherwise."""
        digest = hashlib.sha256(repr((self.annotator_hash, self.service, what)).encode()).hexdigest()[:8]
        return self.work / self.model_hash[:12] / f"{stage}-{digest}"
