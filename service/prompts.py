"""Prompts as a model's tokenizer cuts them: how long they are, and whether a word is among their tokens."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from tokenizers import Tokenizer

from contracts.schema.errors import Code, ServiceError
from ovam.core.words import Characters, normalized, occurrences_of, overlaps, spans_of
from ovam.errors import WordNotInPromptError

NO_CONCEPTS: Mapping[str, int] = MappingProxyType({})


@dataclass(frozen=True)
class Prompt:
    """A prompt as its encoder sees it."""

    text: str
    """NFC-normalised."""
    length: int
    """Tokens, start and end marks included."""
    tokens: tuple[Characters, ...]
    """Characters of every token that is no mark."""

    def has(self, word: str) -> bool:
        """Whether a word of the prompt has a token."""
        return self.covers(spans_of(self.text, word))

    def covers(self, places: list[Characters]) -> bool:
        """Whether a token stands at one of these places; a tokenizer may drop characters."""
        return any(overlaps(token, place) for token in self.tokens for place in places)


def tokenized(tokenizer: Tokenizer, prompt: str) -> Prompt:
    """A prompt cut into tokens."""
    text = normalized(prompt)
    encoding = tokenizer.encode(text)
    pairs = zip(encoding.offsets, encoding.special_tokens_mask, strict=True)
    return Prompt(text, len(encoding.ids), tuple(span for span, special in pairs if not special))


def fitting(tokenizer: Tokenizer, prompt: str, limit: int, *, field: str, concepts: Mapping[str, int] = NO_CONCEPTS) -> Prompt:
    """A prompt cut into tokens; prompt-too-long if the encoder does not take that many.

    `concepts` are words that the encoder has learned besides, which the tokenizer does not know, with their numbers of tokens.
    """
    found = tokenized(tokenizer, prompt)
    length = found.length if not concepts else tokenized(tokenizer, spelled_out(prompt, concepts)).length
    if length > limit:
        detail = f"`{field}` has {length} tokens with start and end marks; allowed: {limit}"
        raise ServiceError(Code.PROMPT_TOO_LONG, detail, field=field, value=prompt)
    return found


def spelled_out(prompt: str, concepts: Mapping[str, int]) -> str:
    """A prompt with a letter for each token of a concept."""
    for token, count in concepts.items():
        prompt = prompt.replace(token, " a" * count + " ")
    return prompt


def check_word(prompt: Prompt, word: str, occurrence: int | None = None, *, field: str) -> None:
    """Raise word-not-in-prompt, naming `field`, unless the word, or its n-th occurrence, is in the prompt and has a token."""
    try:
        places = occurrences_of(prompt.text, word, occurrence)
    except WordNotInPromptError as error:
        raise ServiceError(Code.WORD_NOT_IN_PROMPT, str(error), field=field, value=word) from error
    if not prompt.covers(places):
        detail = f"word {word!r} of prompt {prompt.text!r} has no token: the model does not know its characters"
        raise ServiceError(Code.WORD_NOT_IN_PROMPT, detail, field=field, value=word)


def sentence_of(*words: str) -> str:
    """A prompt for words that come without one: a sentence, which names things better than the words in a row."""
    return f"a photograph of {', '.join(f'a {word}' for word in words)}"
