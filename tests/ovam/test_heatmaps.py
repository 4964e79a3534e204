"""Heatmaps obey the laws of a softmax that is added up."""

import dataclasses

import pytest
import torch
from diffusers import StableDiffusionPipeline
from torch.nn.functional import interpolate

import ovam
from ovam.attention.sums import attention_sum
from ovam.errors import InvalidArgumentError, SelectionError


def embedding_of(pipeline: StableDiffusionPipeline, prompt: str = "a cat on a tree") -> torch.Tensor:
    return ovam.encode(pipeline, prompt)[0]


def test_mean_maps_lie_in_0_to_1_and_sum_to_1_over_the_tokens(pipeline: StableDiffusionPipeline, trace: ovam.Trace) -> None:
    maps = ovam.heatmaps(trace, embedding_of(pipeline), size=(64, 96))
    assert maps.shape == (7, 64, 96)
    assert float(maps.min()) >= 0
    assert torch.allclose(maps.sum(dim=0), torch.ones(64, 96), atol=1e-5)


def test_the_sum_is_the_mean_times_the_number_of_terms(pipeline: StableDiffusionPipeline, trace: ovam.Trace) -> None:
    embedding = embedding_of(pipeline)
    terms = 3 * sum(block.heads for block in trace.blocks)
    total, mean = ovam.heatmaps(trace, embedding, reduction="sum"), ovam.heatmaps(trace, embedding)
    assert torch.allclose(total, mean * terms, rtol=1e-5)


def test_maps_have_the_largest_blocks_grid_or_the_size_asked_for(pipeline: StableDiffusionPipeline, trace: ovam.Trace) -> None:
    embedding = embedding_of(pipeline)
    native = ovam.heatmaps(trace, embedding)
    assert native.shape[1:] == (8, 12)
    assert ovam.heatmaps(trace, embedding, blocks=6).shape[1:] == (4, 6)
    larger = interpolate(native[None], size=(64, 96), mode="bilinear", align_corners=False)[0]
    assert torch.allclose(ovam.heatmaps(trace, embedding, size=(64, 96)), larger, atol=1e-6)


def test_the_sum_of_parts_is_the_whole(pipeline: StableDiffusionPipeline, trace: ovam.Trace) -> None:
    embedding = embedding_of(pipeline)
    whole = ovam.heatmaps(trace, embedding, reduction="sum", size=(8, 12))
    by_block = sum(ovam.heatmaps(trace, embedding, reduction="sum", size=(8, 12), blocks=block.name) for block in trace.blocks)
    by_evaluation = sum(ovam.heatmaps(trace, embedding, reduction="sum", evaluations=index) for index in range(3))
    by_position = sum(ovam.heatmaps(trace, embedding, reduction="sum", blocks=part) for part in ("down", "up"))
    for parts in (by_block, by_evaluation, by_position):
        assert torch.allclose(whole, parts, rtol=1e-4)


def test_the_sum_over_heads_is_the_whole_block(pipeline: StableDiffusionPipeline, trace: ovam.Trace) -> None:
    embedding = embedding_of(pipeline)
    whole = ovam.heatmaps(trace, embedding, reduction="sum", blocks=12)
    heads = [ovam.heatmaps(trace, embedding, reduction="sum", blocks=12, heads=head) for head in range(2)]
    assert torch.allclose(whole, sum(heads), rtol=1e-4)


def test_blocks_chosen_by_several_resolutions_are_their_union(pipeline: StableDiffusionPipeline, trace: ovam.Trace) -> None:
    embedding = embedding_of(pipeline)
    names = [block.name for block in trace.blocks if block.grid != (2, 3)]
    assert torch.equal(ovam.heatmaps(trace, embedding, blocks=[12, 6]), ovam.heatmaps(trace, embedding, blocks=names))


@pytest.mark.parametrize(
    "choice", [{"blocks": 64}, {"blocks": "side"}, {"evaluations": 3}, {"evaluations": slice(5, 9)}, {"heads": [0, 2]}]
)
def test_a_choice_outside_of_the_trace_is_refused(
    pipeline: StableDiffusionPipeline, trace: ovam.Trace, choice: dict[str, object]
) -> None:
    with pytest.raises(SelectionError):
        ovam.heatmaps(trace, embedding_of(pipeline), **choice)


def test_two_tokens_are_a_sigmoid_and_agree_with_the_softmax(trace: ovam.Trace) -> None:
    for block in trace.blocks:
        keys = block.keys(torch.randn(2, 32, generator=torch.Generator().manual_seed(0))).detach()
        expected = (keys @ block.queries.transpose(-1, -2)).softmax(dim=-2).sum(dim=(0, 1))
        assert torch.allclose(attention_sum(block.queries, keys), expected, atol=1e-4)


def test_one_token_takes_all_attention(trace: ovam.Trace) -> None:
    assert torch.allclose(ovam.heatmaps(trace, torch.zeros(1, 32)), torch.ones(1, 8, 12))


def test_the_order_of_the_tokens_is_the_order_of_the_maps(pipeline: StableDiffusionPipeline, trace: ovam.Trace) -> None:
    embedding = embedding_of(pipeline)
    maps, turned = ovam.heatmaps(trace, embedding), ovam.heatmaps(trace, embedding.flip(0))
    assert torch.allclose(maps, turned.flip(0), rtol=1e-4)


def test_a_words_map_is_the_mean_of_its_tokens_maps(pipeline: StableDiffusionPipeline, trace: ovam.Trace) -> None:
    prompt = "a monkey on a monkey"
    maps = ovam.heatmaps(trace, embedding_of(pipeline, prompt))
    both = ovam.word_heatmap(trace, pipeline, prompt, "monkey")
    second = ovam.word_heatmap(trace, pipeline, prompt, "monkey", occurrence=1)
    assert torch.allclose(both, maps[[2, 3, 4, 5, 6, 9, 10, 11, 12, 13]].mean(dim=0))
    assert torch.allclose(second, maps[9:14].mean(dim=0))


def test_padding_is_a_choice_that_matters(pipeline: StableDiffusionPipeline, trace: ovam.Trace) -> None:
    own = ovam.word_heatmap(trace, pipeline, "a cat", "cat", padding="none", size=(64, 96))
    padded = ovam.word_heatmap(trace, pipeline, "a cat", "cat", padding="max_length", size=(64, 96))
    assert own.shape == padded.shape == (64, 96)
    assert float(own.mean()) > 2 * float(padded.mean())


def test_the_gradient_agrees_with_finite_differences(trace: ovam.Trace) -> None:
    double = [
        dataclasses.replace(
            block, queries=block.queries.double(), to_k=torch.nn.Linear(32, keys, bias=False).double(), fingerprint=None
        )
        for block, keys in ((block, block.to_k.out_features) for block in trace.blocks)
    ]
    exact = dataclasses.replace(trace, blocks=tuple(double[::4]))
    for tokens in (2, 3):
        start = torch.randn(tokens, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
        assert torch.autograd.gradcheck(lambda x: ovam.heatmaps(exact, x, evaluations=[0, 2])[:, ::3, ::4], (start,))


def test_no_graph_is_kept_for_an_embedding_that_asks_for_none(pipeline: StableDiffusionPipeline, trace: ovam.Trace) -> None:
    embedding = embedding_of(pipeline)
    assert not ovam.heatmaps(trace, embedding).requires_grad
    embedding.requires_grad_()
    assert ovam.heatmaps(trace, embedding).requires_grad
    with torch.no_grad():
        assert not ovam.heatmaps(trace, embedding).requires_grad


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_queries_give_nearly_the_same_maps(
    pipeline: StableDiffusionPipeline, trace: ovam.Trace, dtype: torch.dtype
) -> None:
    embedding = embedding_of(pipeline)
    maps = ovam.heatmaps(trace.to(dtype=dtype), embedding)
    assert maps.dtype == torch.float32
    assert torch.allclose(maps, ovam.heatmaps(trace, embedding), atol=1e-2)


def test_an_embedding_of_another_width_is_refused(trace: ovam.Trace) -> None:
    with pytest.raises(InvalidArgumentError, match=r"embedding is \(2, 31\); allowed: .*32"):
        ovam.heatmaps(trace, torch.zeros(2, 31))
    with pytest.raises(InvalidArgumentError, match=r"embedding is \(0, 32\); allowed: \(1 or more tokens, 32\)"):
        ovam.heatmaps(trace, torch.zeros(0, 32))
    with pytest.raises(InvalidArgumentError, match="size"):
        ovam.heatmaps(trace, torch.zeros(2, 32), size=(0, 5))
