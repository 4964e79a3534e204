"""Many targets at once are what each is alone, however few times the trace is read for them."""

import dataclasses

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from hypothesis import given
from hypothesis import strategies as st

import ovam
from ovam.attention.heatmaps import split_heatmaps
from ovam.attention.targets import _together, rows_of, split_target_heatmaps, target_heatmaps
from ovam.attention.text import encode_each
from ovam.core.selection import Span
from ovam.errors import EmbeddingNotFiniteError, InvalidArgumentError, PromptTooLongError, SelectionError, WordNotInPromptError
from tests.families import FAMILIES, tiny_family
from tests.ovam.test_reference import noise, small_trace

DAAM, PADDED = ovam.Method(), ovam.Method(padding="max_length")
PROMPTS = ["a cat", "a cat on a tree", "a photograph of a monkey with a hat", "the dog", "", "a car in the mouth of a dog"]


def alone(trace: ovam.Trace, target: ovam.Rows, method: ovam.Method) -> torch.Tensor:
    maps = ovam.heatmaps(
        trace,
        target.embedding,
        reduction=method.reduction,
        blocks=method.blocks,
        evaluations=method.evaluations,
        heads=method.heads,
    )
    return maps[list(target.chosen)].mean(dim=0)


def assert_same_as_alone(trace: ovam.Trace, targets: list[ovam.Rows], methods: list[ovam.Method], rtol: float = 1e-4) -> None:
    for found, target, method in zip(target_heatmaps(trace, targets, methods), targets, methods, strict=True):
        assert torch.allclose(found, alone(trace, target, method), rtol=rtol, atol=1e-7)


@pytest.mark.parametrize("padding", ["none", "max_length"])
@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl"])
def test_prompts_encoded_together_are_what_each_is_alone(family: str, padding: str) -> None:
    """Padding on the right reaches no earlier token, because the encoders are causal."""
    assert family in FAMILIES
    pipeline = tiny_family(family)
    for prompt, (embedding, tokens) in zip(PROMPTS, encode_each(pipeline, PROMPTS, padding=padding), strict=True):
        expected, same = ovam.encode(pipeline, prompt, padding=padding)
        assert tokens == same
        assert torch.allclose(embedding, expected, atol=2e-6)


def test_a_prompt_among_several_that_is_too_long_is_named(pipeline: StableDiffusionPipeline) -> None:
    with pytest.raises(PromptTooLongError, match=r"'cat cat .*78 tokens"):
        encode_each(pipeline, ["a cat", "cat " * 76])


def test_words_of_many_prompts_are_found_as_one_by_one(pipeline: StableDiffusionPipeline, trace: ovam.Trace) -> None:
    targets = [
        ovam.Words("a cat on a tree", "cat"),
        ovam.Words("a cat on a tree", "tree"),
        ovam.Words("a monkey and a monkey", "monkey"),
        ovam.Words("a monkey and a monkey", "monkey", 1),
        ovam.Words("a photograph of a dog", "photograph of a dog"),
    ]
    rows = rows_of(pipeline, targets, [DAAM] * len(targets))
    found = target_heatmaps(trace, rows, [DAAM] * len(targets))
    for target, heat in zip(targets, found, strict=True):
        expected = ovam.word_heatmap(trace, pipeline, target.prompt, target.word or "", occurrence=target.occurrence)
        assert torch.allclose(heat, expected, rtol=1e-4)


def test_a_methods_heatmap_is_made_with_all_its_choices(pipeline: StableDiffusionPipeline, trace: ovam.Trace) -> None:
    choices = {"padding": "max_length", "reduction": "sum", "blocks": [12, "up"], "evaluations": Span(1), "heads": 0}
    methods = [ovam.Method(**choices)]
    (found,) = target_heatmaps(trace, rows_of(pipeline, [ovam.Words("a cat on a tree", "tree")], methods), methods)
    assert torch.allclose(found, ovam.word_heatmap(trace, pipeline, "a cat on a tree", "tree", **choices), rtol=1e-4)


def test_a_trace_in_double_precision_is_attended_to_in_double(trace: ovam.Trace) -> None:
    exact = dataclasses.replace(
        trace,
        blocks=tuple(
            dataclasses.replace(
                block,
                queries=block.queries.double(),
                to_k=torch.nn.Linear(32, block.to_k.out_features).double(),
                fingerprint=None,
            )
            for block in trace.blocks
        ),
    )
    target = ovam.Rows(noise(3, 32).double())
    (found,) = target_heatmaps(exact, [target], [DAAM])
    assert found.dtype == torch.float64
    assert torch.allclose(found, alone(exact, target, DAAM), rtol=1e-10)


def test_without_a_word_all_words_of_the_prompt_count(pipeline: StableDiffusionPipeline) -> None:
    (rows,) = rows_of(pipeline, [ovam.Words("a monkey")], [PADDED])
    assert rows.chosen == (1, 2, 3, 4, 5, 6)
    assert rows.embedding.shape == (77, 32)


def test_a_prompt_of_two_targets_is_encoded_once(pipeline: StableDiffusionPipeline) -> None:
    words = [ovam.Words("a cat on a tree", "cat"), ovam.Words("a dog"), ovam.Words("a cat on a tree", "tree")]
    first, _, third = rows_of(pipeline, words, [DAAM] * 3)
    assert first.embedding is third.embedding
    padded, own = rows_of(pipeline, words[::2], [PADDED, DAAM])
    assert (len(padded.embedding), len(own.embedding)) == (77, 7)
    with pytest.raises(WordNotInPromptError, match="'hat' is not in prompt 'a dog'"):
        rows_of(pipeline, [*words, ovam.Words("a dog", "hat")], [DAAM] * 4)


def test_targets_of_any_kind_and_selection_are_what_each_is_alone(pipeline: StableDiffusionPipeline, trace: ovam.Trace) -> None:
    token = ovam.Rows(noise(2, 32), (1,))
    words = rows_of(pipeline, [ovam.Words(prompt) for prompt in PROMPTS if prompt], [DAAM] * 5)
    padded = rows_of(pipeline, [ovam.Words("a cat", "cat")], [PADDED])
    several = ovam.Rows(torch.cat([token.embedding[:1], noise(3, 32, seed=3)]))
    targets = [*words, *padded, token, several, ovam.Rows(several.embedding, (0,)), dataclasses.replace(token, rows=(0, 1))]
    changes = [{}, {"reduction": "sum"}, {"blocks": "up"}, {"evaluations": 0.5}, {"heads": -1}, {"heads": -1, "blocks": [6, 12]}]
    methods = [ovam.Method(**changes[number % len(changes)]) for number in range(len(targets))]
    assert_same_as_alone(trace, targets, methods)


@given(
    seed=st.integers(0, 999),
    lengths=st.lists(st.integers(1, 5), min_size=1, max_size=5),
    scale=st.sampled_from([0.01, 1.0, 30.0, 3000.0]),
)
def test_texts_that_share_rows_are_what_each_is_alone(seed: int, lengths: list[int], scale: float) -> None:
    """Also where powers overflow, as with learned tokens that leave no doubt."""
    trace = small_trace()
    pool = scale * noise(4, 5, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    picks = [torch.randint(0, 4, (length,), generator=generator) for length in lengths]
    targets = [ovam.Rows(pool[pick], (int(pick[0]) % len(pick),)) for pick in picks]
    assert_same_as_alone(trace, targets, [DAAM] * len(targets), rtol=1e-3)


def test_a_trace_in_half_precision_is_attended_to_in_single(pipeline: StableDiffusionPipeline, trace: ovam.Trace) -> None:
    rows = rows_of(pipeline, [ovam.Words("a cat on a tree", "cat")], [DAAM])
    (found,) = target_heatmaps(trace.to(dtype=torch.float16), rows, [DAAM])
    assert found.dtype == torch.float32
    assert torch.allclose(found, alone(trace, rows[0], DAAM), atol=1e-2)


def test_only_as_many_rows_as_fit_are_attended_to_at_a_time() -> None:
    sizes = [77] * 20 + [400, 200, 600, 1]
    targets = [ovam.Rows(torch.zeros(size, 1)) for size in sizes]
    methods = [ovam.Method(evaluations=number % 2) for number in range(len(sizes))]
    groups = _together(targets, methods)
    assert sorted(number for group in groups for number in group) == list(range(len(sizes)))
    for group in groups:
        assert len({methods[number].evaluations for number in group}) == 1
        assert len(group) == 1 or sum(sizes[number] for number in group) <= 512
    assert max(len(group) for group in groups) == 6


def test_an_embedding_that_many_targets_have_is_attended_to_once() -> None:
    joint, own = torch.zeros(400, 1), torch.zeros(200, 1)
    targets = [ovam.Rows(joint, (number,)) for number in range(64)] + [ovam.Rows(own), ovam.Rows(own, (0,))]
    assert _together(targets, [DAAM] * 66) == [[*range(64)], [64, 65]]
    huge = torch.zeros(600, 1)
    assert _together([ovam.Rows(huge), ovam.Rows(huge, (0,))], [DAAM] * 2) == [[0, 1]]


def test_embeddings_that_cannot_be_attended_to_are_refused(trace: ovam.Trace) -> None:
    rows = noise(2, 32)
    for bad in (rows * float("nan"), rows * float("inf"), rows * 1e38):
        with pytest.raises(EmbeddingNotFiniteError):
            target_heatmaps(trace, [ovam.Rows(rows), ovam.Rows(bad)], [DAAM] * 2)
    with pytest.raises(InvalidArgumentError, match=r"embedding is \(2, 31\)"):
        target_heatmaps(trace, [ovam.Rows(rows[:, :31])], [DAAM])
    for wrong in ((), (2,), (-1,)):
        with pytest.raises(InvalidArgumentError, match=r"rows is .*; allowed: one or more of 0 to 1"):
            target_heatmaps(trace, [ovam.Rows(rows, wrong)], [DAAM])
    with pytest.raises(SelectionError, match="blocks is 'side'; allowed: a resolution of 12, 6, 3, or a part"):
        target_heatmaps(trace, [ovam.Rows(rows)], [ovam.Method(blocks="side")])


@pytest.mark.parametrize("by", ["block", "evaluation", "head"])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_the_parts_of_many_targets_are_those_of_each(
    pipeline: StableDiffusionPipeline, trace: ovam.Trace, by: str, reduction: str
) -> None:
    method = ovam.Method(reduction=reduction, evaluations=[0, 2])
    rows = [*rows_of(pipeline, [ovam.Words("a cat", "cat"), ovam.Words("a dog")], [DAAM] * 2), ovam.Rows(noise(2, 32))]
    for target, found in zip(rows, split_target_heatmaps(trace, rows, [method] * 3, by), strict=True):
        expected = split_heatmaps(trace, target.embedding, by, reduction=reduction, evaluations=[0, 2])
        assert (found.names, found.terms) == (expected.names, expected.terms)
        assert torch.allclose(found.maps[:, 0], expected.maps[:, list(target.chosen)].mean(dim=1), rtol=1e-4)


@pytest.mark.parametrize("by", ["block", "evaluation", "head"])
@pytest.mark.parametrize("choice", [{}, {"blocks": ["up", 3]}, {"evaluations": slice(1, None), "heads": [0, -1]}])
def test_the_parts_make_up_the_heatmap(pipeline: StableDiffusionPipeline, trace: ovam.Trace, by: str, choice: dict) -> None:
    """Blocks have different numbers of heads here, so that parts weigh differently."""
    embedding, _ = ovam.encode(pipeline, "a cat on a tree")
    mean = split_heatmaps(trace, embedding, by, **choice)
    total = split_heatmaps(trace, embedding, by, reduction="sum", **choice)
    weights = torch.tensor(mean.terms).view(-1, 1, 1, 1)
    assert torch.allclose((mean.maps * weights).sum(dim=0) / weights.sum(), ovam.heatmaps(trace, embedding, **choice), rtol=1e-4)
    whole = ovam.heatmaps(trace, embedding, reduction="sum", **choice)
    assert torch.allclose(total.maps.sum(dim=0), whole, rtol=1e-4)
    assert np.allclose(mean.maps.sum(dim=1), 1, atol=1e-5)


def test_parts_are_named_by_block_and_by_position(pipeline: StableDiffusionPipeline, trace: ovam.Trace) -> None:
    embedding, _ = ovam.encode(pipeline, "a cat")
    blocks = split_heatmaps(trace, embedding, "block")
    assert blocks.names == tuple(block.name for block in trace.blocks)
    assert any(name.startswith("down_blocks.2") for name in blocks.names)  # the last one down, which published code drops
    assert split_heatmaps(trace, embedding, "evaluation", evaluations=[-1, 0]).names == ("0", "2")
    heads = split_heatmaps(trace, embedding, "head")
    assert heads.names == ("0", "1", "2", "3")
    counts = [block.heads for block in trace.blocks]
    assert heads.terms == tuple(3 * sum(head < count for count in counts) for head in range(4))


def test_parts_can_be_learned_through(trace: ovam.Trace) -> None:
    tokens = noise(2, 32).requires_grad_()
    (gradient,) = torch.autograd.grad(split_heatmaps(trace, tokens, "block").maps[0, 1].sum(), tokens)
    assert float(gradient.abs().max()) > 0
