"""PixArt and Sana: cross-attention to captions that are projected first, and, of Sana, linear attention among pixels."""

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

import ovam
from ovam.attention.refinement import affinity, attention_received
from ovam.core.methods import Method
from ovam.errors import AttentionError, CaptureError, PromptTooLongError
from tests.diffusion_transformers import KINDS, draw, tiny_transformer

# diffusers' multistep solver meets a newer NumPy
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning:diffusers")

CROSS = [name for name, kind in KINDS.items() if not kind.joint]
every_cross = pytest.mark.parametrize("name", CROSS)
PROMPTS = ["a cat and a dog", "a tree"]


@cache
def drawn(name: str) -> tuple[Any, list[ovam.Trace], list[ovam.Replay]]:
    """A pipeline, and its traces and replays of two images."""
    pipeline = tiny_transformer(name)
    with ovam.capture(pipeline, self_attention=True) as traces, ovam.capture_replay(pipeline) as replays:
        draw(pipeline, name, PROMPTS)
    return pipeline, traces, replays


@every_cross
def test_words_are_found_and_tokens_are_learned(name: str) -> None:
    pipeline, traces, replays = drawn(name)
    image = np.zeros((64, 96, 3), np.uint8)
    found = ovam.segment(traces[0], pipeline, ["Dog", ovam.Words("  A Monkey on a tree", "monkey")], "ovam", image)
    assert all(one.heatmap.shape == (64, 96) and 0 < one.score <= 1 for one in found)
    again = ovam.Trace.from_bytes(traces[0].to_bytes(), pipeline)
    assert np.array_equal(ovam.segment(again, pipeline, "Dog", "ovam", image).heatmap, found[0].heatmap)
    replayed = replays[0].trace(pipeline, self_attention=True)
    assert np.allclose(ovam.segment(replayed, pipeline, "Dog", "ovam", image).heatmap, found[0].heatmap, rtol=1e-3)
    fit = ovam.optimize_tokens([(traces[0], np.eye(64, 96) > 0)], "dog", pipeline=pipeline, optimizer="adam", epochs=4)
    assert fit.best_loss < fit.losses[0]
    assert fit.tokens.family == name


def test_linear_attention_is_that_of_its_matrix() -> None:
    _, traces, _ = drawn("sana")
    (layer,) = traces[0].self_attention
    assert layer.linear
    products = layer.queries.double().relu() @ layer.keys.double().relu().transpose(-1, -2)
    sums = products.sum(dim=-1, keepdim=True)
    matrix = torch.where(sums > 0, products / sums.clamp(min=1e-15), torch.eye(sums.shape[-2], dtype=sums.dtype)).mean(dim=(0, 1))
    heat = torch.rand(2, *layer.grid, generator=torch.Generator().manual_seed(0))
    expected = (heat.double().flatten(1) @ matrix.T).unflatten(1, layer.grid)
    assert torch.allclose(affinity(heat, [layer]).double(), expected, rtol=1e-4)
    received = matrix.sum(dim=0).unflatten(0, layer.grid)
    assert torch.allclose(attention_received([layer]).double(), received, rtol=1e-4)


@every_cross
def test_what_it_cannot_do_is_refused_with_the_reason(name: str) -> None:
    pipeline, traces, _ = drawn(name)
    with pytest.raises(AttentionError, match=f"for {name}: cross"):
        ovam.segment(traces[0], pipeline, "cat", Method(attention="concept"))
    with pytest.raises(PromptTooLongError):
        ovam.encode(pipeline, "cat " * 400)
    if name == "sana":  # the other one is too small for any bin
        with pytest.raises(CaptureError, match="use_resolution_binning"), ovam.capture(pipeline):
            draw(pipeline, name, use_resolution_binning=True)
