"""From an attribution prompt to its embedding, and from a word to its tokens."""

import re
import unicodedata
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from ovam.errors import InvalidArgumentError, PromptTooLongError, UnsupportedModelError, WordNotInPromptError
from ovam.model import Pipeline

Padding = Literal["none", "max_length"]


@dataclass(frozen=True)
class Token:
    """One row of an embedding and the piece of the prompt it stands for."""

    index: int
    """Row in the embedding."""
    text: str
    """The characters of the prompt; for a start, end or padding token its name."""
    span: tuple[int, int] | None
    """``prompt[start:stop]`` of the NFC-normalised prompt; ``None`` for a start, end or padding token."""


def encode(
    pipeline: Pipeline,
    prompt: str,
    *,
    padding: Padding = "none",
) -> tuple[Float[Tensor, "tokens text_width"], tuple[Token, ...]]:
    """Encode an attribution prompt: the last hidden state of the pipeline's text encoder (X' of Eq. 4).

    ``padding="none"`` keeps the prompt's own tokens with start and end, as published; ``"max_length"`` pads
    to the encoder's limit (77), the very attention of generation. The two give different maps.

    Raises `PromptTooLongError` instead of cutting the prompt, `UnsupportedModelError` for other text
    encoders.
    """
    if padding not in get_args(Padding):
        raise InvalidArgumentError("padding", padding, "'none' or 'max_length'")
    tokenizer, encoder = _text_model(pipeline)
    prompt = unicodedata.normalize("NFC", prompt)
    limit = min(tokenizer.model_max_length, encoder.config.max_position_embeddings)
    encoded = tokenizer(
        prompt,
        padding="max_length" if padding == "max_length" else False,
        max_length=limit,
        truncation=False,
        return_offsets_mapping=True,
        return_special_tokens_mask=True,
        verbose=False,
    )
    ids = encoded["input_ids"]
    if len(ids) > limit:
        raise PromptTooLongError(f"prompt {prompt!r} has {len(ids)} tokens with start and end; allowed: {limit}")
    names = tokenizer.convert_ids_to_tokens(ids)
    tokens = tuple(
        Token(index, name, None) if special else Token(index, prompt[start:stop], (start, stop))
        for index, (name, special, (start, stop)) in enumerate(
            zip(names, encoded["special_tokens_mask"], encoded["offset_mapping"], strict=True)
        )
    )
    with torch.no_grad():
        rows = torch.tensor([ids], device=encoder.device)
        mask = torch.tensor([encoded["attention_mask"]], device=encoder.device)
        uses_mask = getattr(encoder.config, "use_attention_mask", False)
        embedding = encoder(rows, attention_mask=mask if uses_mask else None)[0][0]
    return embedding, tokens


def word_tokens(tokens: tuple[Token, ...], prompt: str, word: str, *, occurrence: int | None = None) -> tuple[Token, ...]:
    """Find the tokens of a word or phrase by its characters, whatever its case.

    All occurrences count, or with ``occurrence`` the n-th, from 0. Only whole words match: "car" is not in
    "scar".

    Raises `WordNotInPromptError` naming the prompt and the word.
    """
    prompt = unicodedata.normalize("NFC", prompt)
    spans = _spans(prompt, unicodedata.normalize("NFC", word))
    if occurrence is not None:
        if not 0 <= occurrence < len(spans):
            raise WordNotInPromptError(
                f"occurrence {occurrence} of word {word!r} is not in prompt {prompt!r}, which has {len(spans)}"
            )
        spans = [spans[occurrence]]
    found = tuple(token for token in tokens if token.span and any(_overlap(token.span, span) for span in spans))
    if not found:
        raise WordNotInPromptError(f"word {word!r} is not in prompt {prompt!r}")
    return found


def _spans(prompt: str, word: str) -> list[tuple[int, int]]:
    """Find where a word stands in a prompt, between characters that are no letters or digits."""
    parts = [re.escape(part) for part in word.split()]
    if not parts:
        raise InvalidArgumentError("word", word, "at least one character that is not a space")
    phrase = r"\s+".join(parts)
    pattern = rf"(?<![^\W_]){phrase}(?![^\W_])"
    return [match.span() for match in re.finditer(pattern, prompt, re.IGNORECASE)]


def _overlap(one: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether two character spans share a character."""
    return one[0] < other[1] and other[0] < one[1]


def _text_model(pipeline: Pipeline) -> tuple[Any, Any]:
    """Take the one tokenizer and text encoder of a pipeline of the Stable Diffusion 1.x kind."""
    tokenizer, encoder = getattr(pipeline, "tokenizer", None), getattr(pipeline, "text_encoder", None)
    single = getattr(pipeline, "text_encoder_2", None) is None
    if tokenizer is None or encoder is None or not single or not getattr(tokenizer, "is_fast", False):
        raise UnsupportedModelError(
            f"pipeline {type(pipeline).__name__}: allowed: one text encoder, with a tokenizer that tells offsets"
        )
    return tokenizer, encoder
