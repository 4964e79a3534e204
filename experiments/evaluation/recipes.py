"""The ways in which tokens are learned, as data."""

from dataclasses import dataclass

from experiments.evaluation.datasets import Group
from ovam.schedules import Cosine, Schedule, StepDecay
from ovam.tokens import Optimizer
from ovam.trace import Half

PUBLISHED_SCHEDULE = StepDecay()


@dataclass(frozen=True)
class Recipe:
    """From how many annotated images of which set, and how."""

    name: str
    dataset: str
    """A data set of generated images, or "renders"."""
    images: int = 1
    """Of every class."""
    joint: bool = False
    """Whether all classes' tokens are learned together, with one background."""
    optimizer: Optimizer = "sgd"
    learning_rate: float = 100.0
    schedule: Schedule = PUBLISHED_SCHEDULE
    epochs: int = 500
    half: Half = "conditional"
    blocks: tuple[int, ...] | None = None
    """The resolutions whose heat counts; none: all."""


def fast(
    name: str,
    dataset: str,
    images: int = 1,
    *,
    joint: bool = False,
    half: Half = "conditional",
    blocks: tuple[int, ...] | None = None,
) -> Recipe:
    """A recipe with Adam, which comes as far on other images in an eighth of the epochs."""
    return Recipe(name, dataset, images, joint, "adam", 0.5, Cosine(), epochs=60, half=half, blocks=blocks)


PUBLISHED_RECIPE = "tokens"
UNCONDITIONAL = "tokens of the unconditional half"
ONE_IMAGE = "tokens, Adam"
COUNTS = {1: ONE_IMAGE, **{count: f"tokens, Adam, {count} images" for count in (2, 4, 8)}}
"""Recipes that differ in the number of images alone."""
FINE, FINE_OF_SCENES = "tokens of the finest grid", "tokens of the finest grid, 8 scenes"
"""Recipes for the bundled model, whose finest grid is of 16 x 16."""

RECIPES: dict[str, Recipe] = {
    each.name: each
    for each in (
        Recipe(PUBLISHED_RECIPE, "tokens"),
        fast(UNCONDITIONAL, "tokens", half="unconditional"),
        *(fast(name, "tokens", count) for count, name in COUNTS.items()),
        fast("tokens of a scene", "token-scenes"),
        fast("tokens of 8 scenes", "token-scenes", 8),
        fast(FINE, "tokens", blocks=(16,)),
        fast(FINE_OF_SCENES, "token-scenes", 8, blocks=(16,)),
        fast("joint tokens", "tokens", joint=True),
        fast("joint tokens of scenes", "token-scenes", joint=True),
        fast("joint tokens of 2 scenes", "token-scenes", 2, joint=True),
    )
}
"""Learned from generated images and the annotator's masks; the first is the paper's (section 4.1)."""

RENDER_RECIPES: dict[str, Recipe] = {
    each.name: each for each in (fast("tokens of a render", "renders"), fast("tokens of 4 renders", "renders", 4))
}
"""Learned from renders and exact masks."""

ASKED_OF_RENDERS: dict[Group, tuple[str, ...]] = {
    "things": ("words", PUBLISHED_RECIPE, *RENDER_RECIPES),
    "parts": ("words", *RENDER_RECIPES),
    "grounds": ("words", *RENDER_RECIPES),
}
"""What is asked for on renders; tokens of generated images exist for classes alone."""
