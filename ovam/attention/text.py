"""From an attribution prompt to its embedding, and from a word to its tokens."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from ovam.attention.prompts import encode_by_pipeline
from ovam.attention.tokens import Encoded, Token
from ovam.core.methods import Padding
from ovam.core.settings import checked
from ovam.core.words import Characters, normalized, occurrences_of, overlaps
from ovam.errors import InvalidArgumentError, PromptTooLongError, UnsupportedModelError
from ovam.tracing.families import UNET, family_of
from ovam.tracing.keys import place_of
from ovam.tracing.model import Pipeline, plain_unet, unet_of

_CLIP = ("clip_text_model", "clip")


@checked
def encode(
    pipeline: Pipeline,
    prompt: str,
    *,
    padding: Padding = "none",
    clip_skip: int | None = None,
    max_sequence_length: int | None = None,
) -> tuple[Float[Tensor, "tokens text_width"], tuple[Token, ...]]:
    """Encode an attribution prompt as the pipeline encodes the prompts of its images (X' of Eq. 4).

    Returns the embedding, the last hidden state of a Stable Diffusion 1.x or 2.x text encoder or the last but one of
    SDXL's two side by side, and the token of each of its rows, those of the first tokenizer.

    Concepts of textual inversion stand for all their vectors, and each of these is a token of the concept's word.
    `clip_skip` leaves out that many of the encoder's last layers, as the argument of the pipeline does.

    A diffusion transformer's pipeline encodes the prompt itself, padded to its `max_sequence_length`; see
    `ovam.attention.prompts`.

    `padding="none"` keeps the prompt's own tokens with start and end, as published; `"max_length"` pads to the encoder's
    limit (77), as for a generation. The two give different maps.

    Raises `PromptTooLongError` instead of cutting the prompt, `InvalidArgumentError` for one that SDXL's two tokenizers
    split differently ("!!" is one token of the first and two of the second), `UnsupportedModelError` for other encoders.

    >>> embedding, tokens = ovam.encode(pipeline, "a cat")
    >>> embedding.shape, [token.text for token in tokens]
    (torch.Size([4, 32]), ['<|startoftext|>', 'a', 'cat', '<|endoftext|>'])
    """
    return encode_each(pipeline, [prompt], padding=padding, clip_skip=clip_skip, length=max_sequence_length)[0]


def encode_each(
    pipeline: Pipeline,
    prompts: Sequence[str],
    *,
    padding: Padding = "none",
    clip_skip: int | None = None,
    length: int | None = None,
) -> list[Encoded]:
    """Encode several attribution prompts as `encode` does, in one call of each text encoder.

    Shorter prompts are filled up and cut again: what follows a token does not reach it, because the encoders
    are causal.
    """
    if padding not in get_args(Padding):
        raise InvalidArgumentError("padding", padding, "'none' or 'max_length'")
    if unet_of(pipeline) is not None and family_of(plain_unet(pipeline)) is not UNET:  # text encoders alone are those of a UNet
        return encode_by_pipeline(pipeline, prompts, padding, clip_skip, length)
    texts = [normalized(prompt) for prompt in prompts]
    models = _text_models(pipeline, clip_skip)
    encodings = [_tokenized(model, texts, padding) for model in models]
    for text, *each in zip(texts, *encodings, strict=True):
        lengths = {len(encoding.ids) for encoding in each}
        if len(lengths) > 1:
            raise InvalidArgumentError("prompt", text, f"what both tokenizers cut alike, not into {sorted(lengths)} tokens")
    states = [_hidden_states(model, each) for model, each in zip(models, encodings, strict=True)]
    names = models[0].tokenizer.convert_ids_to_tokens
    return [
        (torch.cat(rows, dim=-1), _tokens(text, encoding, names(encoding.ids)))
        for text, encoding, *rows in zip(texts, encodings[0], *states, strict=True)
    ]


def require_short(pipeline: Pipeline, prompt: str) -> None:
    """Raise `PromptTooLongError` for a prompt that one of the pipeline's encoders would cut."""
    for model in _text_models(pipeline):
        _tokenized(model, [prompt], "none")


def word_tokens(tokens: tuple[Token, ...], prompt: str, word: str, *, occurrence: int | None = None) -> tuple[Token, ...]:
    """Find the tokens of a word or phrase in its prompt by its characters, whatever its case.

    All occurrences count, or with `occurrence` the n-th, from 0. Only whole words match ("car" is not in "scar"), in
    scripts without spaces every occurrence; see `ovam.core.words.spans_of`.

    Raises `WordNotInPromptError`, which names the prompt and the word.

    >>> _, tokens = ovam.encode(pipeline, "a cat and a dog")
    >>> [token.index for token in ovam.word_tokens(tokens, "a cat and a dog", "dog")]
    [5]
    """
    spans = occurrences_of(prompt, word, occurrence)
    return tuple(token for token in tokens if token.span and any(overlaps(token.span, span) for span in spans))


@dataclass(frozen=True, eq=False)
class _TextModel:
    """A tokenizer, its encoder, and which of the encoder's states the UNet attends to."""

    tokenizer: Any
    encoder: Any
    state: int | None
    """Index among the hidden states; `None` for the last one."""
    normed: bool
    """Whether the encoder's last norm is applied to the state."""
    concepts: bool
    """Whether the pipeline expands concepts of textual inversion."""


def _text_models(pipeline: Pipeline, clip_skip: int | None = None) -> list[_TextModel]:
    """List a pipeline's text encoders: one, or SDXL's two (of which its refiner has the second alone).

    Raises `UnsupportedModelError` for encoders other than CLIP's, or a tokenizer without offsets,
    `InvalidArgumentError` for a `clip_skip` beyond the encoder's layers.
    """
    double = hasattr(pipeline, "text_encoder_2")
    skipped = 0 if clip_skip is None else clip_skip
    state = -2 - skipped if double else None if clip_skip is None else -1 - skipped
    pairs = [
        (getattr(pipeline, f"tokenizer{end}", None), getattr(pipeline, f"text_encoder{end}", None)) for end in ("", "_2", "_3")
    ]
    concepts = hasattr(pipeline, "maybe_convert_prompt")
    models = [_TextModel(tokenizer, encoder, state, not double, concepts) for tokenizer, encoder in pairs if encoder is not None]
    known = all(model.encoder.config.model_type in _CLIP and getattr(model.tokenizer, "is_fast", False) for model in models)
    if not models or not known or pairs[2][1] is not None:
        raise UnsupportedModelError(
            f"pipeline {type(pipeline).__name__}: allowed: one or two CLIP text encoders, with tokenizers that return offsets"
        )
    most = min(model.encoder.config.num_hidden_layers for model in models) - double
    if not 0 <= skipped <= most:
        raise InvalidArgumentError("clip_skip", clip_skip, f"None, or 0 to {most}")
    return models


@dataclass(frozen=True)
class _Encoding:
    """A prompt in a tokenizer's ids."""

    ids: list[int]
    mask: list[int]
    """1, and 0 for padding."""
    special: list[int]
    """1 for a start, end or padding token, else 0."""
    spans: list[Characters]
    """Characters of the prompt as it was given."""


def _tokenized(model: _TextModel, prompts: Sequence[str], padding: Padding) -> list[_Encoding]:
    """Turn prompts into ids, with the characters that each covers."""
    limit = min(model.tokenizer.model_max_length, model.encoder.config.max_position_embeddings)
    texts = [_expanded(prompt, model.tokenizer) if model.concepts else (prompt, None) for prompt in prompts]
    found = model.tokenizer(
        [text for text, _ in texts],
        padding="max_length" if padding == "max_length" else False,
        max_length=limit,
        truncation=False,
        return_offsets_mapping=True,
        return_special_tokens_mask=True,
        verbose=False,
    )
    parts = (found[part] for part in ("input_ids", "attention_mask", "special_tokens_mask", "offset_mapping"))
    encodings = []
    for prompt, (_, origins), ids, mask, special, spans in zip(prompts, texts, *parts, strict=True):
        if len(ids) > limit:
            raise PromptTooLongError(f"prompt {prompt!r} has {len(ids)} tokens with start and end; allowed: {limit}")
        own = spans if origins is None else [_origin(span, origins) for span in spans]
        encodings.append(_Encoding(ids, mask, special, own))
    return encodings


def _expanded(prompt: str, tokenizer: Any) -> tuple[str, list[Characters] | None]:  # noqa: ANN401 - a tokenizer
    """Write out a prompt's concepts as diffusers' `maybe_convert_prompt` does, "<toy>" as "<toy> <toy>_1 <toy>_2".

    Returns the text, and for each of its characters the span in the prompt that it comes from; `None` where nothing changed.
    """
    added = tokenizer.added_tokens_encoder
    text, origins = prompt, [(place, place + 1) for place in range(len(prompt))]
    for token in dict.fromkeys(tokenizer.tokenize(prompt)):
        count = 1
        while f"{token}_{count}" in added:
            count += 1
        if token not in added or count == 1:
            continue
        vectors = " ".join([token, *(f"{token}_{number}" for number in range(1, count))])
        start = text.find(token)
        while start >= 0:
            stop = start + len(token)
            origin = (origins[start][0], origins[stop - 1][1])
            text = text[:start] + vectors + text[stop:]
            origins[start:stop] = [origin] * len(vectors)
            start = text.find(token, start + len(vectors))
    return (text, None) if text == prompt else (text, origins)


def _origin(span: Characters, origins: list[Characters]) -> Characters:
    """Return where in the prompt a span of the expanded text comes from."""
    start, stop = span
    return (origins[start][0], origins[stop - 1][1]) if stop > start else (0, 0)


def _tokens(prompt: str, encoding: _Encoding, names: list[str]) -> tuple[Token, ...]:
    """Return the token of each row of a prompt's embedding."""
    return tuple(
        Token(index, name, None) if special else Token(index, prompt[start:stop], (start, stop))
        for index, (name, special, (start, stop)) in enumerate(zip(names, encoding.special, encoding.spans, strict=True))
    )


def _hidden_states(model: _TextModel, encodings: Sequence[_Encoding]) -> list[Float[Tensor, "_ width"]]:
    """Run a text encoder on several prompts' ids, filled up to the longest."""
    encoder, longest = model.encoder, max(len(encoding.ids) for encoding in encodings)
    place = place_of(encoder)

    def filled(rows: list[list[int]], value: int) -> Tensor:
        return torch.tensor([[*row, *[value] * (longest - len(row))] for row in rows], device=place)

    with torch.no_grad():
        ids = filled([encoding.ids for encoding in encodings], model.tokenizer.pad_token_id)
        mask = filled([encoding.mask for encoding in encodings], 0)
        uses_mask = getattr(encoder.config, "use_attention_mask", False)
        output = encoder(ids, attention_mask=mask if uses_mask else None, output_hidden_states=model.state is not None)
        states = output[0] if model.state is None else output.hidden_states[model.state]
        if model.state is not None and model.normed:
            states = getattr(encoder, "text_model", encoder).final_layer_norm(states)  # transformers 4 has it one level down
    return [state[: len(encoding.ids)] for state, encoding in zip(states, encodings, strict=True)]
