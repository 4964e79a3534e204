"""A scene: one to three things on a ground, drawn with exact masks.

`sample` draws a scene from a generator, `draw` paints it. Both are pure: the same generator state gives the same picture.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from experiments.tinyworld.grounds import GROUNDS, crop
from experiments.tinyworld.shapes import BY_NAME, CLASS_NAMES, COLOURS, SHAPES, Colour, Polygon, Shape

SIZE = 64  # pixels a side
SUPERSAMPLING = 3
OUTLINE: Colour = (38, 34, 44)
SUBPIXEL_BITS = 4  # OpenCV draws in fixed point

Mask = NDArray[np.bool_]
Shares = tuple[float, float, float]
USUAL: Shares = (0.6, 0.3, 0.1)  # of scenes with one large thing, two and three smaller ones
CROWDED: Shares = (0.35, 0.4, 0.25)


@dataclass(frozen=True)
class Thing:
    """One object: where it is (0..1 of the image), how large (half its height, 0..1) and how it stands."""

    shape: Shape
    colour: str
    x: float
    y: float
    radius: float
    aspect: float
    tilt: float  # degrees
    mirrored: bool


@dataclass(frozen=True)
class Scene:
    """Things, back to front, on a ground (an index into GROUNDS)."""

    ground: int
    things: tuple[Thing, ...]

    @property
    def ground_name(self) -> str:
        """The plain name of the ground."""
        return GROUNDS[self.ground].name


@dataclass(frozen=True)
class Drawing:
    """A painted scene with the exact visible pixels of everything in it."""

    image: NDArray[np.uint8]  # (64, 64, 3) RGB
    things: tuple[Mask, ...]  # visible pixels of each thing, as ordered in the scene
    parts: dict[str, Mask]  # "car/wheel" -> visible pixels of all such parts
    scene: Scene

    def of_class(self, name: str) -> Mask:
        """The visible pixels of every thing of a class."""
        found = [mask for mask, thing in zip(self.things, self.scene.things, strict=True) if thing.shape.name == name]
        return np.any([np.zeros((SIZE, SIZE), bool), *found], axis=0)

    def labels(self) -> NDArray[np.uint8]:
        """A class a pixel: 0 the ground, k+1 class k."""
        label = np.zeros((SIZE, SIZE), np.uint8)
        for mask, thing in zip(self.things, self.scene.things, strict=True):
            label[mask] = CLASS_NAMES.index(thing.shape.name) + 1
        return label


def placed(polygon: Polygon, thing: Thing) -> NDArray[np.int32]:
    """A part's polygon in fixed-point pixels of the supersampled canvas."""
    angle = np.radians(thing.tilt)
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    stretch = np.array([thing.radius * thing.aspect * (-1 if thing.mirrored else 1), thing.radius])
    at = (polygon * stretch) @ rotation.T + np.array([thing.x, thing.y])
    return np.round(at * SIZE * SUPERSAMPLING * 2**SUBPIXEL_BITS).astype(np.int32)


def shaded(colour: Colour, rng: np.random.Generator) -> Colour:
    """The colour a little lighter or darker, as light varies."""
    red, green, blue = np.clip(np.array(colour) * rng.uniform(0.9, 1.08) + rng.normal(0, 4, 3), 0, 255)
    return int(red), int(green), int(blue)


def cells(owner: NDArray[np.uint8], value: int) -> Mask:
    """The pixels of the final picture at least half covered by `value`."""
    blocks = (owner == value).reshape(SIZE, SUPERSAMPLING, SIZE, SUPERSAMPLING)
    return blocks.mean(axis=(1, 3)) >= 0.5


def draw(scene: Scene, rng: np.random.Generator) -> Drawing:
    """Paint the scene; `rng` only chooses the piece of ground and the light."""
    side = SIZE * SUPERSAMPLING
    canvas = np.ascontiguousarray(crop(rng, scene.ground, side))
    owner, part_owner = np.zeros((2, side, side), np.uint8)
    part_ids: dict[str, int] = {}
    for index, thing in enumerate(scene.things, start=1):
        body = shaded(COLOURS[thing.colour], rng)
        outlines = [placed(part.polygon, thing) for part in thing.shape.parts]
        cv2.polylines(canvas, outlines, isClosed=True, color=OUTLINE, thickness=5, lineType=cv2.LINE_AA, shift=SUBPIXEL_BITS)
        cv2.polylines(owner, outlines, isClosed=True, color=index, thickness=5, shift=SUBPIXEL_BITS)
        cv2.polylines(part_owner, outlines, isClosed=True, color=0, thickness=5, shift=SUBPIXEL_BITS)
        for part, outline in zip(thing.shape.parts, outlines, strict=True):
            key = part_ids.setdefault(f"{thing.shape.name}/{part.name}", len(part_ids) + 1)
            cv2.fillPoly(canvas, [outline], part.fill or body, lineType=cv2.LINE_AA, shift=SUBPIXEL_BITS)
            cv2.fillPoly(owner, [outline], index, shift=SUBPIXEL_BITS)
            cv2.fillPoly(part_owner, [outline], key, shift=SUBPIXEL_BITS)
    return Drawing(
        image=cv2.resize(canvas, (SIZE, SIZE), interpolation=cv2.INTER_AREA).astype(np.uint8),
        things=tuple(cells(owner, index) for index in range(1, len(scene.things) + 1)),
        parts={name: cells(part_owner, key) for name, key in part_ids.items()},
        scene=scene,
    )


def thing(rng: np.random.Generator, shape: Shape, x: float, y: float, radius: float) -> Thing:
    """A thing of a class at a place, with a random colour, lean and build."""
    return Thing(
        shape=shape,
        colour=str(rng.choice(shape.colours)),
        x=x,
        y=y,
        radius=radius,
        aspect=float(rng.uniform(0.9, 1.12)),
        tilt=float(np.clip(rng.normal(0, shape.tilt), -35, 35)),
        mirrored=bool(rng.random() < 0.5),
    )


def sample(rng: np.random.Generator, classes: tuple[str, ...] | None = None, shares: Shares = USUAL) -> Scene:
    """A random scene of one, two or three things; `classes` fixes what they are, `shares` how often there are how many."""
    if classes is None:
        count = int(rng.choice([1, 2, 3], p=shares))
        chosen = [SHAPES[int(k)] for k in rng.choice(len(SHAPES), count, replace=False)]
    else:
        chosen = [BY_NAME[name] for name in classes]
    return Scene(int(rng.integers(len(GROUNDS))), tuple(arranged(rng, chosen)))


def arranged(rng: np.random.Generator, shapes: list[Shape]) -> list[Thing]:
    """Places for the shapes: alone near the middle, otherwise around a random axis, overlapping a little at times."""
    if len(shapes) == 1:
        radius = rng.uniform(0.24, 0.44)
        room = max(0.0, 0.5 - 0.9 * radius)
        x, y = 0.5 + rng.uniform(-room, room, 2)
        return [thing(rng, shapes[0], x, y, radius)]
    start = rng.choice([0.0, np.pi, np.pi / 2, -np.pi / 2]) + rng.normal(0, 0.3)
    angles = start + np.arange(len(shapes)) * 2 * np.pi / len(shapes)
    reach = 0.25 if len(shapes) == 2 else 0.29
    largest = 0.27 if len(shapes) == 2 else 0.21
    places = 0.5 + reach * np.stack([np.cos(angles), np.sin(angles)], axis=1) + rng.normal(0, 0.025, (len(shapes), 2))
    return [thing(rng, shape, x, y, rng.uniform(0.72 * largest, largest)) for shape, (x, y) in zip(shapes, places, strict=True)]
