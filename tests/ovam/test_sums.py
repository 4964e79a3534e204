"""Attention is summed in tiles of any size, with any number of tokens and in any type, as double precision sums it."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ovam.attention import backends, sigmoids, sums
from ovam.attention.sigmoids import sigmoid_sum
from ovam.attention.sums import attention_sum, target_sums, text_sums, tiles

TOLERANCE = {torch.float64: 1e-13, torch.float32: 1e-6, torch.float16: 1e-3, torch.bfloat16: 1e-2}  # of one attention map


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def exact(queries: Tensor, keys: Tensor) -> Tensor:
    return (keys.double() @ queries.double().transpose(-1, -2)).softmax(dim=-2).sum(dim=(0, 1))


def away(found: Tensor, expected: Tensor) -> float:
    return float((found.double() - expected).abs().max())


@given(
    shape=st.tuples(st.integers(1, 5), st.integers(1, 3), st.integers(1, 200), st.sampled_from([4, 40])),
    tokens=st.integers(1, 9),
    at_a_time=st.sampled_from([1, 100, 1000, 1 << 20]),
    dtype=st.sampled_from([*TOLERANCE]),
)
def test_the_sum_is_that_of_double_precision_in_tiles_of_any_size(
    shape: tuple[int, int, int, int], tokens: int, at_a_time: int, dtype: torch.dtype
) -> None:
    queries, keys = noise(*shape).to(dtype), (noise(shape[1], tokens, shape[3], seed=1) / 3).to(dtype)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sums._SCORES_AT_A_TIME, "cpu", at_a_time)
        patch.setattr(sigmoids, "_VALUES_AT_A_TIME", at_a_time)
        found = attention_sum(queries, keys)
    assert found.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert away(found, exact(queries, keys)) < TOLERANCE[dtype] * shape[0] * shape[1]


@given(width=st.integers(1, 300), evaluations=st.integers(1, 4), at_a_time=st.sampled_from([1, 500, 5000]))
def test_tiles_cover_every_pixel_of_every_evaluation_once(width: int, evaluations: int, at_a_time: int) -> None:
    counted = torch.zeros(3, width)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sums._SCORES_AT_A_TIME, "cpu", at_a_time)
        for pixels, _, part, scores in tiles(torch.ones(evaluations, 2, width, 4), torch.ones(2, 3, 4)):
            assert scores.numel() <= max(at_a_time, 2 * 3 * 64)
            assert part.shape[:2].numel() == len(scores)
            counted[:, pixels] += scores.sum(dim=0)
    assert torch.equal(counted, torch.full_like(counted, evaluations * 2 * 4.0))


def test_a_device_with_little_room_gets_smaller_tiles_and_at_last_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    queries, keys, asked = noise(3, 2, 100, 4), noise(2, 5, 4), list[int]()
    expected, empty = attention_sum(queries, keys), torch.empty

    def limited(room: int) -> None:
        def allocate(count: int, **options: Any) -> Tensor:
            asked.append(count)
            if count > room:
                raise torch.OutOfMemoryError
            return empty(count, **options)

        monkeypatch.setattr(torch, "empty", allocate)

    limited(700)
    torch.testing.assert_close(attention_sum(queries, keys), expected)
    assert (asked[0], asked[-1]) == (3 * 2 * 5 * 100, 2 * 5 * 64)
    limited(2 * 5 * 64 - 1)
    with pytest.raises(torch.OutOfMemoryError):
        attention_sum(queries, keys)


def test_each_text_has_a_softmax_of_its_own() -> None:
    queries, keys = noise(2, 3, 50, 8), noise(3, 9, 8, seed=1)
    parts = [attention_sum(queries, part) for part in keys.split([4, 2, 3], dim=1)]
    assert torch.equal(text_sums(queries, keys, [4, 2, 3]), torch.cat(parts))


def test_a_power_that_overflows_is_told() -> None:
    queries, keys = torch.full((1, 1, 5, 4), 10.0), torch.tensor([[[0.0] * 4, [10.0] * 4]])
    weights = torch.tensor([[0.0, 1.0], [1.0, 1.0]])
    assert target_sums(queries, keys, weights)[1].isinf()
    sums_, largest = target_sums(queries, keys / 100, weights)
    assert largest.isfinite()
    assert away(sums_, exact(queries, keys / 100)[1:]) < 1e-6


@pytest.mark.parametrize("at_a_time", [1, 1 << 20])
def test_the_gradient_of_two_tokens_is_that_of_finite_differences(at_a_time: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sigmoids, "_VALUES_AT_A_TIME", at_a_time)
    queries, difference = noise(3, 2, 7, 4).double(), noise(2, 4, seed=1).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda row: sigmoid_sum(queries, row), (difference,))


@pytest.mark.parametrize("at_a_time", [1, 600, 1 << 20])
def test_the_gradient_of_more_tokens_is_that_of_finite_differences(at_a_time: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sums._SCORES_AT_A_TIME, "cpu", at_a_time)
    queries, keys = noise(2, 2, 70, 3).double(), noise(2, 3, 3, seed=1).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda rows: attention_sum(queries, rows), (keys,))


@pytest.mark.parametrize("dtype", [*TOLERANCE])
def test_the_gradient_of_two_tokens_is_that_of_double_precision_in_every_type(dtype: torch.dtype) -> None:
    queries, slope = noise(3, 2, 70, 40).to(dtype), noise(70, seed=2)
    difference = (noise(2, 40, seed=1) / 3).requires_grad_()
    (found,) = torch.autograd.grad(sigmoid_sum(queries, difference), difference, slope.to(backends.exact_type(queries)))
    row = difference.detach().double().requires_grad_()
    odds = torch.einsum("ehpd,hd->ehp", queries.double(), row).sigmoid().sum(dim=(0, 1))
    (expected,) = torch.autograd.grad(odds, row, slope.double())
    assert found.dtype == torch.float32
    assert away(found, expected) < max(TOLERANCE[dtype], 1e-6) * float(expected.abs().max())


def test_halves_are_multiplied_as_such_only_where_a_cpu_is_fast_at_it(monkeypatch: pytest.MonkeyPatch) -> None:
    half, brain = torch.empty(1, dtype=torch.float16), torch.empty(1, dtype=torch.bfloat16)
    for native, expected in ((False, torch.float32), (True, torch.bfloat16)):
        monkeypatch.setattr(backends, "multiplies_bfloat16", lambda native=native: native)
        assert backends.product_type(brain) == expected
        assert backends.product_type(half) == torch.float32
    monkeypatch.undo()
    assert backends.product_type(torch.empty(1)) == torch.float32
