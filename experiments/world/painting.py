"""Paint a scene. Everything is whole-number arithmetic, so that the same scene gives the same bytes on every machine."""

from functools import cache, lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from experiments.world import atlas
from experiments.world.grounds import BY_NAME, pool
from experiments.world.thing import SIZE, Drawing, Scene, Thing

HUES = {"red": 178, "orange": 12, "yellow": 26, "green": 58, "blue": 108, "purple": 138, "pink": 164}  # OpenCV's half degrees
NEAR = 14  # half degrees around a sprite's main hue that change with it
SHADOW = 96  # darkness of a shadow's middle, of 256

Pixels = NDArray[np.uint8]


def rgb(hsv: Pixels) -> Pixels:
    """OpenCV's 8-bit hue, saturation and value as colours, in whole numbers: its own conversion differs between processors."""
    hue, saturation, value = np.moveaxis(hsv.astype(np.int32), -1, 0)
    sector, part = hue // 30, hue % 30
    low, falling, rising = (value * (7650 - saturation * share) + 3825 for share in (30, part, 30 - part))
    ways = np.stack([value * 7650, low, falling, rising]) // 7650
    order = np.array([(0, 3, 1), (2, 0, 1), (1, 0, 3), (1, 2, 0), (3, 1, 0), (0, 1, 2)])[sector]  # red, green, blue
    return np.take_along_axis(np.moveaxis(ways, 0, -1), order, axis=-1).astype(np.uint8)


def painted(pixels: Pixels, hue: int, colour: str) -> Pixels:
    """A sprite with its main hue changed to another colour's."""
    hsv = cv2.cvtColor(np.ascontiguousarray(pixels[..., :3]), cv2.COLOR_RGB2HSV).astype(np.uint8)
    away = (hsv[..., 0].astype(np.int16) - hue + 90) % 180 - 90
    near = (np.abs(away) <= NEAR) & (hsv[..., 1] > 60)
    hsv[..., 0] = np.where(near, (HUES[colour] + away // 2) % 180, hsv[..., 0]).astype(np.uint8)
    if colour == "pink":
        hsv[..., 1] = np.where(near, hsv[..., 1] // 2, hsv[..., 1])
    return np.dstack([rgb(hsv), pixels[..., 3]])


@lru_cache(maxsize=1500)
def prepared(name: str, paint: str | None, tilt: int) -> Image.Image:
    """A sprite painted and tilted, premultiplied (RGBa), so that it may be resized."""
    book = atlas.load()
    pixels, hue = book.pixels(name), book.sprites[name].hue
    if paint is not None and hue is not None:
        pixels = painted(pixels, hue, paint)
    picture = Image.fromarray(np.ascontiguousarray(pixels)).convert("RGBa")
    return picture.rotate(tilt, Image.Resampling.BILINEAR, expand=True) if tilt else picture


def placed(thing: Thing) -> tuple[Pixels, int, int]:
    """A thing's premultiplied pixels (height, width, 4) with its left and top."""
    box = atlas.load().sprites[thing.sprite].box
    picture = prepared(thing.sprite, thing.paint, thing.tilt)
    width = max(1, picture.width * thing.width // box[2])
    height = max(1, picture.height * thing.height // box[3])
    pixels = np.asarray(picture.resize((width, height), Image.Resampling.HAMMING))
    if thing.mirrored:
        pixels = pixels[:, ::-1]
    if thing.light != (256, 256, 256):
        lit = (pixels[..., :3].astype(np.uint16) * np.array(thing.light, np.uint16)) >> 8
        pixels = np.dstack([np.minimum(lit, pixels[..., 3:]).astype(np.uint8), pixels[..., 3]])
    return pixels, thing.x - width // 2, thing.y - height // 2


def window(left: int, top: int, width: int, height: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """The part of the canvas that a rectangle covers, and the part of the rectangle that is on the canvas."""
    x0, y0, x1, y1 = max(left, 0), max(top, 0), min(left + width, SIZE), min(top + height, SIZE)
    x1, y1 = max(x0, x1), max(y0, y1)
    return (slice(y0, y1), slice(x0, x1)), (slice(y0 - top, y1 - top), slice(x0 - left, x1 - left))


@cache
def blot() -> Pixels:
    """A round soft blot, darkest in the middle."""
    y, x = np.mgrid[-32:32, -32:32]
    return (SHADOW * np.maximum(0, 1024 - (x * x + y * y)) // 1024).astype(np.uint8)


def shade(canvas: Pixels, thing: Thing) -> None:
    """Darken the ground under a thing."""
    width, height = max(4, thing.width * 11 // 10), max(3, thing.width // 5)
    soft = cv2.resize(blot(), (width, height), interpolation=cv2.INTER_LINEAR)
    there, here = window(thing.x - width // 2, thing.y + thing.height // 2 - height // 2 - 1, width, height)
    keep = 256 - soft[here].astype(np.uint16)[..., None]
    canvas[there] = ((canvas[there] * keep) >> 8).astype(np.uint8)


def backdrop(scene: Scene) -> Pixels:
    """The scene's ground with, perhaps, a sky above it."""
    picture, left, top, mirrored = scene.piece

    def piece(ground: int) -> Pixels:
        whole = pool(ground)[picture][top : top + SIZE, left : left + SIZE]
        return whole[:, ::-1] if mirrored else whole

    canvas = np.ascontiguousarray(piece(scene.ground)).copy()
    canvas[: scene.horizon] = piece(BY_NAME["sky"])[: scene.horizon]
    return canvas


@cache
def rooms() -> tuple[NDArray[np.int16], NDArray[np.int16]]:
    """Distance from the middle of each pixel, across and down."""
    down, across = np.mgrid[:SIZE, :SIZE].astype(np.int16) - np.int16(SIZE // 2)
    return across, down


def lit(canvas: Pixels, light: tuple[int, int, int]) -> Pixels:
    """The canvas under light that falls from one side."""
    across, down = rooms()
    gain = (128 + ((across * light[0] + down * light[1]) >> 4) + (light[2] >> 1)).astype(np.uint16)
    return np.minimum((canvas * gain[..., None]) >> 7, 255).astype(np.uint8)


def draw(scene: Scene) -> Drawing:
    """Paint a scene; a pixel belongs to the frontmost thing that covers at least half of it."""
    canvas = backdrop(scene)
    owner = np.zeros((SIZE, SIZE), np.uint8)
    for index, thing in enumerate(scene.things, start=1):
        if thing.shadow:
            shade(canvas, thing)
        pixels, left, top = placed(thing)
        there, here = window(left, top, pixels.shape[1], pixels.shape[0])
        alpha = pixels[here][..., 3:]
        under = canvas[there] * (255 - alpha.astype(np.uint16))
        canvas[there] = pixels[here][..., :3] + ((under + 127) // 255).astype(np.uint8)
        owner[there][alpha[..., 0] >= 128] = index
    masks = tuple(owner == index for index in range(1, len(scene.things) + 1))
    return Drawing(image=lit(canvas, scene.light), things=masks, scene=scene)
