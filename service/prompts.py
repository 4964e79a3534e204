"""How long a prompt is for an encoder, and whether a word is in it. The same rules as the method's own."""

import re
import unicodedata
from dataclasses import dataclass

from tokenizers import Tokenizer

from contracts.errors import Code, ServiceError

Span = tuple[int, int]


@dataclass(frozen=True)
class Prompt:
    """A prompt as its encoder sees it."""

    text: str
    """NFC-normalised."""
    length: int
    """Tokens, start and end marks included."""
    spans: tuple[Span, ...]
    """Characters of every token that is no mark."""


def tokenized(tokenizer: Tokenizer, prompt: str) -> Prompt:
    """A prompt cut into tokens."""
    text = unicodedata.normalize("NFC", prompt)
    encoding = tokenizer.encode(text)
    pairs = zip(encoding.offsets, encoding.special_tokens_mask, strict=True)
    return Prompt(text, len(encoding.ids), tuple(span for span, special in pairs if not special))


def fitting(tokenizer: Tokenizer, prompt: str, limit: int, *, field: str) -> Prompt:
    """A prompt cut into tokens; prompt-too-long if the encoder does not take that many."""
    found = tokenized(tokenizer, prompt)
    if found.length > limit:
        detail = f"`{field}` has {found.length} tokens with start and end marks; allowed: {limit}"
        raise ServiceError(Code.PROMPT_TOO_LONG, detail, field=field, value=prompt)
    return found


def check_word(prompt: Prompt, word: str, occurrence: int | None, *, field: str) -> None:
    """Raise word-not-in-prompt unless whole words of the prompt are `word`, and there are enough of them."""
    places = occurrences(prompt.text, word)
    if occurrence is not None and occurrence >= len(places):
        detail = f"word {word!r} occurs {len(places)} times in prompt {prompt.text!r}; `occurrence` {occurrence} counts from 0"
        raise ServiceError(Code.WORD_NOT_IN_PROMPT, detail, field=f"{field}.occurrence", value=occurrence)
    check_tokens(prompt, word, places if occurrence is None else [places[occurrence]], field=f"{field}.word")


def check_tokens(prompt: Prompt, word: str, places: list[Span], *, field: str) -> None:
    """Raise word-not-in-prompt unless there are tokens at the word's places."""
    if not any(overlap(span, place) for span in prompt.spans for place in places):
        raise ServiceError(Code.WORD_NOT_IN_PROMPT, f"word {word!r} is not in prompt {prompt.text!r}", field=field, value=word)


def occurrences(prompt: str, word: str) -> list[Span]:
    """Where a word or phrase stands between characters that are no letters or digits, whatever its case."""
    phrase = r"\s+".join(re.escape(part) for part in unicodedata.normalize("NFC", word).split())
    if not phrase:
        return []
    return [match.span() for match in re.finditer(rf"(?<![^\W_]){phrase}(?![^\W_])", prompt, re.IGNORECASE)]


def overlap(one: Span, other: Span) -> bool:
    """Whether two spans share a character."""
    return one[0] < other[1] and other[0] < one[1]
