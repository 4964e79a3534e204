"""Prompts that stand in a chat: FLUX.2 asks a language model about them, and its rows are the words of the whole chat."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ovam.core.words import Characters
from ovam.errors import InvalidArgumentError, PromptTooLongError
from ovam.tracing.model import Pipeline

MARK = "\ue000"  # a private character, which no template changes


@dataclass(frozen=True)
class Chat:
    """How a prompt is put into a chat, and the tokenizer that cuts that."""

    tokenizer: Any
    written: Callable[[str], str]
    """The chat with a prompt in it, as text."""
    marks: bool
    """Whether the tokenizer adds marks of its own to that text."""

    @property
    def before(self) -> str:
        """What comes before every prompt."""
        return self.written(MARK).partition(MARK)[0]

    def tokens(self, prompt: str, length: int) -> list[tuple[str, Characters | None, bool]]:
        """Return of each of `length` tokens the name, the characters of the prompt that it covers, and whether it is its own.

        Its own are the chat's first token, the prompt's, and what follows it: all but padding and what stands before.
        Raises `PromptTooLongError`; `InvalidArgumentError` for a prompt that the chat does not hold as it is.
        """
        text, start = self.written(prompt), len(self.before)
        stop = start + len(prompt)
        if text[start:stop] != prompt:
            raise InvalidArgumentError("prompt", prompt, "text that the chat's template leaves as it is")
        found = self.tokenizer(
            text,
            padding="max_length",
            max_length=length,
            add_special_tokens=self.marks,
            return_offsets_mapping=True,
            verbose=False,
        )
        if len(found.input_ids) > length:
            raise PromptTooLongError(f"prompt {prompt!r} has {len(found.input_ids)} tokens with its chat; allowed: {length}")
        first = found.attention_mask.index(1)
        names = self.tokenizer.convert_ids_to_tokens(found.input_ids)
        return [
            (name, _within(span, start, stop), bool(there) and (number == first or span[1] > start))
            for number, (name, span, there) in enumerate(zip(names, found.offset_mapping, found.attention_mask, strict=True))
        ]


def chat_of(pipeline: Pipeline) -> Chat:
    """Return how a pipeline of FLUX.2 puts prompts into a chat."""
    tokenizer = getattr(pipeline.tokenizer, "tokenizer", pipeline.tokenizer)  # a processor has one
    system = getattr(pipeline, "system_message", None)  # Klein has none
    apply = pipeline.tokenizer.apply_chat_template

    def written(prompt: str) -> str:
        if system is None:
            chat: list[dict[str, Any]] = [{"role": "user", "content": prompt}]
            return apply(chat, tokenize=False, add_generation_prompt=True, enable_thinking=False)
        parts = {"system": system, "user": prompt.replace("[IMG]", "")}  # as the pipeline does
        chat = [{"role": role, "content": [{"type": "text", "text": text}]} for role, text in parts.items()]
        return apply(chat, tokenize=False, add_generation_prompt=False)

    return Chat(tokenizer, written, marks=system is None)


def _within(span: Characters, start: int, stop: int) -> Characters | None:
    """Return a token's characters in the prompt that stands from `start` to `stop`; `None` for one of the chat's own."""
    left, right = max(span[0], start) - start, min(span[1], stop) - start
    return (left, right) if left < right else None
