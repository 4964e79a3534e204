"""The stages of the evaluation: learn tokens, choose thresholds, measure. Each is a list of tasks for several processes."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

from experiments.evaluation import folder, learning, work
from experiments.evaluation import settings as rows
from experiments.evaluation.datasets import DATASETS, Case, DataSet, renders
from experiments.evaluation.folder import FolderSet
from experiments.evaluation.images import annotator_hash, weights_hash
from experiments.evaluation.lines import Line, read_lines
from experiments.evaluation.recipes import ASKED_OF_RENDERS, PUBLISHED_RECIPE, RECIPES, RENDER_RECIPES, Recipe
from experiments.evaluation.scales import FULL, LONG, REPORTING, TUNING, Scale
from experiments.evaluation.settings import Settings
from experiments.evaluation.tasks import Task
from experiments.evaluation.tuning import Choice, choices
from experiments.evaluation.work import Place
from experiments.tinyworld.shapes import CLASS_NAMES

IMAGES_A_TASK = 10
Stage = Callable[[], list[Task]]


@dataclass(frozen=True)
class Plan:
    """All work that a model's evaluation takes, and where its results lie."""

    model: Path
    work: Path
    """The folder for what is under way."""
    scale: Scale = FULL
    service: str = ""
    """The URL of a service that serves the model and is asked for everything; none: all is done in process."""
    annotated: Path | None = None
    """A folder of annotated images; none: the data sets of the bundled world."""
    source: str = ""
    """How the model was named, a hub's id perhaps; none: by its folder."""

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
    def datasets(self) -> Mapping[str, DataSet | FolderSet]:
        """Where images come from, by name."""
        return self._folder_sets or DATASETS

    @cached_property
    def _folder_sets(self) -> Mapping[str, FolderSet]:
        """The sets of the annotated folder, if there is one."""
        return folder.read(self.annotated) if self.annotated else {}

    @cached_property
    def source_hash(self) -> str:
        """SHA-256 of what counts as true."""
        return folder.contents_hash(self.annotated) if self.annotated else self.annotator_hash

    @cached_property
    def settings(self) -> dict[str, Settings]:
        """What is measured, by group of sets; what is measured at 100 steps under that set's name."""
        if not self.scale.everything:
            return {"generated": rows.quick()}
        if self.annotated:
            return {"generated": rows.answered(rows.of_any_model(self.resolutions, self.scale.steps), self.scale.asked)}
        everything = {"generated": rows.generated(self.resolutions), LONG: rows.LONG}
        if self.scale.renders:
            everything |= {group: rows.on_renders(asked) for group, asked in ASKED_OF_RENDERS.items()}
        return {group: rows.answered(several, self.scale.asked) for group, several in everything.items()}

    @cached_property
    def place(self) -> Place:
        """Where everything is asked."""
        words = folder.words(self._folder_sets) if self.annotated else {kind: kind for kind in CLASS_NAMES}
        return Place(self.model, tuple(words.items()), self.service, self.source)

    def learning(self) -> list[Task]:
        """Learn all tokens, the slowest first."""
        asked = self.scale.asked if self.scale.everything else (PUBLISHED_RECIPE,)
        recipes = [self._shortened(recipe) for name, recipe in RECIPES.items() if name in asked]
        real = RENDER_RECIPES if self.scale.renders else {}
        of_renders = {name: self._shortened(recipe) for name, recipe in real.items() if name in asked}
        alone = tuple(recipe for recipe in recipes if not recipe.joint)
        tasks = [
            (recipe.name, 1000 * recipe.images, partial(work.joint_tokens, self.place, recipe, self.scale.kinds))
            for recipe in sorted(recipes, key=lambda recipe: -recipe.images)
            if recipe.joint
        ]
        for kind in self.scale.kinds:
            cases = {recipe.dataset: self.datasets[recipe.dataset].of_kind(kind) for recipe in alone}
            tasks.append((kind, 200 * len(alone), partial(work.class_tokens, self.place, kind, alone, cases)))
        for kinds in learning.render_kinds(self._of_renders()) if of_renders else ():
            made = partial(work.render_tokens, self.place, kinds, tuple(of_renders.values()))
            tasks.append((f"render {kinds[0]}", 100 * len(kinds), made))
        place = self._folder("tokens", recipes, of_renders)
        return [Task(place / f"{name_of_file(name)}.jsonl", cost, make) for name, cost, make in tasks]

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

    @property
    def report(self) -> Path:
        """A folder for results that are not to be taken for those of the bundled model."""
        return self._folder("report", self.scale)

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
        place = self._folder(stage, settings, files)
        purpose = "tuning" if sweep else "reporting"
        found = []
        for name, cases in self._batches(sets, purpose):
            make = partial(work.images, self.place, cases, settings, files, sweep=sweep)
            found.append(Task(place / f"{name}.jsonl", sum(case.steps or 10 for case in cases) * (1.5 if sweep else 1.0), make))
        return found

    def _shortened(self, recipe: Recipe) -> Recipe:
        """A recipe with no more epochs than the scale has."""
        return replace(recipe, epochs=min(recipe.epochs, self.scale.epochs or recipe.epochs))

    def _of_renders(self) -> set[str]:
        """What is looked for in renders."""
        kinds = self.scale.kinds
        return {case.kind for purpose, images in self.scale.renders.items() for case in renders(purpose, images, kinds)}

    def _batches(self, sets: Sequence[str], purpose: str) -> list[tuple[str, tuple[Case, ...]]]:
        """The cases of every task; renders of one task are whole rounds of the classes."""
        found = []
        for name in sets:
            if name in self.scale.images:
                cases = self.datasets[name].cases(self.scale.images[name], self.scale.kinds)
                size = 1 if self.annotated else IMAGES_A_TASK  # large traces, and each with steps of its own
                found += [(f"{name}-{start:04d}", cases[start : start + size]) for start in range(0, len(cases), size)]
        if purpose in self.scale.renders:
            cases = tuple(renders(purpose, self.scale.renders[purpose], self.scale.kinds))
            rounds = sorted({case.number for case in cases})
            found += [(f"renders-{number:04d}", tuple(case for case in cases if case.number == number)) for number in rounds]
        return found

    def _folder(self, stage: str, *what: object) -> Path:
        """Where the results of a stage lie: elsewhere whenever anything is asked otherwise."""
        digest = hashlib.sha256(repr((self.source_hash, self.service, what)).encode()).hexdigest()[:8]
        return self.work / self.model_hash[:12] / f"{stage}-{digest}"


def name_of_file(name: str) -> str:
    """A class's or a recipe's name, which may be anybody's, as that of a file."""
    plain = "".join(letter if letter.isalnum() or letter in " ,-_" else "_" for letter in name)
    return plain if plain == name else f"{plain[:80]} {hashlib.sha256(name.encode()).hexdigest()[:8]}"
