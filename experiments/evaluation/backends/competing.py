"""Words that compete with others in one softmax, as the library's `softmax="together"` has it."""

from collections.abc import Sequence

from experiments.evaluation.targets import photograph
from ovam import Method, Rows
from ovam.attention.competition import competing
from ovam.attention.targets import rows_of
from ovam.tracing.model import Pipeline


def word_against(pipeline: Pipeline, word: str, others: Sequence[str]) -> Rows:
    """A word's rows in one softmax with others; alone if there are none."""
    words = [photograph(each) for each in (word, *(other for other in others if other != word))]
    found = rows_of(pipeline, words, [Method()] * len(words))
    return against(found[0], found[1:])


def against(target: Rows, others: Sequence[Rows]) -> Rows:
    """A target's rows in one softmax with others; alone if there are none."""
    return competing([target], others)[0] if others else target
