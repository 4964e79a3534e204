"""What is computed once for many settings is what the library computes for each."""

import numpy as np
import pytest
import torch

import ovam
from experiments.evaluation.images import Made
from experiments.evaluation.measure import at_every_threshold
from experiments.evaluation.settings import Setting
from experiments.evaluation.studios.heats import Target, TraceHeats
from experiments.evaluation.studios.in_process import LocalStudio
from experiments.evaluation.studios.maps import affinity_matrix, heat_of, parts_of, spread
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
    artist: LocalStudio, scene: Made, blocks: Blocks, evaluations: Indices
) -> None:
    embedding, _ = ovam.encode(artist.pipeline, "a photograph of a house")
    parts = parts_of(scene.traces["conditional"], embedding, [4, 5])
    whole = ovam.heatmaps(scene.traces["conditional"], embedding, blocks=blocks, evaluations=evaluations)[[4, 5]].mean(dim=0)
    assert torch.allclose(heat_of(parts, blocks, evaluations), whole, atol=1e-6)


def test_one_matrix_spreads_heat_and_tells_what_is_looked_at_as_the_library_does(scene: Made) -> None:
    layers = scene.traces["conditional"].self_attention
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
def test_the_masks_of_a_setting_are_those_of_its_method(artist: LocalStudio, scene: Made, method: Method) -> None:
    tokens = ovam.initial_tokens(artist.pipeline, "house")
    setting = Setting("one", "tokens", method)
    heats = TraceHeats.of(scene, lambda _: Target(tokens, (1,)), [setting])
    trace = scene.traces["conditional"]
    expected = ovam.mask_of(method, ovam.heatmaps(trace, tokens)[1], scene.image, trace.self_attention)
    assert (heats.mask(setting) != expected).mean() < 0.002
    at_one = Setting("one", "tokens", method, tuned=False)
    assert np.array_equal(at_every_threshold(at_one, heats.heat(setting), scene.image, {})[0], heats.mask(setting))


def test_a_sweep_cuts_at_every_share_of_the_maximum(scene: Made) -> None:
    setting = Setting("one", "words", Method("plain"))
    masks = at_every_threshold(setting, torch.arange(16.0).view(4, 4), scene.image, {})
    found = dict(zip(setting.grid, masks, strict=True))
    assert [int(found[tau].sum()) for tau in (0.2, 0.5, 0.98)] == [13, 8, 1]
