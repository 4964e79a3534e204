"""On a GPU the library gives what it gives on a CPU: heatmaps, learned tokens, dense CRFs."""

import dataclasses

import numpy as np
import pytest
import torch

import ovam
from ovam.attention.targets import target_heatmaps
from ovam.core.crf import dense_crf
from ovam.fitting.mean_field import dense_crfs
from tests.ovam.test_reference import noise, small_trace

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")]


def on_gpu(trace: ovam.Trace, dtype: torch.dtype) -> ovam.Trace:
    moved = trace.to("cuda", dtype)
    return dataclasses.replace(moved, blocks=tuple(dataclasses.replace(one, to_k=one.to_k.to("cuda")) for one in moved.blocks))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_heatmaps_are_those_of_a_cpu(dtype: torch.dtype) -> None:
    targets = [ovam.Rows(noise(rows, 5, seed=rows), (rows - 1,)) for rows in (2, 3, 9)]
    methods = [ovam.Method()] * 3
    expected = target_heatmaps(small_trace().to(dtype=dtype), targets, methods)
    for found, exact in zip(target_heatmaps(on_gpu(small_trace(), dtype), targets, methods), expected, strict=True):
        assert torch.allclose(found.cpu(), exact, atol=1e-3 if dtype == torch.bfloat16 else 1e-4)


@pytest.mark.parametrize("patience", [None, 5])
@pytest.mark.parametrize("classes", [2, 3])
def test_tokens_are_learned_as_on_a_cpu_and_it_ends_at_the_same_epoch(classes: int, patience: int | None) -> None:
    mask = torch.zeros(32, 48, dtype=torch.long)
    mask[4:20, 4:20], mask[10:28, 28:44] = 1, classes - 1
    init = noise(classes, 5)
    choice = {"learning_rate": 1e-9 if patience else 1.0, "epochs": 30, "patience": patience}
    expected = ovam.optimize_tokens([(small_trace(), mask)], init, **choice)
    found = ovam.optimize_tokens([(on_gpu(small_trace(), torch.float32), mask)], init, **choice)
    assert found.losses == pytest.approx(expected.losses, rel=1e-3)
    assert (found.ended, len(found.losses)) == (expected.ended, len(expected.losses))
    assert torch.allclose(found.embedding, expected.embedding, atol=1e-2)


def test_masks_are_fitted_as_by_simplecrf() -> None:
    generator = np.random.default_rng(0)
    image = generator.integers(0, 255, (48, 64, 3), np.uint8)
    masks = generator.random((3, 48, 64)) > 0.5
    found = dense_crfs(image, masks, device="cuda")
    assert (found == np.stack([dense_crf(image, mask) for mask in masks])).mean() > 0.99
