"""A word that is left out: what the UNet gets then, from when on, and what it does to the image."""

from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline

import ovam
from ovam.causal import Start, left_out, without
from ovam.errors import CaptureError, PromptTooLongError, SelectionError
from tests.families import tiny_family
from tests.pipelines import tiny_pipeline

PROMPT = "a cat and a dog"
STEPS = 4


def drawn(pipeline: Any, prompt: str = PROMPT) -> np.ndarray:
    options = {"num_inference_steps": STEPS, "guidance_scale": 3.0, "height": 64, "width": 96, "output_type": "np"}
    return pipeline(prompt, generator=torch.Generator().manual_seed(3), **options).images[0]


@pytest.fixture(scope="module", params=["sd1", "sdxl"])
def pipeline(request: pytest.FixtureRequest) -> Any:
    return tiny_family(request.param)


def test_from_the_first_evaluation_on_it_is_the_image_of_the_prompt_without_the_word(pipeline: Any) -> None:
    with left_out(pipeline, PROMPT, "dog", start=0) as prompt:
        image = drawn(pipeline)
    assert prompt == "a cat and a"
    assert (image == drawn(pipeline, prompt)).all()
    with left_out(pipeline, PROMPT, "dog", instead="tree", start=0):
        assert (drawn(pipeline) == drawn(pipeline, "a cat and a tree")).all()


def test_a_word_that_is_not_there_changes_nothing_and_nothing_stays_changed(pipeline: Any) -> None:
    before = drawn(pipeline)
    with left_out(pipeline, PROMPT, "tree", start=0) as prompt:
        assert (drawn(pipeline) == before).all()
    assert prompt == PROMPT
    with left_out(pipeline, PROMPT, "dog"):
        assert (drawn(pipeline) != before).any()
        assert (drawn(pipeline) != before).any()  # a further call begins again
    assert (drawn(pipeline) == before).all()


@pytest.mark.parametrize(("start", "first"), [(0.5, 2), (1, 1), (-1, 3)])
def test_evaluations_before_are_as_they_were_bitwise(start: Start, first: int) -> None:
    pipeline = tiny_pipeline()
    with ovam.capture(pipeline) as traces:
        drawn(pipeline)
        with left_out(pipeline, PROMPT, "dog", start=start):
            drawn(pipeline)
    before, after = (trace.blocks[-1].queries for trace in traces)
    same = [bool((one == other).all()) for one, other in zip(before, after, strict=True)]
    assert same[:first] == [True] * first
    assert not any(same[first + 1 :])


def test_what_cannot_be_left_out_is_refused() -> None:
    pipeline = tiny_pipeline()
    with pytest.raises(CaptureError, match="'a cat and a dog'"), left_out(pipeline, PROMPT, "dog"):
        drawn(pipeline, "a tree")
    with pytest.raises(SelectionError), left_out(pipeline, PROMPT, "dog", start=STEPS):
        drawn(pipeline)
    with pytest.raises(PromptTooLongError), left_out(pipeline, PROMPT, "dog", instead="cat " * 80):
        drawn(pipeline)
    assert not pipeline.unet._forward_pre_hooks
    assert without("猫 und Katze", "katze") == "猫 und"
    assert without("a cat and a Cat on a mat", "cat", "monkey") == "a monkey and a monkey on a mat"


def test_what_another_pipeline_draws_with_the_same_unet_is_left_alone() -> None:
    pipeline = tiny_pipeline()
    other = StableDiffusionPipeline(**pipeline.components, requires_safety_checker=False)
    other.set_progress_bar_config(disable=True)
    before = drawn(other)
    with left_out(pipeline, PROMPT, "dog", start=0):
        assert (drawn(other) == before).all()
        assert (drawn(pipeline) != before).any()
    with left_out(pipeline, PROMPT, "tree"):
        assert not pipeline.unet._forward_pre_hooks
