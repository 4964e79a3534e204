"""What is looked for in an image: a class's word in several wordings, words that compete, or a learned token."""

from collections.abc import Callable

from experiments.evaluation.datasets import Case
from experiments.evaluation.world import article
from ovam import Words

TargetName = str  # a key of WORDINGS or TOGETHER, or the name of a recipe of tokens


def photograph(word: str) -> Words:
    """The attribution prompt of section 4.1."""
    return Words(f"a photograph of {article(word)}", word)


WORDS, PADDED, SYNONYM, OWN_PROMPT = "words", "words, padded", "synonym", "own prompt"
WORDS_LATE = "words, late"
"""A word in the second half of the evaluations, where its leakage is measured, too."""
WORDINGS: dict[TargetName, Callable[[Case], Words]] = {
    WORDS: lambda case: photograph(case.word),
    PADDED: lambda case: photograph(case.word),
    "word alone": lambda case: Words(case.word, case.word),
    "unseen sentence": lambda case: Words(f"look at the {case.word} over there", case.word),
    SYNONYM: lambda case: photograph(case.synonym or case.word),
    OWN_PROMPT: lambda case: Words(case.prompt, case.mention) if case.mention else photograph(case.word),
}
"""Single words. The own prompt is the one that the image was made from, which DAAM and Attn2Mask were made for."""
AGAINST_ALL, AGAINST_SCENE = "words, against all classes", "words, against the scene's"
TOKENS_AGAINST_ALL = "tokens, against all classes"
TOGETHER = (AGAINST_ALL, AGAINST_SCENE, TOKENS_AGAINST_ALL)
"""Targets that compete with others in one softmax: with every other class, or with the other things that the prompt mentions."""
