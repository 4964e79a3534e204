"""Six textured grounds. Each is a small pool of fixed pictures, of which a scene takes a random crop."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from experiments.tinyworld.shapes import Colour

SIZE = 288  # pixels a side of a pool picture, at the supersampled scale
POOL = 12  # pictures of each ground

Canvas = NDArray[np.uint8]  # (height, width, 3) RGB


@dataclass(frozen=True)
class Ground:
    """A kind of ground: how it is painted and the words people use for it."""

    name: str
    synonyms: tuple[str, ...]
    paint: Callable[[np.random.Generator], Canvas]


def clouded(rng: np.random.Generator, base: Colour, spread: float, grain: int) -> NDArray[np.float32]:
    """A base colour lit by smooth noise of `grain` cells a side; `spread` is its standard deviation (0..255)."""
    noise = cv2.resize(rng.normal(0, spread, (grain, grain)).astype(np.float32), (SIZE, SIZE), interpolation=cv2.INTER_CUBIC)
    return np.array(base, np.float32) + noise[..., None]


def finish(canvas: NDArray[np.float32]) -> Canvas:
    """The canvas as 8-bit picture."""
    return np.clip(canvas, 0, 255).astype(np.uint8)


def grass(rng: np.random.Generator) -> Canvas:
    """Green with short blades."""
    canvas = finish(clouded(rng, (126, 186, 92), 7, 8))
    for x, y in rng.integers(0, SIZE, (150, 2)):
        lean = int(rng.integers(-5, 6))
        cv2.line(canvas, (int(x), int(y)), (int(x) + lean, int(y) - 13), (94, 158, 72), 3)
    return canvas


def sand(rng: np.random.Generator) -> Canvas:
    """Pale yellow with soft diagonal dunes."""
    canvas = clouded(rng, (228, 200, 146), 5, 6)
    y, x = np.mgrid[:SIZE, :SIZE]
    ripple = np.sin((y + 0.5 * x + 14 * np.sin(x / 40 + rng.uniform(0, 6))) / 8 + rng.uniform(0, 6))
    return finish(canvas + 9 * ripple[..., None].astype(np.float32))


def sea(rng: np.random.Generator) -> Canvas:
    """Deep teal with bands of waves."""
    canvas = clouded(rng, (56, 142, 170), 6, 6)
    y, x = np.mgrid[:SIZE, :SIZE]
    wave = np.sin((y + 5 * np.sin(x / 11 + rng.uniform(0, 6))) / 6 + rng.uniform(0, 6))
    return finish(canvas + 16 * np.clip(wave - 0.3, 0, 1)[..., None].astype(np.float32) * np.array([1.4, 1.6, 1.6], np.float32))


def snow(rng: np.random.Generator) -> Canvas:
    """Cold near-white with soft blue hollows."""
    canvas = finish(clouded(rng, (222, 230, 242), 7, 10))
    for x, y in rng.integers(0, SIZE, (40, 2)):
        cv2.circle(canvas, (int(x), int(y)), 5, (198, 210, 232), -1)
    return canvas


def sky(rng: np.random.Generator) -> Canvas:
    """Light blue with white clouds."""
    canvas = finish(clouded(rng, (146, 196, 238), 4, 5))
    for x, y in rng.integers(0, SIZE, (9, 2)):
        for shift in (-18, 0, 18):
            cv2.ellipse(canvas, (int(x) + shift, int(y)), (18, 10), 0, 0, 360, (216, 232, 248), -1)
    return cv2.GaussianBlur(canvas, (0, 0), 3).astype(np.uint8)


def bricks(rng: np.random.Generator) -> Canvas:
    """A wall of brown-red bricks with pale joints."""
    canvas = finish(clouded(rng, (178, 116, 98), 6, 12))
    shift = int(rng.integers(0, 40))
    for row, y in enumerate(range(int(rng.integers(0, 24)) - 24, SIZE, 24)):
        cv2.line(canvas, (0, y), (SIZE, y), (204, 170, 156), 3)
        for x in range(shift + (row % 2) * 24 - 48, SIZE, 48):
            cv2.line(canvas, (x, y), (x, y + 24), (204, 170, 156), 3)
    return canvas


GROUNDS: tuple[Ground, ...] = (
    Ground("grass", ("meadow",), grass),
    Ground("sand", ("beach",), sand),
    Ground("sea", ("water",), sea),
    Ground("snow", ("ice",), snow),
    Ground("sky", ("clouds",), sky),
    Ground("bricks", ("wall",), bricks),
)


@cache
def pool(index: int) -> tuple[Canvas, ...]:
    """The fixed pictures of ground `index`; the same in every process."""
    return tuple(GROUNDS[index].paint(np.random.default_rng((index, picture))) for picture in range(POOL))


def crop(rng: np.random.Generator, index: int, size: int) -> Canvas:
    """A random `size` x `size` piece of ground `index`, perhaps mirrored, in slightly different light."""
    picture = pool(index)[int(rng.integers(POOL))]
    y, x = (int(v) for v in rng.integers(0, SIZE - size + 1, 2))
    piece = picture[y : y + size, x : x + size]
    piece = piece[:, ::-1] if rng.random() < 0.5 else piece
    return cv2.convertScaleAbs(piece, alpha=float(rng.uniform(0.93, 1.05))).astype(np.uint8)
