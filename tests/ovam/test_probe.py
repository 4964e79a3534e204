"""A place's words are ranked by the very maps that heatmaps gives."""

from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from hypothesis import given
from hypothesis import strategies as some

import ovam
from ovam.attention.probe import RankedWord, ranked, words_of
from ovam.errors import InvalidArgumentError, PromptTooLongError, WordNotInPromptError

PROMPT = "a cat and a dog on a tree"
WHOLE = (0, 0, 96, 64)


def by_word(found: tuple[RankedWord, ...]) -> dict[str, RankedWord]:
    return {one.word: one for one in found}


def test_a_words_attention_is_its_heatmap_at_the_place(trace: ovam.Trace, pipeline: StableDiffusionPipeline) -> None:
    box = (10, 20, 7, 5)
    found = by_word(ovam.rank_words(trace, pipeline, PROMPT, ["cat", "a dog"], box=box))
    for word, one in found.items():
        heat = ovam.word_heatmap(trace, pipeline, PROMPT, word, size=(64, 96)).double()
        here, everywhere = float(heat[20:25, 10:17].mean()), float(heat.mean())
        assert one.attention == pytest.approx(here, rel=1e-5)
        assert one.gain == pytest.approx(here - everywhere, abs=1e-6)
        assert one.lift == pytest.approx(here / everywhere, rel=1e-5)
    assert sum(one.fraction for one in found.values()) == pytest.approx(1)


def test_words_come_by_falling_gain(trace: ovam.Trace, pipeline: StableDiffusionPipeline) -> None:
    found = ovam.rank_words(trace, pipeline, PROMPT, box=(3, 60, 1, 1))
    gains = [one.gain for one in found]
    assert gains == sorted(gains, reverse=True)
    assert gains[0] > 0 > gains[-1]
    assert {one.word for one in found} == {"a", "cat", "and", "dog", "on", "tree"}


def test_the_whole_image_gains_nothing(trace: ovam.Trace, pipeline: StableDiffusionPipeline) -> None:
    found = ovam.rank_words(trace, pipeline, PROMPT, ["cat", "dog", "tree"], box=WHOLE)
    assert [(one.gain, one.lift) for one in found] == [(0, 1)] * 3
    assert [one.attention for one in found] == sorted((one.attention for one in found), reverse=True)


CHOICES: list[dict[str, Any]] = [{"blocks": "up"}, {"evaluations": -1}, {"heads": 0}, {"padding": "max_length"}]


@pytest.mark.parametrize("choice", CHOICES)
def test_choices_are_those_of_heatmaps(trace: ovam.Trace, pipeline: StableDiffusionPipeline, choice: dict[str, Any]) -> None:
    (one,) = ovam.rank_words(trace, pipeline, PROMPT, ["cat"], box=(0, 0, 96, 32), **choice)
    heat = ovam.word_heatmap(trace, pipeline, PROMPT, "cat", size=(64, 96), **choice)
    assert one.attention == pytest.approx(float(heat[:32].mean()), rel=1e-5)


@given(some.permutations(range(4)))
def test_the_order_of_the_words_does_not_matter(order: list[int]) -> None:
    maps = torch.rand(4, 6, 8, generator=torch.Generator().manual_seed(0))
    words = ["north", "east", "south", "west"]
    assert ranked([words[k] for k in order], maps[order], (2, 1, 3, 2)) == ranked(words, maps, (2, 1, 3, 2))


def test_a_word_that_is_hot_here_alone_goes_before_one_that_is_hot_everywhere() -> None:
    maps = torch.from_numpy(np.stack([np.full((4, 4), 0.8), np.full((4, 4), 0.1)])).float()
    maps[1, 2, 3] = 0.5
    first, second = ranked(["the", "cat"], maps, (3, 2, 1, 1))
    assert (first.word, second.word) == ("cat", "the")
    assert second.fraction > first.fraction


def test_words_of_a_prompt_come_once_in_their_order() -> None:
    assert words_of("A cat, the cat & a hat_2 cafe\u0301!") == ["A", "cat", "the", "hat", "2", "café"]


@pytest.mark.parametrize("box", [(0, 0, 97, 1), (0, 0, 1, 65), (96, 0, 1, 1), (0, 64, 1, 1), (-1, 0, 2, 2), (0, 0, 0, 5)])
def test_a_place_outside_of_the_image_is_refused(
    trace: ovam.Trace, pipeline: StableDiffusionPipeline, box: tuple[int, int, int, int]
) -> None:
    with pytest.raises(InvalidArgumentError, match="inside of 96 x 64 pixels"):
        ovam.rank_words(trace, pipeline, PROMPT, box=box)


def test_words_that_are_not_there_and_prompts_too_long_are_refused(trace: ovam.Trace, pipeline: StableDiffusionPipeline) -> None:
    with pytest.raises(WordNotInPromptError, match="'hat'"):
        ovam.rank_words(trace, pipeline, PROMPT, ["cat", "hat"], box=WHOLE)
    with pytest.raises(WordNotInPromptError, match="no word"):
        ovam.rank_words(trace, pipeline, "...", box=WHOLE)
    with pytest.raises(PromptTooLongError):
        ovam.rank_words(trace, pipeline, "cat " * 80, box=WHOLE)
