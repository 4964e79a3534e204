"""What an image can be asked for: a class's word in several wordings, all words at once, or a learned token."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor

import ovam
from experiments.evaluation.datasets import Case, said
from experiments.evaluation.images import Studio
from experiments.tinyworld.captions import article
from experiments.tinyworld.shapes import BY_NAME, CLASS_NAMES

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


@dataclass(frozen=True, eq=False)
class Target:
    """The rows of an embedding whose maps are averaged."""

    embedding: Float[Tensor, "tokens width"]
    rows: tuple[int, ...]


Tokens = Mapping[str, Target]  # learned, by what they were learned for


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


def in_own_prompt(case: Case) -> tuple[str, str]:
    """The prompt that the image was made from, which DAAM and Attn2Mask were made for."""
    return case.prompt, said(case.kind, case.prompt) or case.kind


WORDINGS: dict[Asked, Wording] = {
    "words": plainly,
    "words, padded": plainly,
    "word alone": lambda case: (case.kind, case.kind),
    "unseen sentence": lambda case: (f"look at the {case.kind} over there", case.kind),
    "synonym": by_synonym,
    "unseen word": lambda case: (f"a photograph of {article(UNSEEN[case.kind])}", UNSEEN[case.kind]),
    "own prompt": in_own_prompt,
}
VOCABULARY = "vocabulary"


def target(studio: Studio, asked: Asked, case: Case, tokens: Mapping[Asked, Tokens]) -> Target:
    """What to attend to, and which of its maps count."""
    if asked in WORDINGS:
        return _worded(studio, *WORDINGS[asked](case), padded=asked == "words, padded")
    if asked == VOCABULARY:
        return Target(_vocabulary(studio), (1 + CLASS_NAMES.index(case.kind),))
    return tokens[asked][case.kind]


@cache
def _worded(studio: Studio, prompt: str, word: str, *, padded: bool) -> Target:
    """The tokens of a word of a prompt."""
    embedding, found = ovam.encode(studio.pipeline, prompt, padding="max_length" if padded else "none")
    return Target(embedding, tuple(token.index for token in ovam.word_tokens(found, prompt, word)))


@cache
def _vocabulary(studio: Studio) -> Float[Tensor, "classes width"]:
    """The words of all classes in one softmax, behind the background's row."""
    with torch.no_grad():
        return ovam.initial_tokens(studio.pipeline, *CLASS_NAMES)
