"""How much of the evaluation is done."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from experiments.evaluation import folder
from experiments.evaluation.asking import OF_THIS_WORLD, OWN_PROMPT, VOCABULARY, WORDINGS, Asked
from experiments.evaluation.datasets import DATASETS, Case
from experiments.evaluation.folder import FolderSet
from experiments.evaluation.recipes import RECIPES, RENDER_RECIPES, UNCONDITIONAL
from experiments.evaluation.settings import OF
from experiments.tinyworld.shapes import CLASS_NAMES

TUNING, REPORTING, LONG = ("voc-sim-tuning", "coco-cap-tuning"), ("voc-sim", "coco-cap"), "voc-sim-100"
SHORT = "voc-sim, the images of voc-sim-100"
MOST_WORDS = 76  # of a vocabulary; with the background's row as many as a prompt has tokens


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
    asked: tuple[Asked, ...] = (*WORDINGS, VOCABULARY, *RECIPES, *RENDER_RECIPES)
    """What is asked for; recipes that are not here are not learned by."""
    steps: int | None = OF
    """Of every generation that is measured; none if they differ."""
    epochs: int | None = None
    """The most that tokens are learned for; none: as many as a recipe has."""


FULL = Scale(images={name: DATASETS[name].images for name in (*TUNING, *REPORTING, LONG)}, renders={"tuning": 5, "reporting": 20})
"""All that the paper asks, and more."""
HEADLINE = Scale(images={name: DATASETS[name].images for name in (*TUNING, *REPORTING)}, renders={}, everything=False)
"""Tables 1 and 2 with all their images."""
QUICK = Scale(images={"voc-sim-tuning": 2, "coco-cap-tuning": 2, "voc-sim": 4, "coco-cap": 5}, renders={}, everything=False)


def scale_of(sets: Mapping[str, FolderSet], *, everything: bool = False) -> Scale:
    """Tables 1 and 2, or everything, with all that a folder has."""
    images = {name: one.images for name, one in sets.items() if name != "tokens"}
    steps = {case.steps for case in folder.measured_cases(sets)}
    return Scale(
        images,
        {},
        everything=everything,
        kinds=folder.kinds(sets),
        asked=askable(sets),
        steps=steps.pop() if len(steps) == 1 else None,
    )


def askable(sets: Mapping[str, FolderSet]) -> tuple[Asked, ...]:
    """What a folder's images can be asked for: wordings that fit any class, and recipes that it has images for."""
    measured = folder.measured_cases(sets)
    lessons = min(folder.clear_lessons(sets).values())
    recipes = {
        name
        for name, recipe in RECIPES.items()
        if recipe.dataset in sets and not recipe.joint and recipe.blocks is None and recipe.images <= lessons
    }
    if not all(case.guidance_scale > 1 for one in sets.values() for of_kind in one.by_kind.values() for case in of_kind):
        recipes.discard(UNCONDITIONAL)  # without guidance there is no such half
    wordings = {name for name in WORDINGS if name not in OF_THIS_WORLD}
    if not all(says_its_word(case) for case in measured):
        wordings.discard(OWN_PROMPT)
    vocabulary = (VOCABULARY,) if 1 < len(folder.kinds(sets)) <= MOST_WORDS else ()
    return (*(name for name in WORDINGS if name in wordings), *vocabulary, *(name for name in RECIPES if name in recipes))


def says_its_word(case: Case) -> bool:
    """Whether an image's own prompt has the word that it is looked for by."""
    return re.search(rf"(?<![^\W_]){re.escape(case.word)}(?![^\W_])", case.prompt, re.IGNORECASE) is not None
