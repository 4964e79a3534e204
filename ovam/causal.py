"""What does a word do? The image is generated again, and from some evaluation on the UNet is not given the word."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ovam.attention.text import require_short
from ovam.core.selection import Span, select_positions
from ovam.core.words import normalized, spans_of
from ovam.errors import CaptureError
from ovam.tracing.keys import place_of
from ovam.tracing.model import Pipeline, calling_pipeline, plain_unet, require_known, require_uncompiled

Start = int | float
"""A position, or a fraction of the way."""
CLOSE = 1e-3  # of its largest number: as far as an encoder of several prompts at a time rounds differently


@contextmanager
def left_out(
    pipeline: Pipeline, prompt: str, word: str, *, instead: str = "", start: Start = 0.5, clip_skip: int | None = None
) -> Iterator[str]:
    """Generate `prompt` inside the `with` as if a word left it halfway. Yields the prompt without it, see `without`.

    Up to evaluation `start` the UNet gets the prompt as it is, from there on the other one's embedding: a position from 0
    (negative: from the end), or a fraction of the way. With the seed, scheduler and steps of another generation of `prompt`, what
    differs is what the word did in these evaluations. A word that is not in the prompt changes nothing.

    Raises `CaptureError` when images were generated, and none with `prompt`'s own embedding; `PromptTooLongError`,
    `SelectionError`, and what `capture` raises for a pipeline.

    >>> with left_out(pipeline, "a cat and a dog", "dog") as prompt:
    ...     image = pipeline("a cat and a dog", num_inference_steps=2).images[0]
    >>> prompt
    'a cat and a'
    """
    text = without(prompt, word, instead)
    require_known(pipeline)
    require_uncompiled(pipeline)
    require_short(pipeline, text)
    if text == normalized(prompt):
        yield text
        return
    swap = _Swap(pipeline, _conditions(pipeline, prompt, clip_skip), _conditions(pipeline, text, clip_skip), start)
    handle = plain_unet(pipeline).register_forward_pre_hook(swap.before, with_kwargs=True)
    try:
        yield text
    finally:
        handle.remove()
    if swap.passed and not swap.changed:
        raise CaptureError(f"no image was generated with the embedding of prompt {prompt!r}, in which a word is to be left out")


def without(prompt: str, word: str, instead: str = "") -> str:
    """Return a prompt with every occurrence of a word left out, or replaced.

    >>> without("a cat and a Cat on a mat", "cat"), without("a cat", "cat", "dog"), without("a scarf", "car")
    ('a and a on a mat', 'a dog', 'a scarf')
    """
    text = normalized(prompt)
    spans = spans_of(text, word)
    for first, last in reversed(spans):
        text = text[:first] + normalized(instead) + text[last:]
    return " ".join(text.split()) if spans else text


class _Swap:
    """A hook that gives the UNet another prompt's conditions, from some evaluation of the pipeline's call on."""

    def __init__(self, pipeline: Pipeline, old: Mapping[str, Tensor], new: Mapping[str, Tensor], start: Start) -> None:
        self.pipeline, self.old, self.new, self.start = pipeline, old, new, start
        self.schedule: Tensor | None = None
        self.count = self.passed = self.changed = 0
        """Evaluations of the running call; and of all calls, those left alone and those changed."""

    def before(self, _unet: nn.Module, args: tuple[Any, ...], options: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Change the rows of the prompt, if it is their turn."""
        states = options.get("encoder_hidden_states")
        caller, _ = calling_pipeline()
        if caller is not self.pipeline or states is None:  # another thread's: the UNet is shared
            return args, options
        rows = close_rows(states, self.old["states"])
        if not rows.any() or not self._turn():
            self.passed += 1
            return args, options
        self.changed += 1
        options = options | {"encoder_hidden_states": torch.where(rows[:, None, None], self.new["states"].to(states), states)}
        if "pooled" in self.old:
            added = options["added_cond_kwargs"]
            pooled = torch.where(rows[:, None], self.new["pooled"].to(states), added["text_embeds"])
            options["added_cond_kwargs"] = added | {"text_embeds": pooled}
        return args, options

    def _turn(self) -> bool:
        """Count an evaluation, and say whether the word is left out of it."""
        if self.schedule is not self.pipeline.scheduler.timesteps:
            self.schedule, self.count = self.pipeline.scheduler.timesteps, 0
        self.count += 1
        return self.count - 1 in select_positions(Span(self.start, None), self.pipeline.num_timesteps, "evaluations")


def close_rows(states: Tensor, wanted: Tensor) -> Tensor:
    """Say which rows of a batch (rows, tokens, width) are an embedding (1, tokens, width)."""
    if states.shape[1:] != wanted.shape[1:]:
        return torch.zeros(len(states), dtype=torch.bool, device=states.device)
    off = (states.float() - wanted.to(states.device).float()).abs().amax(dim=(1, 2))
    return off <= CLOSE * wanted.abs().max().to(off)


def _conditions(pipeline: Pipeline, prompt: str, clip_skip: int | None) -> dict[str, Tensor]:
    """Return what a pipeline gives its UNet for a prompt: its embedding, and for SDXL the pooled one."""
    place = place_of(plain_unet(pipeline))
    with torch.no_grad():
        found = pipeline.encode_prompt(
            prompt=prompt, device=place, num_images_per_prompt=1, do_classifier_free_guidance=False, clip_skip=clip_skip
        )
    return {"states": found[0], **({"pooled": found[2]} if len(found) == 4 else {})}
