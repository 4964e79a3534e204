"""PixArt and Sana: cross-attention to captions that are projected first, and, of Sana, linear attention among pixels."""

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import ovam
from ovam.attention.refinement import affinity, attention_received
from ovam.core.methods import Method
from ovam.errors import AttentionError, CaptureError, PromptTooLongError
from tests.diffusion_transformers import KINDS, draw, tiny_transformer
from tests.ovam.joint_reference import heads, linear

# diffusers' multistep solver meets a newer NumPy
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning:diffusers")

CROSS = [name for name, kind in KINDS.items() if not kind.joint]
every_cross = pytest.mark.parametrize("name", CROSS)
PROMPTS = ["a cat and a dog", "a tree"]


def across(norm: Any, states: Tensor) -> Tensor:
    """Root mean square over all channels."""
    if norm is None:
        return states
    return states / (states.pow(2).mean(dim=-1, keepdim=True) + norm.eps).sqrt() * norm.weight.double()


@cache
def drawn(name: str) -> tuple[Any, list[ovam.Trace], list[ovam.Replay], dict[str, list[Tensor]], Tensor]:
    """A pipeline, its traces and replays of two images, and the attention of the generation, in double precision."""
    pipeline = tiny_transformer(name)
    seen: dict[str, list[Tensor]] = {}
    hooks = []
    for number, block in enumerate(pipeline.transformer.transformer_blocks):

        def hook(attention: Any, args: Any, options: Any, _output: Any, path: str = f"transformer_blocks.{number}.attn2") -> None:
            states, words, mask = args[0], options["encoder_hidden_states"], options["attention_mask"]
            with torch.no_grad():
                for row in range(2, 4):
                    queries = heads(attention, across(attention.norm_q, linear(attention.to_q, states[row])))
                    keys = heads(attention, across(attention.norm_k, linear(attention.to_k, words[row])))
                    scores = queries @ keys.transpose(-1, -2) / queries.shape[-1] ** 0.5 + mask[row].double()
                    seen.setdefault(f"{path}/{row - 2}", []).append(scores.softmax(dim=-1))

        hooks.append(block.attn2.register_forward_hook(hook, with_kwargs=True))
    with ovam.capture(pipeline, self_attention=True) as traces, ovam.capture_replay(pipeline) as replays:
        latents = draw(pipeline, name, PROMPTS)
    for one in hooks:
        one.remove()
    return pipeline, traces, replays, seen, latents


@every_cross
def test_maps_of_the_prompt_are_the_attention_of_the_generation(name: str) -> None:
    pipeline, traces, _, seen, latents = drawn(name)
    assert torch.equal(draw(pipeline, name, PROMPTS), latents)
    embedding, tokens = ovam.encode(pipeline, PROMPTS[0], padding="max_length")
    for block in traces[0].blocks:
        found = ovam.heatmaps(traces[0], embedding, reduction="sum", blocks=block.name).flatten(1).double()
        exact = sum(each.sum(dim=0) for each in seen[f"{block.name}/0"]).T
        kept = exact[exact.sum(dim=1) > 0]  # the model masks padding
        own = [*kept[len(tokens) - 1 :], *kept[: len(tokens) - 1]] if tokens[0].text == "</s>" else [*kept]
        expected = torch.stack(own)
        assert float(((found - expected).abs() / expected).max()) < 1e-4
    assert traces[0].image_size == (64, 96)


@every_cross
def test_words_are_found_and_tokens_are_learned(name: str) -> None:
    pipeline, traces, replays, _, _ = drawn(name)
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
    _, traces, _, _, _ = drawn("sana")
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
    pipeline, traces, _, _, _ = drawn(name)
    with pytest.raises(AttentionError, match=f"for {name}: cross"):
        ovam.segment(traces[0], pipeline, "cat", Method(attention="concept"))
    with pytest.raises(PromptTooLongError):
        ovam.encode(pipeline, "cat " * 400)
    if name == "sana":  # the other one is too small for any bin
        with pytest.raises(CaptureError, match="use_resolution_binning"), ovam.capture(pipeline):
            draw(pipeline, name, use_resolution_binning=True)
