"""What is at a place of an image: the words that it attends to, ranked."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ovam.attention.heatmaps import heatmaps
from ovam.attention.joint import encode_for
from ovam.attention.scores import resize
from ovam.attention.text import word_tokens
from ovam.core.methods import Padding
from ovam.core.selection import Blocks, Positions
from ovam.core.settings import checked
from ovam.core.words import words_of
from ovam.errors import InvalidArgumentError, WordNotInPromptError
from ovam.tracing.model import Pipeline
from ovam.tracing.trace import Trace, require_trace

Box = tuple[int, int, int, int]
"""Left, top, width, height in pixels; a single pixel is a box of 1 by 1."""


@dataclass(frozen=True)
class RankedWord:
    """How much a place attends to a word."""

    word: str
    attention: float
    """Mean attention of the place to the word, 0 to 1."""
    fraction: float
    """Of the attention that all the words get there; the fractions add up to 1."""
    gain: float
    """Its attention there less its attention in the whole image; the order is by it."""
    lift: float
    """Its attention there over its attention in the whole image."""


@checked
def rank_words(  # noqa: PLR0913 - every choice of the method is one keyword
    trace: Trace,
    pipeline: Pipeline,
    prompt: str,
    words: Sequence[str] | None = None,
    *,
    box: Box,
    padding: Padding = "none",
    blocks: Blocks = "all",
    evaluations: Positions | slice = "all",
    heads: Positions | slice = "all",
) -> tuple[RankedWord, ...]:
    """Rank words of an attribution prompt by how much more a place attends to them than the whole image does.

    All words take part in one softmax over one prompt: `words` are words or phrases of it, by default all its words. The
    order is by `RankedWord.gain`, because every word's map has a floor of its own, so that plain attention orders the
    words much the same everywhere. `box` is (left, top, width, height) in pixels of the image.

    Raises `InvalidArgumentError` for a box outside of the image, `WordNotInPromptError`, and what `encode` and `heatmaps`
    raise.

    >>> ranked = ovam.rank_words(trace, pipeline, "a cat on a tree", ["cat", "tree"], box=(10, 10, 20, 20))
    >>> sorted(one.word for one in ranked), round(sum(one.fraction for one in ranked), 6)
    (['cat', 'tree'], 1.0)
    """
    require_trace(trace)
    _require_inside(box, trace.image_size)
    embedding, tokens = encode_for(trace, pipeline, [prompt], padding, None)[0]
    ranked_words = words_of(prompt) if words is None else [*words]
    if not ranked_words:
        raise WordNotInPromptError(f"there is no word to rank in prompt {prompt!r}")
    rows = [[token.index for token in word_tokens(tokens, prompt, word)] for word in ranked_words]
    maps = heatmaps(trace, embedding, blocks=blocks, evaluations=evaluations, heads=heads)
    return ranked(ranked_words, resize(torch.stack([maps[own].mean(dim=0) for own in rows]), trace.image_size), box)


def ranked(words: Sequence[str], maps: Float[Tensor, "words height width"], box: Box) -> tuple[RankedWord, ...]:
    """Rank words by their maps in a box."""
    left, top, width, height = box
    here = maps[:, top : top + height, left : left + width].mean(dim=(1, 2)).tolist()
    everywhere = maps.mean(dim=(1, 2)).tolist()
    found = [
        RankedWord(word, attention, attention / sum(here), attention - usual, attention / usual)
        for word, attention, usual in zip(words, here, everywhere, strict=True)
    ]
    return tuple(sorted(found, key=lambda one: (one.gain, one.attention), reverse=True))


def _require_inside(box: Box, size: tuple[int, int]) -> None:
    """Raise `InvalidArgumentError` for a box that is empty or leaves the image of `size` (height, width)."""
    left, top, width, height = box
    if min(left, top) < 0 or min(width, height) < 1 or left + width > size[1] or top + height > size[0]:
        raise InvalidArgumentError("box", box, f"(left, top, width, height) inside of {size[1]} x {size[0]} pixels")
