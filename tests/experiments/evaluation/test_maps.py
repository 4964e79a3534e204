"""What is computed once for many settings is what the library computes for each."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import ovam
from experiments.evaluation.asking import Target
from experiments.evaluation.images import Made, Studio
from experiments.evaluation.maps import Part, affinity_matrix, heat_of, parts_of, spread
from experiments.evaluation.measure import Heats, cuts
from experiments.evaluation.settings import Setting
from ovam import CrfParameters, Method
from ovam.selection import Blocks, Indices

SELECTIONS: list[tuple[Blocks, Indices]] = [
    (None, None),
    ((16,), 7),
    ((8, 4), slice(3)),
    ("up_blocks.1", slice(-5, None)),
    (None, 0.5),
]


@pytest.mark.parametrize(("blocks", "evaluations"), SELECTIONS)
def test_sums_over_blocks_and_evaluations_are_the_librarys_heatmaps(
    artist: Studio, scene: Made, blocks: Blocks, evaluations: Indices
) -> None:
    embedding, _ = ovam.encode(artist.pipeline, "a photograph of a house")
    parts = parts_of(scene.trace, embedding, [4, 5])
    whole = ovam.heatmaps(scene.trace, embedding, blocks=blocks, evaluations=evaluations)[[4, 5]].mean(dim=0)
    assert torch.allclose(heat_of(parts, blocks, evaluations), whole, atol=1e-6)


def test_one_matrix_spreads_heat_and_tells_what_is_looked_at_as_the_library_does(scene: Made) -> None:
    layers = scene.trace.self_attention
    matrix = affinity_matrix(layers)
    heat = torch.rand(16, 16, generator=torch.Generator().manual_seed(0))
    once = spread(heat, matrix, layers[0].grid)
    assert torch.allclose(once, ovam.affinity(heat[None], layers)[0], atol=1e-6)
    assert torch.allclose(spread(once, matrix, layers[0].grid), ovam.affinity(heat[None], layers, steps=2)[0], atol=1e-6)
    assert torch.allclose(matrix.sum(dim=0).view(16, 16), ovam.attention_received(layers), atol=1e-5)


METHODS = [
    Method("plain", tau=0.5),
    Method("min-max", tau=0.3, normalize="minmax"),
    Method("weighed", tau=0.7, refine="attention", alpha=0.5, sign=-1),
    Method("spread", tau=0.4, normalize="minmax", refine="affinity", affinity_steps=2),
    Method("all of it", tau=0.6, refine="both", crf=CrfParameters()),
]


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_the_masks_of_a_setting_are_those_of_its_method(artist: Studio, scene: Made, method: Method) -> None:
    tokens = ovam.initial_tokens(artist.pipeline, "house")
    setting = Setting("one", "tokens", method)
    heats = Heats.of(scene, {"tokens": Target(tokens, (1,))}, [setting])
    expected = ovam.mask_of(method, ovam.heatmaps(scene.trace, tokens)[1], scene.image, scene.trace.self_attention)
    assert (cuts(heats, setting, scene, None)[0] != expected).mean() < 0.002
    assert np.array_equal(cuts(heats, setting, scene, (0.1, method.tau))[1], cuts(heats, setting, scene, None)[0])


def test_a_sweep_cuts_at_every_share_of_the_maximum(scene: Made) -> None:
    small = replace(scene, truth=np.zeros((4, 4), bool))
    parts = {"block": Part((4, 4), heads=1, sums=torch.arange(16.0).view(1, 4, 4))}
    heats = Heats({("words", "conditional"): parts}, None, (4, 4))
    masks = cuts(heats, Setting("one", "words", Method("plain")), small, (0.2, 0.5, 1.0))
    assert [int(mask.sum()) for mask in masks] == [13, 8, 1]
