"""The stages of the evaluation: learn tokens, choose thresholds, measure. Each is a list of tasks for several processes."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

from experiments.evaluation import folder, work
from experiments.evaluation import settings as rows
from experiments.evaluation.backends.models import guidance_scale_of, networks_hash, resolutions_of, weights_hash
from experiments.evaluation.datasets import Case, ImageSet, sets_of
from experiments.evaluation.folder import FolderSet
from experiments.evaluation.lines import Line, read_lines
from experiments.evaluation.recipes import PUBLISHED_RECIPE, REAL_RECIPES, RECIPES, Recipe
from experiments.evaluation.scales import FULL, LONG, REAL_REPORTING, REAL_TUNING, REPORTING, TUNING, Scale
from experiments.evaluation.settings import Settings
from experiments.evaluation.targets import TOKENS_AGAINST_ALL
from experiments.evaluation.tasks import Task
from experiments.evaluation.tuning import Choice, choices
from experiments.evaluation.work import Place
from experiments.evaluation.world import World, world_of
from ovam.trained.networks import networks_in

IMAGES_A_TASK = 10
SECONDS_OF_TUNING = 3.0  # of an image, where measuring it at its thresholds takes 1
Stage = Callable[[], list[Task]]


@dataclass(frozen=True)
class Plan:
    """All work that a model's evaluation takes, and where its results lie."""

    model: Path
    work: Path
    """The folder for what is under way."""
    scale: Scale = FULL
    service: str = ""
    """The URL of a service that serves the model and is asked for everything; none: the library in this process."""
    annotated: Path | None = None
    """A folder of annotated images; none: the data sets of the model's world."""
    source: str = ""
    """How the model was named, a hub's id perhaps; none: by its folder."""

    @property
    def stages(self) -> dict[str, Stage]:
        """The stages in order; what a later one does depends on the results of the earlier ones."""
        return {"tokens": self.learning, "tuning": self.tuning, "reporting": self.reporting}

    @cached_property
    def world(self) -> World:
        """The world that the model draws."""
        return world_of(self.model)

    @cached_property
    def model_hash(self) -> str:
        """SHA-256 of the model's weights."""
        return weights_hash(self.model)

    @cached_property
    def resolutions(self) -> tuple[int, ...]:
        """The resolutions of the model's cross-attention, the highest first."""
        return resolutions_of(self.model)

    @cached_property
    def guidance_scale(self) -> float:
        """What the model's card says."""
        return guidance_scale_of(self.model)

    @cached_property
    def datasets(self) -> Mapping[str, ImageSet]:
        """Where images come from, by name."""
        return self._folder_sets or sets_of(self.world, self.guidance_scale)

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """The classes that are looked for."""
        return self.scale.classes or tuple(self.words)

    @cached_property
    def words(self) -> dict[str, str]:
        """The word of every class of the world, or of the folder."""
        return folder.words(self._folder_sets) if self.annotated else {one.name: one.word for one in self.world.vocabulary}

    @cached_property
    def _folder_sets(self) -> Mapping[str, FolderSet]:
        """The sets of the annotated folder, if there is one."""
        return folder.read(self.annotated) if self.annotated else {}

    @cached_property
    def truth_hash(self) -> str:
        """SHA-256 of what counts as true."""
        return folder.contents_hash(self.annotated) if self.annotated else repr(self.world.annotator_hashes())

    @cached_property
    def settings(self) -> dict[str, Settings]:
        """What is measured, by group of sets; what is measured at 100 steps under that set's name.

        A service keeps the rows of its tokens to itself, so there they cannot compete with each other.
        """
        targets = [name for name in self.scale.targets if not (self.service and name == TOKENS_AGAINST_ALL)]
        if not self.scale.everything:
            return {"generated": rows.available(rows.quick(), targets, self.networks)}
        if self.annotated:
            return {"generated": rows.available(rows.of_any_model(self.resolutions, self.scale.steps), targets, self.networks)}
        everything = {"generated": rows.generated(self.resolutions), LONG: rows.LONG, "real": rows.on_real_images()}
        return {group: rows.available(several, targets, self.networks) for group, several in everything.items()}

    @cached_property
    def networks(self) -> list[str]:
        """The model's trained networks."""
        return networks_in(str(self.model))

    @cached_property
    def place(self) -> Place:
        """Where the model is evaluated."""
        return Place(self.model, tuple(self.words.items()), self.service, self.source)

    def learning(self) -> list[Task]:
        """Learn all tokens, the slowest first."""
        known = RECIPES | REAL_RECIPES if self.scale.everything else {PUBLISHED_RECIPE: RECIPES[PUBLISHED_RECIPE]}
        recipes = [self._shortened(recipe) for recipe in known.values() if recipe.name in self.scale.targets]
        recipes = [recipe for recipe in recipes if recipe.dataset in self.datasets]
        alone = tuple(recipe for recipe in recipes if not recipe.joint)
        tasks = []
        for recipe in sorted((recipe for recipe in recipes if recipe.joint), key=lambda recipe: -recipe.images):
            cases = {name: self.datasets[recipe.dataset].of_class(name) for name in self.classes}
            tasks.append((recipe.name, 1000 * recipe.images, partial(work.joint_tokens, self.place, recipe, self.classes, cases)))
        for name in self.classes if alone else ():
            of_class = {recipe.dataset: self.datasets[recipe.dataset].of_class(name) for recipe in alone}
            tasks.append((name, 200 * len(alone), partial(work.class_tokens, self.place, name, alone, of_class)))
        place = self._folder("tokens", recipes)
        return [Task(place / f"{name_of_file(name)}.jsonl", cost, make) for name, cost, make in tasks]

    def tuning(self) -> list[Task]:
        """Measure every setting at every threshold of its grid."""
        return self._measuring("tuning", (*TUNING, *REAL_TUNING), self.settings, sweep=True)

    def reporting(self) -> list[Task]:
        """Measure every setting at its threshold; none before they are chosen."""
        return self._measuring("reporting", (*REPORTING, LONG, *REAL_REPORTING), self.chosen, sweep=False)

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
            found[group] = tuple(one.at(taus[one.key].tau) for one in several if one.key in taus)
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
        reporting = self._measuring("", (*REPORTING, LONG, *REAL_REPORTING), self.settings, sweep=False)
        return sum(task.cost for tasks in (self.learning(), self.tuning(), reporting) for task in tasks)

    def _measuring(self, stage: str, sets: Sequence[str], settings: dict[str, Settings], *, sweep: bool) -> list[Task]:
        """The tasks of measuring some sets."""
        files = tuple(task.path for task in self.learning())
        place = self.folder_of_networks(stage, settings, files)
        found = []
        for name, cases in self._batches(sets):
            make = partial(work.images, self.place, cases, settings, files, sweep=sweep)
            cost = sum(case.steps for case in cases) * (SECONDS_OF_TUNING if sweep else 1.0)
            found.append(Task(place / f"{name}.jsonl", cost, make))
        return found

    def _shortened(self, recipe: Recipe) -> Recipe:
        """A recipe with no more epochs than the scale has."""
        return replace(recipe, epochs=min(recipe.epochs, self.scale.epochs or recipe.epochs))

    def _batches(self, sets: Sequence[str]) -> list[tuple[str, tuple[Case, ...]]]:
        """The cases of every task."""
        found = []
        for name in sets:
            if name in self.scale.images and name in self.datasets:
                cases = self.datasets[name].cases(self.scale.images[name], self.classes)
                size = 1 if self.annotated else IMAGES_A_TASK  # large traces, and each with steps of its own
                found += [(f"{name}-{start:04d}", cases[start : start + size]) for start in range(0, len(cases), size)]
        return found

    def folder_of_networks(self, stage: str, *what: object) -> Path:
        """Where results lie that depend on the model's trained networks, too."""
        return self._folder(stage, *what, *([networks_hash(self.model)] if self.networks else []))

    def _folder(self, stage: str, *what: object) -> Path:
        """Where the results of a stage lie: elsewhere whenever anything is asked otherwise."""
        source = (self.truth_hash, self.service, self.guidance_scale, self.classes)
        digest = hashlib.sha256(repr((source, what)).encode()).hexdigest()[:8]
        return self.work / self.model_hash[:12] / f"{stage}-{digest}"


def name_of_file(name: str) -> str:
    """A class's or a recipe's name, which may be anybody's, as that of a file."""
    plain = "".join(letter if letter.isalnum() or letter in " ,-_" else "_" for letter in name)
    return plain if plain == name else f"{plain[:80]} {hashlib.sha256(name.encode()).hexdigest()[:8]}"
