"""The kernels for a GPU against double precision. Without one, `test_fused.py` runs this module in Triton's interpreter."""

import os

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton", reason="comes with torch for CUDA, and with requirements-dev.txt")

from ovam.attention import fused

DEVICE = "cpu" if os.environ.get("TRITON_INTERPRET") == "1" else "cuda"
if DEVICE == "cuda":
    pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")]

TOLERANCE = 2e-6  # of one attention map: inputs are exact, sums are in single precision
SHAPES = [(3, 2, 96, 40), (2, 3, 35, 80), (1, 1, 16, 160), (2, 2, 70, 16), (2, 1, 20, 8)]
DTYPES = [torch.float16, torch.bfloat16]


def noise(*shape: int, dtype: torch.dtype, seed: int = 0, scale: float = 1.0) -> Tensor:
    values = scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    return values.to(DEVICE, dtype)


def exact_sums(queries: Tensor, keys: Tensor, lengths: list[int]) -> Tensor:
    scores = keys.double() @ queries.double().transpose(-1, -2)
    return torch.cat([text.softmax(dim=-2).sum(dim=(0, 1)) for text in scores.split(lengths, dim=-2)])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("lengths", [[1], [2], [16], [77], [7, 1, 20], [128, 3]])
def test_sums_of_softmaxes_are_those_of_double_precision(
    shape: tuple[int, int, int, int], lengths: list[int], dtype: torch.dtype
) -> None:
    if max(lengths) > 77 and shape != SHAPES[1]:
        pytest.skip("once is enough")
    if dtype == torch.bfloat16 and DEVICE == "cpu":
        pytest.skip("the interpreter's products of bfloat16 are wrong")
    queries, keys = noise(*shape, dtype=dtype), noise(shape[1], sum(lengths), shape[3], dtype=dtype, seed=1, scale=0.5)
    found = fused.attention_sums(queries, keys, lengths)
    assert found.dtype == torch.float32
    assert float((found - exact_sums(queries, keys, lengths)).abs().max()) < TOLERANCE * shape[0] * shape[1]


def test_scores_of_any_size_overflow_nothing() -> None:
    queries, keys = noise(1, 2, 32, 16, dtype=torch.float16, scale=100), noise(2, 5, 16, dtype=torch.float16, seed=1, scale=100)
    found = fused.attention_sums(queries, keys, [5])
    assert torch.allclose(found.sum(dim=0), torch.full_like(found[0], 2.0))


def test_a_sum_is_the_same_however_it_is_split(monkeypatch: pytest.MonkeyPatch) -> None:
    queries, keys = noise(5, 3, 40, 40, dtype=torch.float16), noise(3, 9, 40, dtype=torch.float16, seed=1)
    whole = fused.attention_sums(queries, keys, [9])
    for programs in (1, 4, 7, 100):
        monkeypatch.setattr(fused, "_PROGRAMS", programs)
        assert torch.allclose(fused.attention_sums(queries, keys, [9]), whole, atol=1e-5)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_sums_of_sigmoids_and_their_gradient_are_those_of_double_precision(
    shape: tuple[int, int, int, int], dtype: torch.dtype
) -> None:
    queries, difference = noise(*shape, dtype=dtype), noise(shape[1], shape[3], dtype=torch.float32, seed=1, scale=0.3)
    slope = noise(shape[2], dtype=torch.float32, seed=2)
    exact = difference.double().requires_grad_()
    expected = torch.einsum("ehpd,hd->ehp", queries.double(), exact).sigmoid().sum(dim=(0, 1))
    (gradient,) = torch.autograd.grad(expected, exact, slope.double())
    assert torch.allclose(fused.sigmoid_sum(queries, difference).double(), expected, rtol=1e-5)
    found = fused.sigmoid_slope(queries, difference, slope).double()
    assert float((found - gradient).abs().max()) < 1e-5 * float(gradient.abs().max()) * shape[0]


def test_what_does_not_fit_is_told() -> None:
    assert fused.fits(torch.empty(1, 1, 1, 160, dtype=torch.float16), 128)
    assert not fused.fits(torch.empty(1, 1, 1, 1024, dtype=torch.float16), 2)
    assert not fused.fits(torch.empty(1, 1, 1, 40), 2)
    assert not fused.fits(torch.empty(1, 1, 1, 40, dtype=torch.float16), 129)
