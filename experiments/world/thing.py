"""What a scene is made of. Places and sizes are whole pixels, so that a scene is the same on every machine."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from experiments.world import atlas
from experiments.world.grounds import GROUNDS, Ground

SIZE = 128  # pixels a side of a picture

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Thing:
    """One thing: a sprite, its centre and size in pixels, and how it stands and is lit."""

    kind: str
    sprite: str
    x: int
    y: int
    width: int
    height: int
    mirrored: bool = False
    tilt: int = 0  # degrees, a multiple of 4
    paint: str | None = None  # the colour it is painted in, where it is not its sprite's own
    light: tuple[int, int, int] = (256, 256, 256)  # gain of red, green and blue, at most 256: as drawn
    shadow: bool = False

    @property
    def colour(self) -> str | None:
        """The word for its colour, where it plainly has one."""
        return self.paint or atlas.load().sprites[self.sprite].colour


@dataclass(frozen=True)
class Relation:
    """What the first of two things has to do with the second: "wearing", "on", "above" ... (indices into the things)."""

    word: str
    first: int
    second: int


@dataclass(frozen=True)
class Scene:
    """Things, back to front, on a piece of ground, perhaps with a sky above it."""

    ground: int  # an index into GROUNDS
    piece: tuple[int, int, int, bool]  # picture of the pool, left, top, mirrored
    things: tuple[Thing, ...]
    relation: Relation | None = None
    horizon: int = 0  # rows of sky above the ground
    light: tuple[int, int, int] = (0, 0, 0)  # slope of the light across and down, and its strength

    @property
    def ground_kind(self) -> Ground:
        """The kind of ground."""
        return GROUNDS[self.ground]


@dataclass(frozen=True)
class Drawing:
    """A painted scene with the exact visible pixels of everything in it."""

    image: NDArray[np.uint8]  # (128, 128, 3) RGB
    things: tuple[Mask, ...]  # visible pixels of each thing, as ordered in the scene
    scene: Scene

    def of_class(self, name: str) -> Mask:
        """The visible pixels of every thing of a class."""
        atlas.load().kind(name)
        found = [mask for mask, thing in zip(self.things, self.scene.things, strict=True) if thing.kind == name]
        return np.any([np.zeros((SIZE, SIZE), bool), *found], axis=0)

    def labels(self) -> NDArray[np.uint8]:
        """A class a pixel: 0 the ground, k+1 class k of the atlas."""
        label = np.zeros((SIZE, SIZE), np.uint8)
        for mask, thing in zip(self.things, self.scene.things, strict=True):
            label[mask] = atlas.load().label(thing.kind)
        return label
