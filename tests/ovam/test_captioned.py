"""PixArt and Sana: cross-attention to captions that are projected first, and, of Sana, linear attention among pixels."""

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.models.attention_processor import Attention
from peft import LoraConfig

import ovam
from ovam.attention.refinement import affinity, attention_received
from ovam.core.methods import Method
from ovam.core.selection import FeatureChoice
from ovam.errors import AttentionError, CaptureError, PromptTooLongError, UnsupportedModelError
from ovam.looking import looking
from ovam.tracing.captions import across_heads
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
def test_projections_that_were_fused_and_unfused_are_captured_as_before(name: str) -> None:
    _, traces, _ = drawn(name)
    pipeline = tiny_transformer(name)
    pipeline.transformer.fuse_qkv_projections()
    pipeline.transformer.unfuse_qkv_projections()
    with ovam.capture(pipeline, self_attention=True) as again:
        draw(pipeline, name, PROMPTS)
    for one, other in zip(traces[0].self_attention, again[0].self_attention, strict=True):
        assert torch.equal(one.queries, other.queries)
        assert torch.equal(one.keys, other.keys)


@pytest.mark.parametrize("name", KINDS)
def test_a_transformer_has_no_features_that_are_kept_and_no_hook_stays(name: str) -> None:
    pipeline = tiny_transformer(name)
    choice = FeatureChoice()
    for _ in range(2):
        with pytest.raises(UnsupportedModelError, match="no features that are kept"), ovam.capture(pipeline, features=choice):
            pass
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in pipeline.transformer.modules())


@pytest.mark.parametrize(
    ("name", "first", "places"),
    [
        ("pixart", "</s>", [(2, 3), (4, 7), (7, 8), (9, 10), (11, 14)]),
        ("sana", "<bos>", [(1, 3), (3, 7), (7, 8), (8, 10), (10, 14)]),
    ],
)
def test_tokens_are_those_of_the_prompt_as_it_was_given(name: str, first: str, places: list[tuple[int, int]]) -> None:
    _, tokens = ovam.encode(drawn(name)[0], "  A Cat, a dog ")  # which the model reads stripped, Sana behind an instruction
    assert [token.text for token in tokens] == [first, "A", "Cat", ",", "a", "dog"]
    assert [token.span for token in tokens] == [None, *places]


def traced(pipeline: Any, name: str) -> ovam.Trace:
    with ovam.capture(pipeline) as traces:
        draw(pipeline, name)
    return traces[0]


def test_keys_are_those_of_the_adapters_at_capture() -> None:
    pipeline = tiny_transformer("sana")
    text = torch.randn(4, 16, generator=torch.Generator().manual_seed(0))
    plain = traced(pipeline, "sana")
    expected = ovam.heatmaps(plain, text)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        pipeline.transformer.add_adapter(LoraConfig(r=2, target_modules=["attn2.to_k"], init_lora_weights=False), "style")
    adapted = traced(pipeline, "sana")
    found = ovam.heatmaps(adapted, text)
    assert not torch.allclose(found, expected, rtol=0.01)
    assert torch.equal(ovam.heatmaps(ovam.Trace.from_bytes(plain.to_bytes(), pipeline), text), expected)
    pipeline.transformer.disable_adapters()
    assert torch.equal(ovam.heatmaps(adapted, text), found)
    assert torch.equal(ovam.heatmaps(ovam.Trace.from_bytes(adapted.to_bytes(), pipeline), text), found)


def test_fused_projections_leave_the_same_trace() -> None:
    pipeline = tiny_transformer("pixart")
    text = torch.randn(4, 32, generator=torch.Generator().manual_seed(0))
    expected = ovam.heatmaps(traced(pipeline, "pixart"), text)
    pipeline.transformer.fuse_qkv_projections()
    again = ovam.Trace.from_bytes(traced(pipeline, "pixart").to_bytes(), pipeline)
    assert torch.allclose(ovam.heatmaps(again, text), expected, atol=1e-5)
    fused = pipeline.transformer.transformer_blocks[0].attn2
    with torch.no_grad():
        fused.to_kv.weight *= 2  # which the keys come from now
        block = traced(pipeline, "pixart").blocks[0]
        keys = fused.to_kv(pipeline.transformer.caption_projection(text))[:, :16]
    assert torch.allclose(block.keys(text).transpose(0, 1).flatten(1), keys, atol=1e-6)


def test_norms_of_single_heads_are_told_from_those_across_them() -> None:
    options = {"query_dim": 16, "cross_attention_dim": 16, "heads": 2, "dim_head": 8, "kv_heads": 2}
    norms = {"rms_norm": False, "rms_norm_across_heads": True, None: True}
    assert {norm: across_heads(Attention(**options, qk_norm=norm)) for norm in norms} == norms


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


def test_pixart_is_shown_a_latent_and_told_its_size_as_its_pipeline_does() -> None:
    pipeline = tiny_transformer("pixart", attention_head_dim=12, cross_attention_dim=24, use_additional_conditions=True)
    latent, told = torch.randn(1, 4, 8, 12, generator=torch.Generator().manual_seed(0)), []
    hook = pipeline.transformer.register_forward_hook(lambda *given: told.append(given[2:]), with_kwargs=True)
    with torch.no_grad():
        found = looking(pipeline, "a cat", (64, 96), both=False)(latent, 300)
    hook.remove()
    (given, (predicted,)) = told[0]
    assert torch.equal(found, predicted[:, :4])  # and no variance
    assert given["timestep"].tolist() == [300]
    facts = given["added_cond_kwargs"]
    assert (facts["resolution"].tolist(), facts["aspect_ratio"].tolist()) == ([[64, 96]], [[pytest.approx(64 / 96)]])


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
