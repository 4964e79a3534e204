"""The library agrees with plain loops in double precision, in every option."""

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

import ovam
from ovam.errors import InvalidArgumentError, NoSelfAttentionError
from ovam.learning.losses import bce, cross_entropy_minmax
from tests.ovam import reference

TOLERANCE = {"rtol": 1e-5, "atol": 1e-6}


@dataclass(frozen=True)
class Layer:
    grid: tuple[int, int]
    scale: float
    queries: Tensor
    keys: Tensor


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
        blocks.append(ovam.Block(f"up_blocks.{number}", grid, 0.5, noise(3, heads, grid[0] * grid[1], 4, seed=number), to_k))
    return ovam.Trace(tuple(blocks), (0, 1, 2), (3.0, 2.0, 1.0), (4, 6), (32, 48), "conditional")


@pytest.mark.parametrize("tokens", [2, 5])
@pytest.mark.parametrize(
    ("blocks", "evaluations", "head"), [(None, None, None), (6, [0, 2], None), ("2$", -1, 1), ([3, "0"], slice(2), 0)]
)
@pytest.mark.parametrize(("reduction", "size"), [("mean", None), ("sum", None), ("mean", (9, 7))])
def test_heatmaps_agree(
    tokens: int, blocks: object, evaluations: object, head: int | None, reduction: str, size: tuple[int, int] | None
) -> None:
    trace, embedding = small_trace(), noise(tokens, 5, seed=7)
    numbers = {None: (0, 1, 2), 6: (0, 2), "2$": (2,)}[blocks] if not isinstance(blocks, list) else (0, 1)
    steps = {None: [0, 1, 2], -1: [2]}[evaluations] if evaluations in (None, -1) else [0, 2] if blocks == 6 else [0, 1]
    plain = []
    for block in (trace.blocks[number] for number in numbers):
        chosen = range(block.heads) if head is None else [head]
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
    found = ovam.split_heatmaps(trace, embedding, by, evaluations=[0, 2])
    assert list(found.terms) == terms
    assert np.allclose(found.maps.numpy(), np.stack(expected), **TOLERANCE)


@pytest.mark.parametrize(("share", "step"), [(0.0, 0), (0.3, 0), (0.34, 1), (0.5, 1), (0.67, 2), (0.99, 2)])
def test_the_evaluation_at_a_share_of_the_way_agrees(share: float, step: int) -> None:
    trace, embedding = small_trace(), noise(3, 5, seed=8)
    expected = reference.slow_heatmaps(plain_blocks(trace, [step]), embedding.double().numpy(), "mean", None)
    assert np.allclose(ovam.heatmaps(trace, embedding, evaluations=share).numpy(), expected, **TOLERANCE)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_targets_together_agree(reduction: str) -> None:
    trace, rows = small_trace(), noise(6, 5, seed=9)
    targets = [
        ovam.Rows(rows[:4], (1, 3)),
        ovam.Rows(rows[[0, 2, 5]], (2,)),
        ovam.Rows(rows[4:]),
        ovam.Rows(rows[[0, 0, 1]], (0,)),
    ]
    method = ovam.method("daam", {"reduction": reduction, "evaluations": slice(1, None)})
    for target, found in zip(targets, ovam.target_heatmaps(trace, targets, [method] * 4), strict=True):
        maps = reference.slow_heatmaps(plain_blocks(trace, [1, 2]), target.embedding.double().numpy(), reduction, None)
        assert np.allclose(found.numpy(), maps[list(target.chosen)].mean(axis=0), **TOLERANCE)


@pytest.mark.parametrize("layers", [LAYERS, LAYERS[1:]], ids=["two grids", "one"])
def test_attention_received_agrees(layers: tuple[Layer, ...]) -> None:
    assert np.allclose(ovam.attention_received(layers).numpy(), reference.slow_received(layers), **TOLERANCE)


def test_attention_received_is_the_same_in_small_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = ovam.attention_received(LAYERS)
    monkeypatch.setattr("ovam.refine._PROBABILITIES_AT_A_TIME", 100)
    assert torch.allclose(ovam.attention_received(LAYERS), whole, rtol=1e-5)


def test_attention_received_is_not_the_constant_of_the_published_code() -> None:
    """Attention times ones sums rows, which are 1 everywhere; columns are 1 only on average."""
    received = ovam.attention_received(LAYERS[:1])
    assert float(received.std()) > 0.1
    assert float(received.mean()) == pytest.approx(1, rel=1e-5)


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_affinity_agrees(steps: int) -> None:
    expected = reference.slow_affinity(HEAT.double().numpy(), LAYERS, steps)
    assert np.allclose(ovam.affinity(HEAT, LAYERS, steps=steps).numpy(), expected, **TOLERANCE)


def test_affinity_of_a_map_on_another_grid_agrees() -> None:
    heat = noise(1, 8, 12, seed=3).abs()
    expected = reference.slow_affinity(heat.double().numpy(), LAYERS, 1)
    assert np.allclose(ovam.affinity(heat, LAYERS).numpy(), expected, **TOLERANCE)


def test_affinity_makes_no_matrix_of_pixels_by_pixels() -> None:
    """The kernel that is allowed alone here never holds the matrix; with another one this fails."""
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        ovam.affinity(HEAT, LAYERS)


def test_affinity_keeps_what_is_constant_and_is_linear() -> None:
    assert torch.allclose(ovam.affinity(torch.full((1, 4, 6), 0.3), LAYERS, steps=3), torch.tensor(0.3))
    one, other = ovam.affinity(HEAT, LAYERS), ovam.affinity(HEAT.flip(2), LAYERS)
    assert torch.allclose(ovam.affinity(2 * HEAT + HEAT.flip(2), LAYERS), 2 * one + other, rtol=1e-4)


def test_chosen_evaluations_and_heads_are_those_alone() -> None:
    layer = LAYERS[0]
    part = Layer(layer.grid, layer.scale, layer.queries[1:, :1], layer.keys[1:, :1])
    assert torch.equal(ovam.attention_received([layer], evaluations=1, heads=0), ovam.attention_received([part]))
    assert torch.equal(ovam.affinity(HEAT, [layer], evaluations=1, heads=0), ovam.affinity(HEAT, [part]))


def test_refining_needs_self_attention_and_one_to_four_steps() -> None:
    with pytest.raises(NoSelfAttentionError, match="no self-attention"):
        ovam.attention_received([])
    with pytest.raises(NoSelfAttentionError, match="no self-attention"):
        ovam.affinity(HEAT, [])
    for steps in (0, 5):
        with pytest.raises(InvalidArgumentError, match=r"^steps is "):
            ovam.affinity(HEAT, LAYERS, steps=steps)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 0.85])
@pytest.mark.parametrize("sign", [1, -1])
def test_weights_agree(alpha: float, sign: int) -> None:
    received = ovam.attention_received(LAYERS)
    heat = noise(9, 7, seed=4).abs()
    expected = heat.double().numpy() * reference.slow_weights(received.double().numpy(), (9, 7), alpha, sign)
    assert np.allclose(ovam.weighed(heat, received, alpha, sign).numpy(), expected, **TOLERANCE)
    mask = ovam.binarize(heat, tau=0.35, attention=received, alpha=alpha, sign=sign)
    assert np.array_equal(mask.numpy(), expected >= 0.35 * expected.max())


@pytest.mark.parametrize("seed", range(5))
def test_otsu_agrees(seed: int) -> None:
    heat = noise(5, 8, seed=seed).abs()
    level = reference.slow_otsu(heat.double().flatten().tolist())
    assert np.array_equal(ovam.binarize(heat, ovam.Otsu()).numpy(), heat.double().numpy() >= level)
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
    {"tau": 0.45},
    {"tau": 0.45, "normalize": "minmax", "refine": "attention", "alpha": 0.4},
    {"threshold": "absolute", "tau": 0.8, "refine": "affinity", "affinity_steps": 3},
    {"threshold": "otsu", "refine": "both", "sign": -1, "alpha": 0.6, "affinity_steps": 2},
    {"threshold": "otsu"},
]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("cut", CUTS, ids=str)
def test_masks_agree(cut: dict[str, object], seed: int) -> None:
    method, heat = ovam.method("daam", cut), noise(4, 6, seed=seed).abs()
    expected = reference.slow_refined(heat.double().numpy(), method, LAYERS, (9, 7))
    (found,) = ovam.refined([heat], [method], (9, 7), LAYERS)
    assert np.allclose(found.numpy(), expected, **TOLERANCE)
    mask = ovam.mask_of(method, heat, np.zeros((9, 7, 3), dtype=np.uint8), LAYERS)
    assert np.array_equal(mask, expected >= reference.slow_level(expected, method) * (1 - 1e-6))


@pytest.mark.parametrize("margin", [0.0, 0.05, 0.3])
def test_labels_of_targets_with_methods_of_their_own_agree(margin: float) -> None:
    methods = [ovam.method("daam", cut) for cut in CUTS]
    heats = [noise(4, 6, seed=seed).abs() for seed in range(len(methods))]
    plain = [reference.slow_refined(h.double().numpy(), m, LAYERS, (9, 7)) for h, m in zip(heats, methods, strict=True)]
    found = ovam.refined(heats, methods, (9, 7), LAYERS)
    leads = torch.stack([ovam.lead(method, heat) for method, heat in zip(methods, found, strict=True)])
    assert np.array_equal(ovam.labels_of(leads, margin=margin), reference.slow_labels(plain, methods, margin))
