"""The ten things of the world, as named parts made of polygons.

Coordinates are (x, y) in a unit square centred on the thing: x to the right, y downwards, both in [-1, 1]. Parts are
painted in order, so a later part covers an earlier one.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Polygon = NDArray[np.float64]  # (points, 2)
Colour = tuple[int, int, int]  # RGB, 0..255

COLOURS: dict[str, Colour] = {
    "red": (214, 48, 44),
    "orange": (240, 140, 40),
    "yellow": (248, 212, 60),
    "green": (58, 150, 66),
    "blue": (52, 98, 206),
    "purple": (138, 70, 176),
    "pink": (242, 140, 186),
    "white": (244, 242, 236),
}
BROWN: Colour = (120, 78, 44)
DARK: Colour = (44, 42, 52)
GLASS: Colour = (176, 222, 240)
GOLD: Colour = (246, 206, 70)
CREAM: Colour = (240, 226, 196)


@dataclass(frozen=True)
class Part:
    """One polygon of a thing; `fill` is a fixed colour, or None for the colour the thing is drawn in."""

    name: str
    polygon: Polygon
    fill: Colour | None = None


@dataclass(frozen=True)
class Shape:
    """A class of the world: its drawing, the colours it comes in, and the words people use for it."""

    name: str
    parts: tuple[Part, ...]
    colours: tuple[str, ...]
    synonyms: tuple[str, ...]
    tilt: float = 12.0  # degrees, the standard deviation of its lean

    @property
    def part_names(self) -> tuple[str, ...]:
        """The names of its parts, each once."""
        return tuple(dict.fromkeys(part.name for part in self.parts))


def points(*xy: tuple[float, float]) -> Polygon:
    """A polygon from its corners."""
    return np.array(xy, dtype=np.float64)


def box(left: float, top: float, right: float, bottom: float) -> Polygon:
    """An upright rectangle."""
    return points((left, top), (right, top), (right, bottom), (left, bottom))


def ellipse(x: float, y: float, rx: float, ry: float, start: float = 0.0, end: float = 360.0) -> Polygon:
    """An ellipse, or the part of it between two angles (degrees, clockwise on the screen from the right)."""
    angle = np.radians(np.linspace(start, end, 28))
    return np.stack([x + rx * np.cos(angle), y + ry * np.sin(angle)], axis=1)


def spikes(count: int, outer: float, inner: float) -> Polygon:
    """A star of `count` points, the first one up."""
    angle = np.arange(2 * count) * np.pi / count - np.pi / 2
    radius = np.where(np.arange(2 * count) % 2 == 0, outer, inner)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)


def petals(count: int, distance: float, radius: float, y: float) -> tuple[Polygon, ...]:
    """Round petals in a ring around (0, y)."""
    angle = np.arange(count) * 2 * np.pi / count - np.pi / 2
    return tuple(ellipse(distance * np.cos(a), y + distance * np.sin(a), radius, radius) for a in angle)


SUN = Shape(
    "sun",
    (Part("rays", spikes(12, 1.0, 0.66)), Part("disc", ellipse(0, 0, 0.58, 0.58), GOLD)),
    ("yellow", "orange", "red"),
    ("sunshine",),
    tilt=15,
)
TREE = Shape(
    "tree",
    (
        Part("trunk", box(-0.14, 0.2, 0.14, 1.0), BROWN),
        Part("crown", points((-0.72, 0.5), (0, -0.3), (0.72, 0.5))),
        Part("crown", points((-0.6, 0.08), (0, -0.66), (0.6, 0.08))),
        Part("crown", points((-0.46, -0.34), (0, -1.0), (0.46, -0.34))),
    ),
    ("green", "orange", "blue"),
    ("pine",),
    tilt=5,
)
HOUSE = Shape(
    "house",
    (
        Part("wall", box(-0.72, -0.1, 0.72, 0.92), CREAM),
        Part("roof", points((-0.98, -0.06), (0, -0.95), (0.98, -0.06))),
        Part("door", box(-0.16, 0.3, 0.18, 0.92), BROWN),
        Part("window", box(-0.58, 0.14, -0.28, 0.46), GLASS),
        Part("window", box(0.3, 0.14, 0.6, 0.46), GLASS),
    ),
    ("red", "blue", "purple", "green"),
    ("cottage",),
    tilt=3,
)
BOAT = Shape(
    "boat",
    (
        Part("mast", box(-0.06, -0.95, 0.06, 0.45), BROWN),
        Part("sail", points((0.1, -0.92), (0.84, 0.26), (0.1, 0.26)), COLOURS["white"]),
        Part("sail", points((-0.1, -0.66), (-0.1, 0.26), (-0.66, 0.26)), COLOURS["white"]),
        Part("hull", points((-1.0, 0.38), (1.0, 0.38), (0.62, 0.9), (-0.62, 0.9))),
    ),
    ("red", "blue", "orange", "purple"),
    ("sailboat",),
    tilt=6,
)
CAR = Shape(
    "car",
    (
        Part("body", points((-0.56, -0.1), (-0.34, -0.56), (0.34, -0.56), (0.62, -0.1))),
        Part("body", points((-1.0, -0.1), (0.9, -0.1), (1.0, 0.06), (1.0, 0.4), (-1.0, 0.4))),
        Part("window", points((-0.4, -0.1), (-0.25, -0.44), (-0.03, -0.44), (-0.03, -0.1)), GLASS),
        Part("window", points((0.09, -0.1), (0.09, -0.44), (0.27, -0.44), (0.44, -0.1)), GLASS),
        Part("wheel", ellipse(-0.54, 0.4, 0.25, 0.25), DARK),
        Part("wheel", ellipse(0.54, 0.4, 0.25, 0.25), DARK),
    ),
    ("red", "blue", "yellow", "white"),
    ("automobile",),
    tilt=5,
)
FISH = Shape(
    "fish",
    (
        Part("tail", points((0.4, 0.0), (1.0, -0.5), (0.86, 0.0), (1.0, 0.5))),
        Part("fin", points((-0.25, -0.35), (0.15, -0.75), (0.3, -0.3))),
        Part("body", ellipse(-0.22, 0.0, 0.76, 0.47)),
        Part("eye", ellipse(-0.6, -0.1, 0.12, 0.12), DARK),
    ),
    ("orange", "blue", "purple", "red"),
    ("goldfish",),
    tilt=14,
)
FLOWER = Shape(
    "flower",
    (
        Part("stem", box(-0.07, 0.0, 0.07, 1.0), COLOURS["green"]),
        Part("leaf", points((0.0, 0.82), (0.3, 0.46), (0.58, 0.4), (0.44, 0.7)), COLOURS["green"]),
        *(Part("petal", polygon) for polygon in petals(6, 0.4, 0.26, -0.34)),
        Part("heart", ellipse(0, -0.34, 0.24, 0.24), GOLD),
    ),
    ("pink", "red", "purple", "white"),
    ("daisy",),
    tilt=8,
)
STAR = Shape("star", (Part("point", spikes(5, 1.0, 0.44)),), ("yellow", "white", "pink", "red"), ("pentagram",), tilt=12)
MUSHROOM = Shape(
    "mushroom",
    (
        Part("stalk", points((-0.24, 0.0), (0.24, 0.0), (0.34, 0.92), (-0.34, 0.92)), CREAM),
        Part("cap", ellipse(0, 0.12, 0.95, 0.98, 180, 360)),
        Part("spot", ellipse(-0.42, -0.2, 0.17, 0.16), COLOURS["white"]),
        Part("spot", ellipse(0.06, -0.5, 0.17, 0.16), COLOURS["white"]),
        Part("spot", ellipse(0.46, -0.14, 0.16, 0.15), COLOURS["white"]),
    ),
    ("red", "orange", "purple"),
    ("toadstool",),
    tilt=7,
)
BALLOON = Shape(
    "balloon",
    (
        Part("rope", points((-0.36, 0.18), (0.36, 0.18), (0.17, 0.68), (-0.17, 0.68)), CREAM),
        Part("envelope", ellipse(0, -0.34, 0.68, 0.66)),
        Part("stripe", ellipse(0, -0.34, 0.24, 0.66), GOLD),
        Part("basket", box(-0.21, 0.64, 0.21, 0.98), BROWN),
    ),
    ("red", "blue", "green", "purple"),
    ("airship",),
    tilt=5,
)

SHAPES: tuple[Shape, ...] = (SUN, TREE, HOUSE, BOAT, CAR, FISH, FLOWER, STAR, MUSHROOM, BALLOON)
CLASS_NAMES: tuple[str, ...] = tuple(shape.name for shape in SHAPES)
BY_NAME: dict[str, Shape] = {shape.name: shape for shape in SHAPES}
