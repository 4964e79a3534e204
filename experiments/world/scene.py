"""A scene: one to four things of the atlas on a ground, with exact masks.

`sample` draws a scene from a generator by a recipe, `draw` paints it. Both are pure: the same seed gives the same bytes.

>>> import numpy as np
>>> picture = draw(sample(np.random.default_rng(1), START, ("cat",)))
>>> picture.image.shape, picture.scene.things[0].kind
((128, 128, 3), 'cat')
"""

from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from experiments.world import atlas, layout
from experiments.world.atlas import Sprite
from experiments.world.grounds import GROUNDS, POOL, SIDE
from experiments.world.painting import draw
from experiments.world.thing import SIZE, Drawing, Mask, Relation, Scene, Thing

__all__ = ["HELD_OUT", "SIZE", "START", "WORLD"]
__all__ += ["Drawing", "Mask", "Recipe", "Relation", "Scene", "Thing"]
__all__ += ["classes_of", "draw", "sample", "sprites_of"]

AIRBORNE = ("sky", "night", "water", "bricks")  # grounds on which nothing casts a shadow
TILTS = (-8, -4, -4, 0, 0, 0, 0, 4, 4, 8)
Generator = np.random.Generator


@dataclass(frozen=True)
class Recipe:
    """What may be in a scene, and how often."""

    name: str
    start: bool = False  # only the few clear sprites of the first training
    held_out: bool = False  # only the sets that are held out; otherwise never those
    shares: tuple[float, float, float, float] = (0.4, 0.32, 0.18, 0.1)  # of scenes of 1, 2, 3 and 4 things
    sizes: tuple[float, float] = (0.3, 0.8)  # of a thing alone, as shares of the picture's side
    related: float = 0.45  # of the scenes of several things: two are together (on, above, wearing ...)
    twins: float = 0.08  # of the scenes of several things: two are of one class
    painted: float = 0.5  # of the things that may have another colour
    skies: float = 0.25  # of the scenes on open ground: with a sky above


START = Recipe("start", start=True, shares=(0.6, 0.26, 0.1, 0.04), sizes=(0.5, 0.8), painted=0.4, skies=0.15)
WORLD = Recipe("world")
HELD_OUT = Recipe("held out", held_out=True)


@cache
def sprites_of(recipe: Recipe) -> dict[str, tuple[Sprite, ...]]:
    """The sprites of each class that a recipe uses."""
    book = atlas.load()
    sets = tuple(sorted(book.held_out)) if recipe.held_out else book.training_sets
    found = {name: book.of(name, sets, start=recipe.start) for name in book.classes}
    return {name: sprites for name, sprites in found.items() if sprites}


def classes_of(recipe: Recipe) -> tuple[str, ...]:
    """The classes that a recipe draws."""
    return tuple(sprites_of(recipe))


def thing(rng: Generator, recipe: Recipe, name: str) -> Thing:
    """A thing of a class, not yet placed: its sprite, colour, lean and light."""
    sprites = sprites_of(recipe)[name]
    sprite = sprites[int(rng.integers(len(sprites)))]
    paint = sprite.paints[int(rng.integers(len(sprite.paints)))] if sprite.paints and rng.random() < recipe.painted else None
    level, tint = int(rng.integers(222, 257)), rng.integers(-16, 1, 3)
    tilt = 0 if name in layout.UPRIGHT else TILTS[int(rng.integers(len(TILTS)))]
    light = (level + int(tint[0]), level + int(tint[1]), level + int(tint[2]))
    return Thing(name, sprite.name, 0, 0, 1, 1, mirrored=bool(rng.random() < 0.5), tilt=tilt, paint=paint, light=light)


def known(recipe: Recipe, classes: tuple[str, ...]) -> tuple[str, ...]:
    """The classes, if the recipe draws them all."""
    for name in classes:
        atlas.load().kind(name)
        if name not in sprites_of(recipe):
            raise atlas.AtlasError(f"The recipe {recipe.name!r} draws no {name!r}; it draws {', '.join(sprites_of(recipe))}.")
    if not 1 <= len(classes) <= 4:
        raise atlas.AtlasError(f"A scene has 1 to 4 things, not {len(classes)}.")
    return classes


def way_of(rng: Generator, first: str, second: str) -> tuple[layout.Way, str, str] | None:
    """A way for two given classes to be together, or None."""
    pairs = [(way, a, b) for way in layout.WAYS for a, b in ((first, second), (second, first)) if layout.fits(way, a, b)]
    return pairs[int(rng.integers(len(pairs)))] if pairs else None


def arranged(rng: Generator, recipe: Recipe, classes: tuple[str, ...] | None) -> tuple[list[Thing], Relation | None]:
    """The things of a scene, back to front."""
    pool = classes_of(recipe)
    count = len(classes) if classes else 1 + int(rng.choice(4, p=recipe.shares))
    related = count > 1 and rng.random() < recipe.related
    if related:
        found = way_of(rng, *classes[:2]) if classes else layout.chosen(rng, pool)
        if found:
            way, first, second = found
            things, relation = layout.together(rng, way, thing(rng, recipe, first), thing(rng, recipe, second))
            for name in classes[2:] if classes else rng.choice(pool, count - 2, replace=False):
                things = layout.added(rng, things, thing(rng, recipe, str(name)))
            return things, relation
    names = list(classes) if classes else [str(name) for name in rng.choice(pool, count, replace=False)]
    if classes is None and count > 1 and rng.random() < recipe.twins:
        names[1] = names[0]
    new = [thing(rng, recipe, name) for name in names]
    if count == 1:
        return layout.alone(rng, new[0], recipe.sizes), None
    return layout.apart(rng, new), None


def grounded(item: Thing, ground: str, relation: Relation | None, index: int) -> Thing:
    """The thing with a shadow, if it stands on the ground."""
    lifted = relation is not None and relation.word in ("wearing", "on", "above", "holding") and index == relation.first
    return replace(item, shadow=not lifted and ground not in AIRBORNE and item.kind not in layout.FLYING)


def sample(rng: Generator, recipe: Recipe = WORLD, classes: tuple[str, ...] | None = None) -> Scene:
    """A random scene of a recipe; `classes` fixes what is in it."""
    if classes is not None:
        known(recipe, classes)
    things, relation = arranged(rng, recipe, classes)
    ground = int(rng.integers(len(GROUNDS)))
    left, top = (int(v) for v in rng.integers(0, SIDE - SIZE + 1, 2))
    piece = (int(rng.integers(POOL)), left, top, bool(rng.random() < 0.5))
    horizon = int(rng.integers(36, 72)) if GROUNDS[ground].open and rng.random() < recipe.skies else 0
    slope = (int(rng.integers(-4, 5)), int(rng.integers(-4, 5)), int(rng.integers(-10, 11)))
    if relation is None:  # what is lower in the picture is nearer
        things.sort(key=lambda item: item.y + item.height // 2)
    standing = tuple(grounded(item, GROUNDS[ground].name, relation, index) for index, item in enumerate(things))
    return Scene(ground, piece, standing, relation, horizon, slope)
