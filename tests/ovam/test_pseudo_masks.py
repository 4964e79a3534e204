"""What comes after the heatmap: refined, cut, and led by, each by its own method."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import ovam
from ovam.errors import NoSelfAttentionError
from tests.ovam.test_reference import LAYERS, noise

SIZE = (32, 48)
IMAGE = np.zeros((*SIZE, 3), dtype=np.uint8)
IMAGE[10:25, 20:45] = 200
CHANGES: list[dict[str, Any]] = [
    {},
    {"normalize": "minmax", "tau": 0.6},
    {"refine": "attention", "alpha": 0.2, "sign": -1},
    {"refine": "affinity", "affinity_steps": 2},
    {"refine": "both", "threshold": "otsu"},
    {"threshold": "absolute", "tau": 0.8},
    {"refine": "affinity", "affinity_steps": 4, "minimum_area": 30, "fill_holes": True},
]
METHODS = [ovam.method("daam", change) for change in CHANGES]


def heats(count: int) -> list[torch.Tensor]:
    return [noise(4, 6, seed=seed).abs() for seed in range(count)]


def test_heat_refined_together_is_what_it_is_alone() -> None:
    maps = [*heats(len(METHODS)), noise(2, 3).abs()]
    methods = [*METHODS, METHODS[3]]
    for heat, method, found in zip(maps, methods, ovam.refined(maps, methods, SIZE, LAYERS), strict=True):
        (alone,) = ovam.refined([heat], [method], SIZE, LAYERS)
        assert found.shape == SIZE
        assert torch.allclose(found, alone, rtol=1e-5)


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_a_mask_is_its_refined_heat_cut(method: ovam.Method) -> None:
    (heat,) = heats(1)
    (refined,) = ovam.refined([heat], [method], SIZE, LAYERS)
    assert np.array_equal(ovam.mask_of(method, heat, IMAGE, LAYERS), ovam.cut(method, refined, IMAGE))


def test_only_methods_that_refine_need_self_attention() -> None:
    maps = heats(2)
    assert len(ovam.refined(maps, [METHODS[0], METHODS[1]], SIZE)) == 2
    for method in METHODS[2:5]:
        with pytest.raises(NoSelfAttentionError):
            ovam.refined(maps, [METHODS[0], method], SIZE)


@given(st.sampled_from([method for method in METHODS if not method.minimum_area]), st.integers(0, 200), st.floats(0.01, 50))
def test_one_targets_label_is_its_mask_whatever_the_method(method: ovam.Method, seed: int, unit: float) -> None:
    (heat,) = ovam.refined([unit * noise(4, 6, seed=seed).abs()], [method], SIZE, LAYERS)
    lead = ovam.lead(method, heat)
    assert np.array_equal(ovam.labels_of(lead[None]) == 1, ovam.cut(method, heat, IMAGE))


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_nothing_leads_where_nothing_is_hot(method: ovam.Method) -> None:
    lead = ovam.lead(method, torch.zeros(SIZE))
    assert not ovam.labels_of(lead[None]).any()
    assert not ovam.labels_of(lead[None], margin=0.5).any()


@given(st.integers(0, 200), st.floats(0.1, 10), st.sampled_from([0.0, 0.05, 0.3]))
def test_labels_do_not_ask_for_the_unit_of_a_targets_heat(seed: int, unit: float, margin: float) -> None:
    """One target's heat may be a sum and another's a mean."""
    maps = [noise(8, 9, seed=seed).abs(), noise(8, 9, seed=seed + 1).abs()]
    method = ovam.method("daam", {"tau": 0.37})
    labels, scaled = (
        ovam.labels_of(torch.stack([ovam.lead(method, heat) for heat in (maps[0], factor * maps[1])]), margin=margin)
        for factor in (1, unit)
    )
    assert (labels == scaled).mean() > 0.98  # rounding moves what lies on an edge


def test_labels_are_those_of_the_semantic_map_where_the_unit_is_one() -> None:
    maps = torch.stack(heats(3))
    maps = maps / maps.amax(dim=(1, 2), keepdim=True)
    method = ovam.method("daam", {"tau": 0.4})
    leads = torch.stack([ovam.lead(method, heat) for heat in maps])
    assert np.array_equal(ovam.labels_of(leads, margin=0.1), ovam.semantic_map(maps, ovam.ShareOfMaximum(0.4), margin=0.1))
