"""The ways in which tokens are learned, as data."""

from dataclasses import dataclass
from typing import Literal

from ovam.core.schedules import Cosine, Schedule, Step
from ovam.learning.optimization import Optimizer

PUBLISHED_SCHEDULE = Step()


@dataclass(frozen=True)
class Recipe:
    """From how many annotated images of which set, and how."""

    name: str
    dataset: str
    images: int = 1
    """Of every class."""
    joint: bool = False
    """Whether all classes' tokens are learned together, with one background."""
    optimizer: Optimizer = "sgd"
    learning_rate: float = 100.0
    schedule: Schedule = PUBLISHED_SCHEDULE
    epochs: int = 500
    finest: bool = False
    """Whether only the heat of the highest resolution counts."""

    def blocks(self, resolutions: tuple[int, ...]) -> tuple[int, ...] | Literal["all"]:
        """The blocks whose heat counts."""
        return resolutions[:1] if self.finest else "all"


def fast(name: str, dataset: str, images: int = 1, *, joint: bool = False, finest: bool = False) -> Recipe:
    """A recipe with Adam, which comes as far on other images in an eighth of the epochs."""
    return Recipe(name, dataset, images, joint, "adam", 0.5, Cosine(), epochs=60, finest=finest)


PUBLISHED_RECIPE = "tokens"
ONE_IMAGE = "tokens, Adam"
COUNTS = {1: ONE_IMAGE, **{count: f"tokens, Adam, {count} images" for count in (2, 4, 8)}}
"""Recipes that differ in the number of images alone."""
ONE_SCENE, SCENES, FINE = "tokens of a scene", "tokens of 8 scenes", "tokens of the finest grid"
JOINT, JOINT_OF_SCENES = "joint tokens", "joint tokens of scenes"
REAL, REAL_4 = "tokens of a real image", "tokens of 4 real images"

RECIPES: dict[str, Recipe] = {
    each.name: each
    for each in (
        Recipe(PUBLISHED_RECIPE, "tokens"),
        *(fast(name, "tokens", count) for count, name in COUNTS.items()),
        fast(ONE_SCENE, "token-scenes"),
        fast(SCENES, "token-scenes", 8),
        fast(FINE, "tokens", finest=True),
        fast(JOINT, "tokens", joint=True),
        fast(JOINT_OF_SCENES, "token-scenes", joint=True),
    )
}
"""Learned from generated images and the annotator's masks; the first is the paper's (section 4.1)."""

REAL_RECIPES: dict[str, Recipe] = {each.name: each for each in (fast(REAL, "real-tokens"), fast(REAL_4, "real-tokens", 4))}
"""Learned from real images and exact masks."""
