"""What an image can be asked for: a class's word in several wordings, all words at once, or a learned token."""

from collections.abc import Callable

from experiments.evaluation.datasets import Case, said
from experiments.tinyworld.captions import article
from experiments.tinyworld.shapes import BY_NAME

Asked = str  # a key of WORDINGS, "vocabulary", or the name of a recipe of tokens
Wording = Callable[[Case], tuple[str, str]]  # the attribution prompt and the word in it

UNSEEN = {
    "sun": "daylight",
    "tree": "oak",
    "house": "building",
    "boat": "vessel",
    "car": "vehicle",
    "fish": "salmon",
    "flower": "rose",
    "star": "asterisk",
    "mushroom": "fungus",
    "balloon": "dirigible",
}
"""Words for the classes that no caption of the training has."""


def plainly(case: Case) -> tuple[str, str]:
    """The attribution prompt of section 4.1; for a part its thing with it, for a ground the ground."""
    match case.group:
        case "parts":
            thing, part = case.kind.split("/")
            return f"a photograph of {article(thing)} with {article(part)}", part
        case "grounds":
            return f"a photograph of the {case.kind}", case.kind
        case _:
            word = case.word or case.kind
            return f"a photograph of {article(word)}", word


def by_synonym(case: Case) -> tuple[str, str]:
    """The same by another word of the training's captions."""
    word = BY_NAME[case.kind].synonyms[0]
    return f"a photograph of {article(word)}", word


def alone(case: Case) -> tuple[str, str]:
    """The word and nothing else."""
    word = plainly(case)[1]
    return word, word


def in_sentence(case: Case) -> tuple[str, str]:
    """A sentence unlike all captions."""
    word = plainly(case)[1]
    return f"look at the {word} over there", word


def in_own_prompt(case: Case) -> tuple[str, str]:
    """The prompt that the image was made from, which DAAM and Attn2Mask were made for."""
    return case.prompt, case.word or said(case.kind, case.prompt) or case.kind


PADDED, OWN_PROMPT = "words, padded", "own prompt"
WORDINGS: dict[Asked, Wording] = {
    "words": plainly,
    PADDED: plainly,
    "word alone": alone,
    "unseen sentence": in_sentence,
    "synonym": by_synonym,
    "unseen word": lambda case: (f"a photograph of {article(UNSEEN[case.kind])}", UNSEEN[case.kind]),
    OWN_PROMPT: in_own_prompt,
}
OF_THIS_WORLD = ("synonym", "unseen word")
"""Wordings that only the bundled world's classes have."""
VOCABULARY = "vocabulary"
