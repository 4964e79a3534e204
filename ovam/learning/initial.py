"""The initial embedding of an optimisation, from words or rows (section 3.3)."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ovam.attention.text import encode, word_tokens
from ovam.errors import InvalidArgumentError
from ovam.learning.token_files import numbered
from ovam.tracing.model import Pipeline


def initial_tokens(
    pipeline: Pipeline,
    *classes: str | Float[Tensor, " text_width"],
    background: Float[Tensor, " text_width"] | None = None,
    noise: float = 0.0,
    seed: int = 0,
) -> Float[Tensor, "classes text_width"]:
    """Return the initial embedding of an optimisation: a row per class, the background's first.

    A class is a word, which gives its last sub-token in "A photograph of a <word>", or a row: of any
    embedding or of a token learned before. The background is <SoT>, or `background`. `noise` adds normal
    noise of that standard deviation, the same for the same `seed`.

    Raises `InvalidArgumentError` for no class and rows of different widths, and what `encode` raises.
    """
    if not classes:
        raise InvalidArgumentError("classes", classes, "at least one word or row")
    if not 0 <= noise < math.inf:
        raise InvalidArgumentError("noise", noise, "0 or more, finite")
    rows = [_row(pipeline, one) for one in classes]
    if background is None:
        prompt = f"A photograph of a {classes[0]}" if isinstance(classes[0], str) else "A photograph"
        background = encode(pipeline, prompt)[0][0]
    rows = [row.detach().to(background) for row in (background, *rows)]
    if len({row.shape for row in rows}) > 1:
        raise InvalidArgumentError("classes", [tuple(row.shape) for row in rows], "rows of one width")
    tokens = torch.stack(rows)
    if noise == 0:
        return tokens
    return tokens + noise * torch.randn(tokens.shape, generator=torch.Generator().manual_seed(seed)).to(tokens)


def named_initial(pipeline: Pipeline | None, init: Tensor | np.ndarray | str | Sequence[str]) -> tuple[tuple[str, ...], Tensor]:
    """Return the classes' names and their initial embedding, from words or from rows that are given."""
    if isinstance(init, np.ndarray):
        init = torch.from_numpy(init)
    if isinstance(init, Tensor):
        return numbered("token", max(1, init.shape[0] - 1)), init
    names = (init,) if isinstance(init, str) else tuple(init) if isinstance(init, Sequence) else ()
    if not names or not all(isinstance(name, str) for name in names):
        raise InvalidArgumentError("init", init, "words, or a tensor of (classes, text_width) with the background's row first")
    if len({*names}) < len(names):
        raise InvalidArgumentError("init", init, "words that differ")
    if pipeline is None:
        raise InvalidArgumentError("pipeline", None, "the pipeline of the traces, which encodes the words of init")
    return names, initial_tokens(pipeline, *names)


def _row(pipeline: Pipeline, one: str | Tensor) -> Float[Tensor, " text_width"]:
    """Take a class's row: as it is, or its word's last sub-token."""
    if isinstance(one, Tensor):
        return one
    prompt = f"A photograph of a {one}"
    embedding, tokens = encode(pipeline, prompt)
    return embedding[word_tokens(tokens, prompt, one)[-1].index]
