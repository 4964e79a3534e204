"""Textured grounds. Each is a pool of fixed pictures, of which a scene takes a piece.

Textures are soft on purpose: what an autoencoder that shrinks eight times can keep.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

SIDE = 192  # pixels a side of a pool picture
POOL = 8  # pictures of each ground

Colour = tuple[int, int, int]
Canvas = NDArray[np.uint8]  # (height, width, 3) RGB
Generator = np.random.Generator


@dataclass(frozen=True)
class Ground:
    """A kind of ground: the words for it (the plainest first), how it is painted, and whether a sky may stand above it."""

    name: str
    phrases: tuple[str, ...]
    paint: Callable[[Generator], Canvas]
    open: bool = False


def clouded(rng: Generator, base: Colour, spread: int, grain: int) -> Canvas:
    """A base colour lit by smooth noise of `grain` cells a side, twice `spread` lighter or darker at most."""
    noise = rng.integers(128 - 2 * spread, 129 + 2 * spread, (grain, grain)).astype(np.uint8)
    smooth = cv2.resize(noise, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR).astype(np.int16) - 128
    return (np.array(base, np.int16) + smooth[..., None]).clip(0, 255).astype(np.uint8)


def points(rng: Generator, count: int) -> list[tuple[int, int]]:
    """Random places."""
    return [(int(x), int(y)) for x, y in rng.integers(0, SIDE, (count, 2))]


def strokes(rng: Generator, canvas: Canvas, count: int, colour: Colour, reach: tuple[int, int], width: int = 2) -> Canvas:
    """Short lines of one colour, each leaning a little differently."""
    for x, y in points(rng, count):
        lean = int(rng.integers(-3, 4))
        cv2.line(canvas, (x, y), (x + reach[0] + lean, y + reach[1]), colour, width)
    return canvas


def spots(rng: Generator, canvas: Canvas, count: int, colours: tuple[Colour, ...], radius: int) -> Canvas:
    """Round spots."""
    for x, y in points(rng, count):
        cv2.circle(canvas, (x, y), radius, colours[int(rng.integers(len(colours)))], -1)
    return canvas


def grass(rng: Generator) -> Canvas:
    """Green with short blades."""
    return strokes(rng, clouded(rng, (122, 180, 88), 7, 8), 150, (98, 158, 72), (0, -9))


def sand(rng: Generator) -> Canvas:
    """Pale yellow with soft ripples."""
    canvas = clouded(rng, (230, 205, 150), 5, 7)
    for y in range(-20, SIDE, 16):
        start, end = y + int(rng.integers(-3, 4)), y + int(rng.integers(6, 18))
        cv2.line(canvas, (0, start), (SIDE, end), (218, 190, 134), 4)
    return canvas


def water(rng: Generator) -> Canvas:
    """Deep teal with short waves."""
    return strokes(rng, clouded(rng, (52, 136, 166), 7, 6), 90, (92, 172, 196), (16, 0))


def snow(rng: Generator) -> Canvas:
    """Cold near-white with soft blue hollows."""
    return spots(rng, clouded(rng, (228, 235, 245), 6, 8), 40, ((212, 222, 240), (240, 245, 252)), 5)


def road(rng: Generator) -> Canvas:
    """Dark grey asphalt with a dashed white line."""
    canvas = spots(rng, clouded(rng, (104, 106, 112), 5, 10), 120, ((96, 98, 104), (116, 118, 124)), 2)
    y = int(rng.integers(60, 140))
    for x in range(int(rng.integers(-30, 0)), SIDE, 44):
        cv2.line(canvas, (x, y), (x + 24, y), (212, 212, 204), 5)
    return canvas


def wood(rng: Generator) -> Canvas:
    """Warm planks."""
    canvas = clouded(rng, (186, 140, 96), 4, 6)
    for y in range(0, SIDE, 24):
        tone = int(rng.integers(-12, 13))
        canvas[y : y + 24] = (canvas[y : y + 24].astype(np.int16) + tone).clip(0, 255).astype(np.uint8)
        cv2.line(canvas, (0, y), (SIDE, y), (148, 106, 68), 2)
        x = int(rng.integers(0, SIDE))
        cv2.line(canvas, (x, y), (x, y + 24), (148, 106, 68), 2)
    return canvas


def bricks(rng: Generator) -> Canvas:
    """Red-brown bricks with pale joints."""
    canvas = clouded(rng, (174, 100, 82), 7, 12)
    shift = int(rng.integers(0, 28))
    for row, y in enumerate(range(0, SIDE, 18)):
        cv2.line(canvas, (0, y), (SIDE, y), (206, 168, 152), 2)
        for x in range(shift + (row % 2) * 18 - 36, SIDE, 36):
            cv2.line(canvas, (x, y), (x, y + 18), (206, 168, 152), 2)
    return canvas


def sky(rng: Generator) -> Canvas:
    """Light blue with white clouds."""
    canvas = clouded(rng, (142, 194, 238), 4, 5)
    for x, y in points(rng, 5):
        for shift in (-14, 0, 14):
            cv2.ellipse(canvas, (x + shift, y), (15, 8), 0, 0, 360, (220, 234, 248), -1)
    return cv2.blur(canvas, (7, 7)).astype(np.uint8)


def night(rng: Generator) -> Canvas:
    """Dark blue with small stars."""
    return spots(rng, clouded(rng, (28, 34, 74), 6, 5), 45, ((206, 210, 228), (150, 158, 196)), 1)


def carpet(rng: Generator) -> Canvas:
    """Plum red with rows of lozenges."""
    canvas = clouded(rng, (150, 68, 92), 5, 8)
    for row, y in enumerate(range(10, SIDE, 22)):
        for x in range(10 + (row % 2) * 15, SIDE, 30):
            cv2.ellipse(canvas, (x, y), (6, 6), 0, 0, 360, (182, 104, 116), -1)
    return canvas


def stone(rng: Generator) -> Canvas:
    """Grey paving of round stones."""
    canvas = clouded(rng, (134, 134, 130), 4, 8)
    for row, y in enumerate(range(8, SIDE + 12, 20)):
        for x in range(4 + (row % 2) * 14, SIDE + 20, 28):
            tone = int(rng.integers(158, 184))
            cv2.ellipse(canvas, (x, y), (12, 8), 0, 0, 360, (tone, tone, tone - 4), -1)
    return canvas


def meadow(rng: Generator) -> Canvas:
    """Fresh green with small flowers."""
    canvas = strokes(rng, clouded(rng, (112, 186, 98), 6, 8), 80, (92, 166, 80), (0, -8))
    return spots(rng, canvas, 40, ((250, 240, 250), (250, 220, 100), (240, 160, 190)), 3)


def leaves(rng: Generator) -> Canvas:
    """Autumn leaves."""
    canvas = clouded(rng, (176, 118, 62), 6, 8)
    for x, y in points(rng, 110):
        colour = ((206, 138, 58), (190, 92, 50), (222, 176, 84))[int(rng.integers(3))]
        cv2.ellipse(canvas, (x, y), (8, 4), int(rng.integers(180)), 0, 360, colour, -1)
    return canvas


GROUNDS: tuple[Ground, ...] = (
    Ground("grass", ("on the grass", "on the lawn", "in the grass"), grass, open=True),
    Ground("sand", ("on the sand", "on the beach", "in the sand"), sand, open=True),
    Ground("water", ("in the water", "on the water", "in the sea", "on the lake"), water, open=True),
    Ground("snow", ("in the snow", "on the snow"), snow, open=True),
    Ground("road", ("on the road", "on the street", "in the street"), road, open=True),
    Ground("wood", ("on a wooden floor", "on the wooden floor", "on the floor"), wood),
    Ground("bricks", ("in front of a brick wall", "against a brick wall", "by a wall"), bricks),
    Ground("sky", ("in the sky", "in the clouds", "against a blue sky"), sky),
    Ground("night", ("in the night sky", "at night", "under the stars"), night),
    Ground("carpet", ("on the carpet", "on a red carpet", "on a rug"), carpet),
    Ground("stone", ("on the stones", "on the pavement", "on stone"), stone, open=True),
    Ground("meadow", ("in a meadow", "among flowers", "in a field of flowers"), meadow, open=True),
    Ground("leaves", ("on autumn leaves", "on the leaves", "in autumn"), leaves),
)
BY_NAME = {ground.name: index for index, ground in enumerate(GROUNDS)}


@cache
def pool(index: int) -> tuple[Canvas, ...]:
    """The fixed pictures of a ground; the same in every process."""
    return tuple(GROUNDS[index].paint(np.random.default_rng((index, picture))) for picture in range(POOL))
