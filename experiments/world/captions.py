"""What a person would write under a scene.

People leave things out: about half of the captions of several things do not name them all. They use synonyms, and say
colours, places, counts, grounds and what things have to do with each other only at times.
"""

import numpy as np

from experiments.world import atlas
from experiments.world.grounds import GROUNDS
from experiments.world.thing import SIZE, Scene, Thing

OPENINGS = ("a photograph of", "a photo of", "a picture of", "an image of", "there is", "")
OPENING_SHARES = (0.3, 0.14, 0.12, 0.06, 0.03, 0.35)
SILENCE = 0.5  # of the captions of several things: some things are not named
SYNONYM = 0.25  # of the names: one of the class's other words
COLOUR = 0.4  # of the things that plainly have a colour: it is said
GROUND = 0.5  # of the captions: the ground is said
PLURALS = {"sheep": "sheep", "fish": "fish", "person": "people", "man": "men", "woman": "women", "human": "people"}
PLURALS |= {"bus": "buses", "couch": "couches", "coach": "coaches", "bench": "benches", "box": "boxes", "puppy": "puppies"}
PLURALS |= {"pony": "ponies", "kitty": "kitties", "bunny": "bunnies", "lorry": "lorries", "strawberry": "strawberries"}
PLURALS |= {"butterfly": "butterflies", "slice of pizza": "slices of pizza", "television": "televisions", "torch": "torches"}
RELATIONS = {
    "wearing": ("{b} wearing {a}", "{b} with {a}", "{b} in {a}", "{a} on {b}", "{a} on the head of {b}"),
    "on": ("{a} on {b}", "{a} on top of {b}", "{a} sitting on {b}", "{b} with {a} on it", "{b} under {a}"),
    "above": ("{a} above {b}", "{a} over {b}", "{b} under {a}", "{b} below {a}", "{a} and {b}"),
    "holding": ("{b} holding {a}", "{b} with {a}", "{a} held by {b}", "{b} next to {a}"),
    "in front of": ("{a} in front of {b}", "{a} near {b}", "{a} before {b}", "{b} behind {a}", "{a} by {b}"),
}
BESIDE = ("{a} next to {b}", "{a} beside {b}", "{a} and {b}", "{a} near {b}", "{a} with {b}")
SIZES = (("large", "big"), ("small", "little", "tiny"))
NARROW = {  # words that are true only of some sprites: those with one of these in their names
    "man": {"man", "boy", "guy", "construction", "police"},
    "woman": {"woman", "girl", "dancer"},
    "ship": {"ship", "passenger"},
    "sailboat": {"sailboat"},
    "scooter": {"scooter"},
    "ram": {"ram"},
    "lamb": {"ewe", "sheep"},
    "cap": {"billed"},
    "football": {"soccer", "soccerball"},
    "bull": {"ox"},
    "tv": {"television"},
    "alarm clock": {"alarm", "alarmclock"},
    "boot": {"boot", "womans"},
    "teddy bear": {"teddy"},
    "birthday cake": {"birthday", "birthdaycake"},
    "lantern": {"lantern"},
    "locomotive": {"locomotive", "steamlocomotive"},
}

Generator = np.random.Generator


def article(words: str) -> str:
    """The words with "a" or "an"."""
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def plural(word: str) -> str:
    """Several of it."""
    return PLURALS.get(word, f"{word}s")


def pick(rng: Generator, words: tuple[str, ...]) -> str:
    """One of the words."""
    return words[int(rng.integers(len(words)))]


def noun(rng: Generator, thing: Thing) -> str:
    """The class's plainest word, or at times another one that is true of the sprite."""
    words = atlas.load().kind(thing.kind).words
    parts = set(thing.sprite.split("/")[1].split("-"))
    fitting = tuple(word for word in words[1:] if word not in NARROW or parts & NARROW[word])
    return pick(rng, fitting) if fitting and rng.random() < SYNONYM else words[0]


def described(rng: Generator, thing: Thing) -> str:
    """A thing in words without its article: "red car", "small dog", "cat"."""
    words = [noun(rng, thing)]
    if thing.colour and rng.random() < COLOUR:
        words.insert(0, thing.colour)
    size = max(thing.width, thing.height) / SIZE
    if (size > 0.6 or size < 0.28) and rng.random() < 0.08:
        words.insert(0, pick(rng, SIZES[size < 0.5]))
    return " ".join(words)


def place(thing: Thing) -> str | None:
    """Where a thing plainly is, or None."""
    across, down = thing.x - SIZE // 2, thing.y - SIZE // 2
    if max(abs(across), abs(down)) < SIZE // 7:
        return None
    if abs(across) > abs(down):
        return "on the left" if across < 0 else "on the right"
    return "at the top" if down < 0 else "at the bottom"


def several(rng: Generator, things: list[Thing]) -> list[str]:
    """Each thing in words, two of a class perhaps as "two dogs", some with their place."""
    kinds = [thing.kind for thing in things]
    double = next((kind for kind in kinds if kinds.count(kind) == 2), None)
    phrases = []
    if double and rng.random() < 0.75:
        twins = [thing for thing in things if thing.kind == double]
        same = twins[0].colour if twins[0].colour == twins[1].colour and rng.random() < COLOUR else None
        phrases.append(" ".join(word for word in ("two", same, plural(atlas.load().kind(double).words[0])) if word))
        things = [thing for thing in things if thing.kind != double]
    for thing in things:
        where = place(thing) if rng.random() < (0.2 if len(things) > 1 else 0.08) else None
        phrases.append(article(described(rng, thing)) + (f" {where}" if where else ""))
    return phrases


def pair(rng: Generator, scene: Scene, first: Thing, second: Thing) -> str:
    """Two things with what they have to do with each other."""
    a, b = article(described(rng, first)), article(described(rng, second))
    if scene.relation is not None and {first, second} == {scene.things[k] for k in (scene.relation.first, scene.relation.second)}:
        if first != scene.things[scene.relation.first]:
            a, b = b, a
        return pick(rng, RELATIONS[scene.relation.word]).format(a=a, b=b)
    away = second.x - first.x
    if abs(away) > SIZE // 4 and rng.random() < 0.25:
        return f"{a} to the {'left' if away > 0 else 'right'} of {b}"
    return pick(rng, BESIDE).format(a=a, b=b)


def listed(phrases: list[str]) -> str:
    """Phrases joined as in a sentence."""
    return phrases[0] if len(phrases) == 1 else f"{', '.join(phrases[:-1])} and {phrases[-1]}"


def body(rng: Generator, scene: Scene, mentioned: list[Thing]) -> str:
    """The things that are mentioned, in words."""
    together = () if scene.relation is None else (scene.things[scene.relation.first], scene.things[scene.relation.second])
    rest = [thing for thing in mentioned if thing not in together]
    if together and len(rest) == len(mentioned) - 2 and rng.random() < 0.8:
        first, second = (thing for thing in mentioned if thing in together)
        return listed([pair(rng, scene, first, second), *(several(rng, rest) if rest else [])])
    if len(mentioned) == 2 and mentioned[0].kind != mentioned[1].kind and rng.random() < 0.6:
        return pair(rng, scene, mentioned[0], mentioned[1])
    return listed(several(rng, mentioned))


def ending(rng: Generator, scene: Scene) -> str:
    """The ground, at times; the sky above it, seldom."""
    words = pick(rng, scene.ground_kind.phrases) if rng.random() < GROUND else ""
    if scene.horizon and rng.random() < 0.2:
        words = f"{words} under a blue sky".strip()
    return words


def caption(rng: Generator, scene: Scene, *, silence: float = SILENCE) -> str:
    """A caption of the scene; with the chance `silence` some of several things, all but one at most, are not named."""
    order = [scene.things[int(k)] for k in rng.permutation(len(scene.things))]
    if len(order) > 1 and rng.random() < silence:
        order = order[: int(rng.integers(1, len(order)))]
    opening = OPENINGS[int(rng.choice(len(OPENINGS), p=OPENING_SHARES))]
    return " ".join(words for words in (opening, body(rng, scene, order), ending(rng, scene)) if words)


def vocabulary() -> list[str]:
    """Every word that a caption may have, for a tokenizer; the classes' words first."""
    book = atlas.load()
    names = [word for kind in book.kinds.values() for word in kind.words]
    phrases = [*names, *(plural(name) for name in names), *OPENINGS, *BESIDE, *sum(RELATIONS.values(), ()), *sum(SIZES, ())]
    phrases += [phrase for ground in GROUNDS for phrase in (ground.name, *ground.phrases)]
    phrases += [colour for s in book.sprites.values() for colour in (s.colour, *s.paints) if colour]
    phrases += ["a an two", "on the left right top bottom", "at the", "to the left of", "under a blue sky", ",", "photograph"]
    words = (word for phrase in phrases for word in phrase.format(a="", b="").split())
    return list(dict.fromkeys(words))
