"""The library agrees with plain loops in double precision, in every option."""

import math
import weakref
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

import ovam
from ovam.attention.heatmaps import split_heatmaps
from ovam.attention.refinement import affinity, attention_received, matrix_bytes
from ovam.attention.targets import target_heatmaps
from ovam.core.label_maps import labels_of
from ovam.core.masks import weighted
from ovam.core.methods import ByAffinity, ByAttention, ByBoth
from ovam.core.selection import Span
from ovam.core.thresholds import Absolute, Otsu, Share
from ovam.cutting import cut, margin, refined
from ovam.errors import InvalidArgumentError, NoSelfAttentionError
from ovam.learning.losses import bce, cross_entropy_minmax
from ovam.tracing.trace import Block
from tests.ovam import reference

TOLERANCE = {"rtol": 1e-5, "atol": 1e-6}


@dataclass(frozen=True, eq=False)
class Layer:
    grid: tuple[int, int]
    scale: float
    queries: Tensor
    keys: Tensor
    linear: bool = False


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


LAYERS = tuple(
    Layer(grid, 0.5, noise(2, heads, grid[0] * grid[1], 4, seed=heads), noise(2, heads, grid[0] * grid[1], 4, seed=heads + 9))
    for grid, heads in (((4, 6), 2), ((2, 3), 3))
)
HEAT = noise(6, 4, 6).abs()


def small_trace() -> ovam.Trace:
    blocks = []
    for number, (grid, heads) in enumerate((((4, 6), 2), ((2, 3), 3), ((4, 6), 2))):
        to_k = torch.nn.Linear(5, heads * 4, bias=False)
        to_k.weight.data = noise(heads * 4, 5, seed=number)
        blocks.append(Block(f"up_blocks.{number}", grid, 0.5, noise(3, heads, grid[0] * grid[1], 4, seed=number), to_k))
    return ovam.Trace(tuple(blocks), (0, 1, 2), (3.0, 2.0, 1.0), (4, 6), (32, 48), "conditional")


@pytest.mark.parametrize("tokens", [2, 5])
@pytest.mark.parametrize(
    ("blocks", "evaluations", "head"), [("all", "all", "all"), (6, [0, 2], "all"), ("blocks.2", -1, 1), ([3, "0"], slice(2), 0)]
)
@pytest.mark.parametrize(("reduction", "size"), [("mean", None), ("sum", None), ("mean", (9, 7))])
def test_heatmaps_agree(
    tokens: int, blocks: object, evaluations: object, head: int | str, reduction: str, size: tuple[int, int] | None
) -> None:
    trace, embedding = small_trace(), noise(tokens, 5, seed=7)
    numbers = {"all": (0, 1, 2), 6: (0, 2), "blocks.2": (2,)}[blocks] if not isinstance(blocks, list) else (0, 1)
    steps = {"all": [0, 1, 2], -1: [2]}[evaluations] if evaluations in ("all", -1) else [0, 2] if blocks == 6 else [0, 1]
    plain = []
    for block in (trace.blocks[number] for number in numbers):
        chosen = range(block.heads) if head == "all" else [head]
        weight = block.to_k.weight.detach().double().unflatten(0, (block.heads, 4))
        plain.append((block.grid, block.scale, block.queries.double()[steps][:, chosen].numpy(), weight[list(chosen)].numpy()))
    expected = reference.slow_heatmaps(plain, embedding.double().numpy(), reduction, size)
    maps = ovam.heatmaps(trace, embedding, reduction=reduction, size=size, blocks=blocks, evaluations=evaluations, heads=head)
    assert np.allclose(maps.numpy(), expected, **TOLERANCE)


def plain_blocks(trace: ovam.Trace, steps: list[int]) -> list[tuple[tuple[int, int], float, np.ndarray, np.ndarray]]:
    """A trace as the reference takes it."""
    weights = [block.to_k.weight.detach().double().unflatten(0, (block.heads, 4)).numpy() for block in trace.blocks]
    return [
        (block.grid, block.scale, block.queries.double()[steps].numpy(), weight)
        for block, weight in zip(trace.blocks, weights, strict=True)
    ]


@pytest.mark.parametrize("tokens", [2, 4])
@pytest.mark.parametrize("by", ["block", "evaluation", "head"])
def test_maps_of_the_parts_agree(by: str, tokens: int) -> None:
    trace, embedding = small_trace(), noise(tokens, 5, seed=7)
    terms, expected = reference.slow_parts(plain_blocks(trace, [0, 2]), embedding.double().numpy(), by)
    found = split_heatmaps(trace, embedding, by, evaluations=[0, 2])
    assert list(found.terms) == terms
    assert np.allclose(found.maps.numpy(), np.stack(expected), **TOLERANCE)


@pytest.mark.parametrize(("fraction", "step"), [(0.0, 0), (0.3, 0), (0.34, 1), (0.5, 1), (0.67, 2), (0.99, 2)])
def test_the_evaluation_at_a_fraction_of_the_way_agrees(fraction: float, step: int) -> None:
    trace, embedding = small_trace(), noise(3, 5, seed=8)
    expected = reference.slow_heatmaps(plain_blocks(trace, [step]), embedding.double().numpy(), "mean", None)
    assert np.allclose(ovam.heatmaps(trace, embedding, evaluations=fraction).numpy(), expected, **TOLERANCE)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_targets_together_agree(reduction: str) -> None:
    trace, rows = small_trace(), noise(6, 5, seed=9)
    targets = [
        ovam.Rows(rows[:4], (1, 3)),
        ovam.Rows(rows[[0, 2, 5]], (2,)),
        ovam.Rows(rows[4:]),
        ovam.Rows(rows[[0, 0, 1]], (0,)),
    ]
    method = ovam.Method(reduction=reduction, evaluations=Span(1))
    for target, found in zip(targets, target_heatmaps(trace, targets, [method] * 4), strict=True):
        maps = reference.slow_heatmaps(plain_blocks(trace, [1, 2]), target.embedding.double().numpy(), reduction, None)
        assert np.allclose(found.numpy(), maps[list(target.chosen)].mean(axis=0), **TOLERANCE)


@pytest.mark.parametrize("layers", [LAYERS, LAYERS[::-1], LAYERS[1:]], ids=["two grids", "the smaller first", "one"])
def test_attention_received_agrees(layers: tuple[Layer, ...]) -> None:
    assert np.allclose(attention_received(layers).numpy(), reference.slow_received(layers), **TOLERANCE)


def test_attention_received_is_the_same_in_small_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = attention_received(LAYERS)
    monkeypatch.setattr("ovam.attention.refinement._PROBABILITIES_AT_A_TIME", 100)
    assert torch.allclose(attention_received(LAYERS), whole, rtol=1e-5)


def test_attention_received_is_not_the_constant_of_the_published_code() -> None:
    """Attention times ones sums rows, which are 1 everywhere; columns are 1 only on average."""
    received = attention_received(LAYERS[:1])
    assert float(received.std()) > 0.1
    assert float(received.mean()) == pytest.approx(1, rel=1e-5)


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_affinity_agrees(steps: int) -> None:
    expected = reference.slow_affinity(HEAT.double().numpy(), LAYERS, steps)
    assert np.allclose(affinity(HEAT, LAYERS, steps=steps).numpy(), expected, **TOLERANCE)


def test_affinity_of_a_map_on_another_grid_agrees() -> None:
    heat = noise(1, 8, 12, seed=3).abs()
    expected = reference.slow_affinity(heat.double().numpy(), LAYERS, 1)
    assert np.allclose(affinity(heat, LAYERS).numpy(), expected, **TOLERANCE)


FEW = tuple(Layer(one.grid, one.scale, one.queries[:1, :1, :, :2], one.keys[:1, :1, :, :2]) for one in LAYERS)
"""Queries and keys that are smaller than a matrix of pixels by pixels."""


def test_affinity_makes_no_large_matrix_of_pixels_by_pixels() -> None:
    """The kernel that is allowed alone here never holds the matrix; with another one this fails."""
    assert [matrix_bytes(layer) for layer in FEW] == [0, 0]
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        found = affinity(HEAT, FEW)
    assert np.allclose(found.numpy(), reference.slow_affinity(HEAT.double().numpy(), FEW, 1), **TOLERANCE)
    assert np.allclose(attention_received(FEW).numpy(), reference.slow_received(FEW), **TOLERANCE)


def test_a_small_matrix_of_pixels_by_pixels_is_computed_once_and_gone_with_its_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    layers = tuple(replace(layer) for layer in LAYERS)
    assert [matrix_bytes(layer) for layer in layers] == [
        4 * (height * width) ** 2 for height, width in (one.grid for one in layers)
    ]
    with torch.inference_mode():
        first = affinity(HEAT, layers, steps=2)
    monkeypatch.setattr("ovam.attention.refinement._summed", None)  # no matrix is computed any more
    assert torch.equal(affinity(HEAT, layers, steps=2), first)
    assert np.allclose(attention_received(layers).numpy(), reference.slow_received(layers), **TOLERANCE)
    kept = [weakref.ref(layer) for layer in layers]
    del layers
    assert [one() for one in kept] == [None, None]


def test_affinity_keeps_what_is_constant_and_is_linear() -> None:
    assert torch.allclose(affinity(torch.full((1, 4, 6), 0.3), LAYERS, steps=3), torch.tensor(0.3))
    one, other = affinity(HEAT, LAYERS), affinity(HEAT.flip(2), LAYERS)
    assert torch.allclose(affinity(2 * HEAT + HEAT.flip(2), LAYERS), 2 * one + other, rtol=1e-4)


def test_chosen_evaluations_and_heads_are_those_alone() -> None:
    layer = LAYERS[0]
    part = Layer(layer.grid, layer.scale, layer.queries[1:, :1], layer.keys[1:, :1])
    assert torch.equal(attention_received([layer], evaluations=1, heads=0), attention_received([part]))
    assert torch.equal(affinity(HEAT, [layer], evaluations=1, heads=0), affinity(HEAT, [part]))


def test_the_matrix_of_a_part_is_not_taken_for_that_of_the_whole_layer() -> None:
    layer, linear = replace(LAYERS[1]), replace(LAYERS[1], linear=True)  # so small that a head alone has a matrix, too
    assert (matrix_bytes(layer) > 0, matrix_bytes(linear)) == (True, 0)
    part = Layer(layer.grid, layer.scale, layer.queries[:, :1], layer.keys[:, :1])
    before, whole = affinity(HEAT, [layer], heads=0), affinity(HEAT, [layer])
    assert np.allclose(whole.numpy(), reference.slow_affinity(HEAT.double().numpy(), [layer], 1), **TOLERANCE)
    assert torch.equal(affinity(HEAT, [layer], heads=0), before)
    assert torch.equal(before, affinity(HEAT, [part]))


def test_a_matrix_that_was_computed_in_inference_mode_lets_gradients_through() -> None:
    layer = replace(LAYERS[0])
    with torch.inference_mode():
        affinity(HEAT, [layer])
    heat = HEAT.clone().requires_grad_()
    affinity(heat, [layer]).sum().backward()
    assert heat.grad is not None
    assert float(heat.grad.sum()) == pytest.approx(HEAT.numel(), rel=1e-5)


def test_refining_needs_self_attention_and_one_to_four_steps() -> None:
    with pytest.raises(NoSelfAttentionError, match="no self-attention"):
        attention_received([])
    with pytest.raises(NoSelfAttentionError, match="no self-attention"):
        affinity(HEAT, [])
    for steps in (0, 5):
        with pytest.raises(InvalidArgumentError, match=r"^steps is "):
            affinity(HEAT, LAYERS, steps=steps)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 0.85])
@pytest.mark.parametrize("sign", [1, -1])
def test_weights_agree(alpha: float, sign: int) -> None:
    received = attention_received(LAYERS)
    heat = noise(9, 7, seed=4).abs()
    expected = heat.double().numpy() * reference.slow_weights(received.double().numpy(), (9, 7), alpha, sign)
    assert np.allclose(weighted(heat.numpy(), received.numpy(), alpha, sign), expected, **TOLERANCE)
    mask = ovam.binarize(heat, tau=0.35, attention=received, alpha=alpha, sign=sign)
    assert np.array_equal(mask, expected >= 0.35 * expected.max())


@pytest.mark.parametrize("seed", range(5))
def test_otsu_agrees(seed: int) -> None:
    heat = noise(5, 8, seed=seed).abs()
    level = reference.slow_otsu(heat.double().flatten().tolist())
    assert np.array_equal(ovam.binarize(heat, Otsu()), heat.double().numpy() >= level)
    assert math.isfinite(level)


@pytest.mark.parametrize("ignored", [False, True])
def test_losses_agree(ignored: bool) -> None:  # noqa: FBT001 - a test's parameter
    maps, target = noise(3, 5, 6).softmax(dim=0), noise(3, 5, 6, seed=1).softmax(dim=0)
    counted = noise(5, 6, seed=2) > 0 if ignored else torch.ones(5, 6, dtype=torch.bool)
    plain = maps.double().numpy(), target.double().numpy(), counted.numpy()
    given = (maps, target, counted if ignored else None)
    assert float(bce(*given)) == pytest.approx(reference.slow_bce(*plain), rel=1e-5)
    assert float(cross_entropy_minmax(*given)) == pytest.approx(reference.slow_cross_entropy(*plain), rel=1e-5)


CUTS = [
    ovam.Method(threshold=Share(0.45)),
    ovam.Method(threshold=Share(0.45, "minmax"), refine=ByAttention(0.4)),
    ovam.Method(threshold=Absolute(0.8), refine=ByAffinity(3)),
    ovam.Method(threshold=Otsu(), refine=ByBoth(2, 0.6, -1)),
    ovam.Method(threshold=Otsu()),
]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("method", CUTS, ids=lambda one: f"{one.threshold.kind}-{one.refine.kind}")
def test_masks_agree(method: ovam.Method, seed: int) -> None:
    heat = noise(4, 6, seed=seed).abs()
    expected = reference.slow_refined(heat.double().numpy(), method, LAYERS, (9, 7))
    (found,) = refined([heat], [method], (9, 7), LAYERS)
    assert np.allclose(found, expected, **TOLERANCE)
    assert np.array_equal(cut(method, found), expected >= reference.slow_level(expected, method) * (1 - 1e-6))


@pytest.mark.parametrize("least_gap", [0.0, 0.05, 0.3])
def test_labels_of_targets_with_methods_of_their_own_agree(least_gap: float) -> None:
    heats = [noise(4, 6, seed=seed).abs() for seed in range(len(CUTS))]
    plain = [reference.slow_refined(h.double().numpy(), m, LAYERS, (9, 7)) for h, m in zip(heats, CUTS, strict=True)]
    found = refined(heats, CUTS, (9, 7), LAYERS)
    margins = np.stack([margin(method, heat) for method, heat in zip(CUTS, found, strict=True)])
    assert np.array_equal(labels_of(margins, least_gap=least_gap), reference.slow_labels(plain, CUTS, least_gap))
