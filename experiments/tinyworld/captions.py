"""What a person would write under a scene: several templates, colours, places, grounds, synonyms and sometimes parts."""

import numpy as np

from experiments.tinyworld.grounds import GROUNDS
from experiments.tinyworld.scene import Scene, Thing

OPENINGS = ("a photograph of", "a photo of", "a picture of", "a drawing of", "")
SAID_PARTS = {
    "tree": ("trunk", "crown"),
    "house": ("roof", "window", "door"),
    "boat": ("sail", "hull"),
    "car": ("wheel", "window"),
    "fish": ("tail", "fin"),
    "flower": ("stem", "petal"),
    "mushroom": ("cap", "stalk"),
    "balloon": ("basket",),
    "sun": ("rays",),
    "star": (),
}


def article(words: str) -> str:
    """The words with "a" or "an"."""
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def named(rng: np.random.Generator, thing: Thing, *, plain: float) -> str:
    """A thing in words: its name or (one time in five) a synonym, with its colour unless kept `plain`."""
    name = str(rng.choice(thing.shape.synonyms)) if rng.random() < 0.2 else thing.shape.name
    return article(name if rng.random() < plain else f"{thing.colour} {name}")


def place(thing: Thing) -> str | None:
    """Where a thing plainly is, or None."""
    across, down = thing.x - 0.5, thing.y - 0.5
    if max(abs(across), abs(down)) < 0.12:
        return None
    if abs(across) > abs(down):
        return "on the left" if across < 0 else "on the right"
    return "at the top" if down < 0 else "at the bottom"


def ground_words(rng: np.random.Generator, scene: Scene) -> str:
    """The ground in words: "on the grass", "in the sky"."""
    ground = GROUNDS[scene.ground]
    name = str(rng.choice(ground.synonyms)) if rng.random() < 0.25 else ground.name
    return f"{'in' if ground.name == 'sky' else 'on'} the {name}"


def caption(rng: np.random.Generator, scene: Scene, *, silence: float = 0.0, parts: float = 0.08) -> str:
    """A caption of the scene. It names every thing; colours, places, parts and the ground only at times.

    Captions of people leave things out: with the chance `silence` some of several things, all but one at most, are not
    named. A model that never meets this may take any noun for any thing.
    """
    things = list(scene.things)
    order = rng.permutation(len(things))
    if len(things) > 1 and silence and rng.random() < silence:
        order = order[: rng.integers(1, len(things))]
    phrases = []
    for index in order:
        item = things[int(index)]
        words = named(rng, item, plain=0.5)
        if len(things) > 1 and rng.random() < 0.35 and (where := place(item)):
            words += f" {where}"
        elif SAID_PARTS[item.shape.name] and rng.random() < parts:
            words += f" with {article(str(rng.choice(SAID_PARTS[item.shape.name])))}"
        phrases.append(words)
    body = phrases[0] if len(phrases) == 1 else f"{', '.join(phrases[:-1])} and {phrases[-1]}"
    opening = str(rng.choice(OPENINGS, p=[0.35, 0.15, 0.15, 0.1, 0.25]))
    ending = ground_words(rng, scene) if rng.random() < 0.5 else ""
    return " ".join(part for part in (opening, body, ending) if part)
