"""How much of the evaluation is done."""

from collections.abc import Mapping
from dataclasses import dataclass

from experiments.evaluation import folder, paper
from experiments.evaluation.folder import FolderSet
from experiments.evaluation.recipes import REAL_RECIPES, RECIPES
from experiments.evaluation.settings import OF
from experiments.evaluation.targets import AGAINST_SCENE, OWN_PROMPT, SYNONYM, TOGETHER, WORDINGS, TargetName

TUNING, REPORTING, LONG = ("voc-sim-tuning", "coco-cap-tuning"), ("voc-sim", "coco-cap"), "voc-sim-100"
REAL_TUNING, REAL_REPORTING = ("real-tuning", "real-scenes-tuning"), ("real", "real-scenes")
SHORT = "voc-sim, the images of voc-sim-100"
MOST_WORDS = 76  # that compete; with the background's row as many as a prompt has tokens


@dataclass(frozen=True)
class Scale:
    """How much is done."""

    images: dict[str, int]
    """Of every class, by data set."""
    everything: bool = True
    """Whether all settings and recipes take part, or those of the published methods."""
    classes: tuple[str, ...] = ()
    """The classes that are looked for; none: all of the world."""
    targets: tuple[TargetName, ...] = (*WORDINGS, *TOGETHER, *RECIPES, *REAL_RECIPES)
    """What is looked for; recipes that are not here are not learned by."""
    steps: int | None = OF
    """Of every generation that is measured; none if they differ."""
    epochs: int | None = None
    """The most that tokens are learned for; none: as many as a recipe has."""


FULL = Scale({"voc-sim-tuning": 4, "coco-cap-tuning": 4, "voc-sim": 30, "coco-cap": 30, LONG: 3}
             | {"real-tuning": 2, "real-scenes-tuning": 2, "real": 8, "real-scenes": 12})  # fmt: skip
"""All that the paper reports, and more."""
HEADLINE = Scale({"voc-sim-tuning": 4, "coco-cap-tuning": 4, "voc-sim": 30, "coco-cap": 30}, everything=False)
"""Tables 1 and 2 with all their images."""
QUICK = Scale({"voc-sim-tuning": 1, "coco-cap-tuning": 1, "voc-sim": 2, "coco-cap": 3}, everything=False, classes=paper.CLASSES)
"""A few images of the ten classes of Table 2's columns."""


def scale_of(sets: Mapping[str, FolderSet], *, everything: bool = False) -> Scale:
    """Tables 1 and 2, or everything, with all that a folder has."""
    images = {name: one.images for name, one in sets.items() if name != "tokens"}
    steps = {case.steps for case in folder.measured_cases(sets)}
    return Scale(
        images,
        everything=everything,
        classes=folder.classes(sets),
        targets=targets_of(sets),
        steps=steps.pop() if len(steps) == 1 else None,
    )


def targets_of(sets: Mapping[str, FolderSet]) -> tuple[TargetName, ...]:
    """What can be looked for in a folder's images: wordings that fit any class, and recipes that it has images for."""
    examples = min(folder.clear_examples(sets).values())
    recipes = [
        name
        for name, recipe in RECIPES.items()
        if recipe.dataset in sets and not recipe.joint and not recipe.finest and recipe.images <= examples
    ]
    unfit = {SYNONYM, AGAINST_SCENE}
    if not all(case.mention for case in folder.measured_cases(sets)):
        unfit.add(OWN_PROMPT)
    together = TOGETHER if 1 < len(folder.classes(sets)) <= MOST_WORDS else ()
    return tuple(name for name in (*WORDINGS, *together, *recipes) if name not in unfit)
