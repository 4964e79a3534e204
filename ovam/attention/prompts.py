"""Prompts of diffusion transformers: encoded by the pipeline itself, and their words found by its tokenizers."""

from collections.abc import Sequence
from dataclasses import dataclass
from inspect import signature
from typing import Any

import torch
from torch import Tensor

from ovam.attention.chats import Chat, chat_of
from ovam.attention.tokens import Encoded, Token
from ovam.core.methods import Padding
from ovam.core.words import Characters, normalized
from ovam.errors import InvalidArgumentError, PromptTooLongError, UnsupportedModelError
from ovam.tracing.families import family_of
from ovam.tracing.model import Pipeline, plain_unet


@dataclass(frozen=True)
class Part:
    """Rows of an embedding that one tokenizer's tokens stand for."""

    tokenizer: Any
    length: int
    """With padding."""
    instruction: str = ""
    """What stands before every prompt, and of whose tokens all but the first are left out (Sana)."""
    strips: bool = False
    """Whether prompts are put in lower case, without white space around them."""
    chat: Chat | None = None
    """In which prompts are put (FLUX.2)."""


def encode_by_pipeline(
    pipeline: Pipeline, prompts: Sequence[str], padding: Padding, clip_skip: int | None = None, length: int | None = None
) -> list[Encoded]:
    """Encode prompts as the pipeline of a transformer does, which pads them; `length` is its `max_sequence_length`.

    With `padding="none"` the rows of padding are left out of the result. They are always, where the model masks them (PixArt,
    Sana). T5 has no start token to be the background's row, so its end token comes first; attention knows no order.

    Raises `PromptTooLongError`, `InvalidArgumentError`, `UnsupportedModelError`.
    """
    texts = [normalized(prompt) for prompt in prompts]
    parts = parts_of(pipeline, length)
    rows, mask = _embeddings(pipeline, texts, parts, clip_skip)
    return [
        _encoded(text, own, parts, whole=padding == "max_length" and mask is None) for text, own in zip(texts, rows, strict=True)
    ]


def tokens_drawn_for(pipeline: Pipeline, prompt: str, count: int) -> tuple[Token, ...]:
    """Return the tokens of a prompt that an image was drawn for, in the order of its `count` rows."""
    others = sum(part.length for part in parts_of(pipeline, None)[:-1])
    return tuple(token for token, _ in _tokens(prompt, parts_of(pipeline, count - others)))


def parts_of(pipeline: Pipeline, length: int | None) -> list[Part]:
    """List the tokenizers whose tokens are the rows of a pipeline's embedding, in order."""
    defaults = {name: each.default for name, each in signature(type(pipeline).__call__).parameters.items()}
    longest = defaults["max_sequence_length"] if length is None else length
    match family_of(plain_unet(pipeline)).name:
        case "sd3":
            found = [Part(pipeline.tokenizer, pipeline.tokenizer_max_length), Part(pipeline.tokenizer_3, longest)]
        case "flux":
            found = [Part(pipeline.tokenizer_2, longest)]
        case "flux2":
            chat = chat_of(pipeline)
            found = [Part(chat.tokenizer, longest, chat=chat)]
        case "sana":
            found = [Part(pipeline.tokenizer, longest, "\n".join(defaults["complex_human_instruction"] or ()), True)]
        case _:
            found = [Part(pipeline.tokenizer, longest, strips=True)]
    if not all(part.tokenizer is None or getattr(part.tokenizer, "is_fast", False) for part in found):
        raise UnsupportedModelError(f"pipeline {type(pipeline).__name__}: allowed: tokenizers that return offsets")
    return found


def _embeddings(pipeline: Pipeline, texts: list[str], parts: list[Part], clip_skip: int | None) -> tuple[Tensor, Tensor | None]:
    """Return the rows of prompts as the pipeline encodes them, and its mask of padding, if the model has one."""
    unguided, length = {"do_classifier_free_guidance": False}, parts[-1].length
    with torch.no_grad():
        match family_of(plain_unet(pipeline)).name:
            case "sd3":
                _require_alike(pipeline, texts)
                options = {"prompt_2": None, "prompt_3": None, "clip_skip": clip_skip, **unguided}
                return pipeline.encode_prompt(texts, max_sequence_length=length, **options)[0], None
            case "flux" | "flux2":
                return pipeline.encode_prompt(texts, max_sequence_length=length)[0], None
            case "sana":
                instruction = signature(type(pipeline).__call__).parameters["complex_human_instruction"].default
                options = {"complex_human_instruction": instruction, **unguided}
                return pipeline.encode_prompt(texts, max_sequence_length=length, **options)[:2]
            case _:
                return pipeline.encode_prompt(texts, max_sequence_length=length, clean_caption=False, **unguided)[:2]


def _require_alike(pipeline: Pipeline, texts: list[str]) -> None:
    """Raise `InvalidArgumentError` for a prompt that two CLIP tokenizers, whose rows lie side by side, split differently."""
    for text in texts:
        lengths = {len(tokenizer(text).input_ids) for tokenizer in (pipeline.tokenizer, pipeline.tokenizer_2)}
        if len(lengths) > 1:
            raise InvalidArgumentError("prompt", text, f"what both tokenizers cut alike, not into {sorted(lengths)} tokens")


def _encoded(text: str, rows: Tensor, parts: list[Part], *, whole: bool) -> Encoded:
    """Take the rows of a prompt, all or its own, the background's first."""
    kept = [token for token, own in _tokens(text, parts) if own or whole]
    if parts[0].tokenizer is not None and parts[0].tokenizer.bos_token is None and parts[0].chat is None:
        first = next(token for token in kept if token.text == parts[0].tokenizer.eos_token)
        kept = [first, *(token for token in kept if token is not first)]
    tokens = tuple(Token(number, token.text, token.span) for number, token in enumerate(kept))
    return rows[[token.index for token in kept]], tokens


def _tokens(text: str, parts: list[Part]) -> list[tuple[Token, bool]]:
    """List the tokens of all rows, each with whether it is the prompt's own, and not padding."""
    found: list[tuple[Token, bool]] = []
    for part in parts:
        if part.tokenizer is None:
            found += [(Token(len(found) + number, "", None), False) for number in range(part.length)]
            continue
        for name, span, own in _of_part(text, part):
            found.append((Token(len(found), name if span is None else text[slice(*span)].strip(), span), own))
    return found


def _of_part(text: str, part: Part) -> list[tuple[str, Characters | None, bool]]:
    """Return the name of each token, the characters that it covers, and whether it is no padding."""
    if part.chat is not None:
        return part.chat.tokens(text, part.length)
    if part.strips and len(text.lower()) != len(text):
        raise InvalidArgumentError("prompt", text, "letters whose lower case is as long as they are")
    shift = len(part.instruction) - (len(text) - len(text.lstrip()) if part.strips else 0)
    given = part.instruction + (text.lower().strip() if part.strips else text)
    before = len(part.tokenizer(part.instruction).input_ids) - 1 if part.instruction else 0
    length = part.length + before - (1 if part.instruction else 0)
    found = part.tokenizer(
        given,
        padding="max_length",
        max_length=length,
        return_offsets_mapping=True,
        return_special_tokens_mask=True,
        verbose=False,
    )
    if len(found.input_ids) > length:
        count = len(found.input_ids) - before
        raise PromptTooLongError(f"prompt {text!r} has {count} tokens with start and end; allowed: {part.length}")
    names = part.tokenizer.convert_ids_to_tokens(found.input_ids)
    columns = (names, found.offset_mapping, found.special_tokens_mask, found.attention_mask)
    kept = [0, *range(len(names) - part.length + 1, len(names))] if part.instruction else range(len(names))
    rows = [*zip(*columns, strict=True)]
    return [_placed(*rows[place], shift) for place in kept]


def _placed(name: str, span: Characters, special: int, own: int, shift: int) -> tuple[str, Characters | None, bool]:
    """Return a token with its characters in the prompt; those of an instruction before it are none of them."""
    start, stop = max(span[0] - shift, 0), span[1] - shift
    return name, None if special or not own or stop <= start else (start, stop), bool(own)
