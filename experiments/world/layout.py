"""Where the things of a scene stand: alone, beside each other, or one on, above, before or on the head of another."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from experiments.world import atlas
from experiments.world.thing import SIZE, Relation, Thing

HOSTS = (
    "sofa",
    "chair",
    "diningtable",
    "car",
    "truck",
    "bus",
    "train",
    "house",
    "boat",
    "horse",
    "elephant",
    "tractor",
    "tvmonitor",
)
GUESTS = (
    "bird",
    "cat",
    "dog",
    "hat",
    "ball",
    "bottle",
    "pottedplant",
    "book",
    "cup",
    "cake",
    "apple",
    "lamp",
    "rabbit",
    "flower",
)
GUESTS += ("banana", "pizza", "clock", "gift", "crown", "camera", "bear", "mushroom", "fish", "shoe")
FLYING = ("aeroplane", "bird", "balloon", "sun", "moon", "star", "helicopter", "rocket", "butterfly")
HELD = ("balloon", "umbrella")
SEATS = {"sofa": 0.62, "chair": 0.56}  # how far down one sits, as a share of the height
UPRIGHT = ("house", "diningtable", "sofa", "chair", "bus", "train", "tvmonitor", "pottedplant", "person")

Generator = np.random.Generator
Make = Callable[[str], Thing]  # a class -> a thing with a sprite and colours of its own, not yet placed


def fitted(thing: Thing, size: float) -> Thing:
    """The thing with its longer side at `size` (a share of the picture's)."""
    _, _, width, height = atlas.load().sprites[thing.sprite].box
    scale = size * SIZE / max(width, height)
    return replace(thing, width=max(3, round(width * scale)), height=max(3, round(height * scale)))


def inside(thing: Thing, x: float, y: float, spare: float = 0.12) -> Thing:
    """The thing at a place, moved so that at most `spare` of it is cut off."""
    half_width, half_height = (0.5 - spare) * thing.width, (0.5 - spare) * thing.height
    across = min(max(x, half_width), SIZE - half_width)
    down = min(max(y, half_height), SIZE - half_height)
    return replace(thing, x=round(across), y=round(down))


def alone(rng: Generator, thing: Thing, sizes: tuple[float, float]) -> list[Thing]:
    """One thing anywhere in the picture, whole or nearly so."""
    thing = fitted(thing, rng.uniform(*sizes))
    room_x, room_y = (max(0, SIZE - side) // 2 for side in (thing.width, thing.height))
    x, y = SIZE / 2 + rng.uniform(-1, 1) * room_x, SIZE / 2 + rng.uniform(-1, 1) * room_y
    return [inside(thing, x, y, 0.04)]


def apart(rng: Generator, things: list[Thing]) -> list[Thing]:
    """Things around the middle, overlapping a little at times; those lower in the picture are in front."""
    count = len(things)
    reach, largest = {2: (0.27, 0.54), 3: (0.29, 0.4), 4: (0.32, 0.34)}[count]
    turn = rng.choice([0.0, 0.5, 1.0, 1.5]) + rng.uniform(-0.15, 0.15)
    placed = []
    for index, thing in enumerate(things):
        angle = np.pi * (turn + 2 * index / count)
        size = largest * rng.uniform(0.62, 1) * (0.45 if rng.random() < 0.12 else 1)
        x, y = (SIZE * (0.5 + reach * f(angle)) + rng.uniform(-7, 7) for f in (np.cos, np.sin))
        placed.append(inside(fitted(thing, size), x, y))
    return placed


def wearing(rng: Generator, hat: Thing, wearer: Thing) -> list[Thing]:
    """A hat on a head."""
    head = atlas.load().sprites[wearer.sprite].head or (0.5, 0.1, 0.6)
    wearer = inside(fitted(replace(wearer, tilt=0), rng.uniform(0.5, 0.72)), rng.uniform(30, 98), rng.uniform(76, 96), 0.1)
    width = head[2] * wearer.width * rng.uniform(1.05, 1.3)
    _, _, box_width, box_height = atlas.load().sprites[hat.sprite].box
    size = width * max(1, box_height / box_width) / SIZE
    hat = fitted(replace(hat, tilt=0), max(0.12, min(size, 0.4)))
    across = (1 - head[0] if wearer.mirrored else head[0]) - 0.5
    x, brim = wearer.x + across * wearer.width, wearer.y + (head[1] - 0.5) * wearer.height
    return [wearer, replace(hat, x=round(x), y=max(round(brim - 0.34 * hat.height), hat.height // 3))]


def surface(host: Thing, across: float) -> int:
    """The row on which a guest stands, `across` (0..1) of the host's width."""
    if host.kind in SEATS:
        return host.y + round((SEATS[host.kind] - 0.5) * host.height)
    alpha = atlas.load().pixels(host.sprite)[..., 3] > 127
    column = alpha[:, min(int((1 - across if host.mirrored else across) * alpha.shape[1]), alpha.shape[1] - 1)]
    return host.y - host.height // 2 + int(column.argmax()) * host.height // len(column)


def upon(rng: Generator, guest: Thing, host: Thing) -> list[Thing]:
    """A thing standing on another."""
    host = inside(fitted(replace(host, tilt=0), rng.uniform(0.55, 0.78)), rng.uniform(44, 84), rng.uniform(78, 100), 0.06)
    guest = fitted(replace(guest, tilt=0), rng.uniform(0.24, 0.4))
    across = rng.uniform(0.3, 0.7)
    y = surface(host, across) - guest.height // 2 + 2
    return [host, replace(guest, x=round(host.x + (across - 0.5) * host.width), y=max(y, guest.height * 2 // 5))]


def above(rng: Generator, high: Thing, low: Thing) -> list[Thing]:
    """A thing in the air over another."""
    low = fitted(low, rng.uniform(0.38, 0.58))
    low = inside(low, rng.uniform(36, 92), SIZE - low.height / 2 - rng.uniform(2, 12), 0.04)
    high = fitted(high, rng.uniform(0.24, 0.42))
    return [low, inside(high, low.x + rng.uniform(-26, 26), high.height / 2 + rng.uniform(1, 10), 0.04)]


def holding(rng: Generator, held: Thing, person: Thing) -> list[Thing]:
    """A person with a balloon or an umbrella: its lower end is beside the person's middle."""
    person = inside(fitted(replace(person, tilt=0), rng.uniform(0.5, 0.64)), rng.uniform(40, 88), rng.uniform(84, 96), 0.06)
    held = fitted(replace(held, tilt=0), rng.uniform(0.36, 0.46))
    side = (1 if rng.random() < 0.5 else -1) * (0.4 * person.width + 6)
    return [person, inside(held, person.x + side, person.y - 0.1 * person.height - 0.4 * held.height, 0.06)]


def before(rng: Generator, near: Thing, far: Thing) -> list[Thing]:
    """A small thing in front of the foot of a large one."""
    far = inside(fitted(far, rng.uniform(0.5, 0.75)), rng.uniform(44, 84), rng.uniform(48, 76), 0.04)
    near = fitted(near, rng.uniform(0.22, 0.4))
    side = rng.uniform(-0.45, 0.45) * far.width
    return [far, inside(near, far.x + side, far.y + far.height / 2 - rng.uniform(0.1, 0.4) * near.height, 0.04)]


@dataclass(frozen=True)
class Way:
    """A way for two things to be together: which classes take part (None: any), and how they are laid out."""

    word: str
    share: float
    first: tuple[str, ...] | None
    second: tuple[str, ...] | None
    lay: Callable[[Generator, Thing, Thing], list[Thing]]


WEARERS = ("cat", "dog", "person", "cow", "pig", "bear")
WAYS = (
    Way("wearing", 0.24, ("hat",), WEARERS, wearing),
    Way("on", 0.26, GUESTS, HOSTS, upon),
    Way("above", 0.16, FLYING, None, above),
    Way("holding", 0.08, HELD, ("person",), holding),
    Way("in front of", 0.26, None, None, before),
)


def fits(way: Way, first: str, second: str) -> bool:
    """Whether two classes can be together in a way."""
    return first != second and (way.first is None or first in way.first) and (way.second is None or second in way.second)


def chosen(rng: Generator, classes: tuple[str, ...]) -> tuple[Way, str, str]:
    """A way of being together and the two classes that are."""
    way = WAYS[int(rng.choice(len(WAYS), p=[w.share for w in WAYS]))]
    firsts = [name for name in classes if way.first is None or name in way.first]
    seconds = [name for name in classes if way.second is None or name in way.second]
    pairs = [(a, b) for a in firsts for b in seconds if a != b]
    if not pairs:
        return chosen(rng, classes)
    first, second = pairs[int(rng.integers(len(pairs)))]
    return way, first, second


def together(rng: Generator, way: Way, first: Thing, second: Thing) -> tuple[list[Thing], Relation]:
    """Two things laid out in a way, back to front, and what to say of them."""
    return way.lay(rng, first, second), Relation(way.word, 1, 0)


def added(rng: Generator, things: list[Thing], extra: Thing) -> list[Thing]:
    """A further small thing where there is most room."""
    extra = fitted(extra, rng.uniform(0.16, 0.3))
    corners = [(x, y) for x in (20, 108) for y in (20, 64, 108)]
    room = [min(abs(x - t.x) / (t.width + 1) + abs(y - t.y) / (t.height + 1) for t in things) for x, y in corners]
    x, y = corners[int(np.argmax(room))]
    return [*things, inside(extra, x + rng.uniform(-6, 6), y + rng.uniform(-6, 6), 0.04)]
