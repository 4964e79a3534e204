"""Masks by share of the hottest pixel (Eq. 8, 9), scores, the CRF, and tidying."""

import math
import sys
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import ovam
from ovam.core.crf import CrfParameters
from ovam.core.masks import filled, instances, resized, score, tidied, without_small_regions
from ovam.core.thresholds import Absolute, Otsu, Share, reaches
from ovam.errors import InvalidArgumentError, MissingPackageError

HEAT = torch.tensor([[0.2, 0.4, 0.5], [0.39, 0.8, 1.0]])
ANY_HEAT = arrays.arrays(np.float32, (5, 7), elements=st.integers(0, 64).map(lambda number: number / 64))


def test_a_mask_holds_the_pixels_that_reach_the_share_of_the_hottest() -> None:
    assert ovam.binarize(HEAT, tau=0.4).tolist() == [[False, True, True], [False, True, True]]
    assert np.array_equal(ovam.binarize(HEAT * 7, tau=0.4), ovam.binarize(HEAT, tau=0.4))
    assert ovam.binarize(HEAT, tau=1.0).sum() == 1


@pytest.mark.parametrize("number", [float, np.float64])
def test_heat_is_compared_in_its_own_precision_whatever_the_threshold_is_written_in(number: type[float]) -> None:
    heat = np.array([[0.7, 0.6]], np.float32)
    assert reaches(heat, Absolute(number(0.7))).tolist() == [[True, False]]  # 0.7 in single precision is less than 0.7


def test_min_max_takes_a_high_floor_away() -> None:
    lifted = 100 + HEAT
    assert ovam.binarize(lifted, tau=0.4).all()
    assert np.array_equal(ovam.binarize(lifted, tau=0.4, normalize="minmax"), HEAT >= 0.2 + 0.4 * 0.8)


def test_self_attention_weighs_the_heat_between_alpha_and_1() -> None:
    attention = torch.tensor([[10.0, 10.0, 20.0], [10.0, 20.0, 10.0]])
    weighed = HEAT * torch.tensor([[0.5, 0.5, 1.0], [0.5, 1.0, 0.5]])
    assert np.array_equal(ovam.binarize(HEAT, tau=0.6, attention=attention, alpha=0.5), weighed >= 0.6 * 0.8)
    turned = HEAT * torch.tensor([[1.0, 1.0, 0.5], [1.0, 0.5, 1.0]])
    assert np.array_equal(ovam.binarize(HEAT, tau=0.6, attention=attention, alpha=0.5, sign=-1), turned >= 0.6)
    assert np.array_equal(ovam.binarize(HEAT, attention=attention, alpha=1.0), ovam.binarize(HEAT))
    assert ovam.binarize(torch.ones(8, 12), attention=attention).shape == (8, 12)


def test_a_map_without_heat_marks_nothing() -> None:
    assert not ovam.binarize(torch.zeros(4, 5)).any()
    assert not ovam.binarize(torch.full((4, 5), 0.3), normalize="minmax").any()
    assert ovam.binarize(torch.full((4, 5), 0.3)).all()


@given(
    arrays.arrays(np.float32, (5, 7), elements=st.floats(0, 1, width=32)),
    st.floats(0.01, 1),
    st.floats(0.01, 1),
)
def test_a_higher_share_marks_fewer_pixels(heat: np.ndarray, one: float, other: float) -> None:
    low, high = (ovam.binarize(torch.from_numpy(heat), tau=tau) for tau in sorted((one, other)))
    assert not (high & ~low).any()


@pytest.mark.parametrize(
    ("heat", "options", "field"),
    [
        (HEAT, {"tau": 1.1}, "tau"),
        (HEAT, {"attention": HEAT, "alpha": -0.1}, "alpha"),
        (-HEAT, {}, "heatmap"),
        (HEAT, {"attention": -HEAT}, "attention"),
        (HEAT * math.nan, {}, "heatmap"),
        (HEAT[:0], {}, "heatmap"),
    ],
)
def test_values_outside_are_named(heat: torch.Tensor, options: dict[str, float], field: str) -> None:
    with pytest.raises(InvalidArgumentError, match=f"^{field} is "):
        ovam.binarize(heat, **options)


def test_the_score_is_the_mean_heat_inside_as_a_share_of_the_hottest() -> None:
    assert score(HEAT.numpy() * 2, HEAT.numpy() > 0.45) == pytest.approx((0.5 + 0.8 + 1) / 3)
    assert score(HEAT.numpy(), HEAT.numpy() > 2) == 0
    assert score(np.zeros((2, 3)), HEAT.numpy() > 0.45) == 0


def test_the_crf_moves_a_mask_to_the_edges_of_the_image() -> None:
    image = np.full((48, 64, 3), 30, dtype=np.uint8)
    image[10:38, 20:44] = (220, 200, 40)
    truth = image[:, :, 0] > 128
    rough = np.zeros((48, 64), dtype=np.bool_)
    rough[13:40, 18:41] = True
    refined = ovam.dense_crf(image, rough)
    assert (refined != truth).sum() < 0.2 * (rough != truth).sum()


def test_the_crf_refuses_what_is_no_image_with_its_mask() -> None:
    image, mask = np.zeros((8, 6, 3), dtype=np.uint8), np.zeros((6, 8), dtype=np.bool_)
    with pytest.raises(InvalidArgumentError, match=r"mask is .*\(6, 8\).*\(8, 6\)"):
        ovam.dense_crf(image, mask)


@given(ANY_HEAT, st.floats(0, 1), st.floats(0, 1))
def test_a_higher_level_marks_fewer_pixels(heat: np.ndarray, one: float, other: float) -> None:
    low, high = (ovam.binarize(torch.from_numpy(heat), Absolute(level)) for level in sorted((one, other)))
    assert not (high & ~low).any()


@given(ANY_HEAT, st.sampled_from([0.25, 2.0, 64.0]))
def test_shares_and_otsu_do_not_ask_for_the_unit_of_the_heat(heat: np.ndarray, factor: float) -> None:
    one, other = torch.from_numpy(heat), torch.from_numpy(heat) * factor
    for threshold in (Share(0.5), Share(0.5, "minmax"), Otsu()):
        assert np.array_equal(ovam.binarize(one, threshold), ovam.binarize(other, threshold))


@given(ANY_HEAT)
def test_the_share_as_a_value_is_the_share_as_a_number(heat: np.ndarray) -> None:
    values = torch.from_numpy(heat)
    for tau, normalize in ((0.4, "max"), (0.6, "minmax")):
        assert np.array_equal(ovam.binarize(values, Share(tau, normalize)), ovam.binarize(values, tau, normalize=normalize))


def test_otsu_parts_two_groups_and_nothing_from_nothing() -> None:
    two = torch.tensor([[0.1, 0.12, 0.9], [0.11, 0.85, 0.1]])
    assert np.array_equal(ovam.binarize(two, Otsu()), two > 0.5)
    for flat in (torch.full((4, 5), 0.3), torch.zeros(4, 5), torch.ones(1, 1)):
        assert not ovam.binarize(flat, Otsu()).any()
    noise: Any = 100 + np.random.default_rng(0).random((300, 300))
    single = noise.astype(np.float32)  # which does not hold its own sums
    assert np.array_equal(ovam.binarize(single, Otsu()), ovam.binarize(single.astype(np.float64), Otsu()))


def test_a_threshold_carries_its_own_normalisation() -> None:
    with pytest.raises(InvalidArgumentError, match=r"^normalize is "):
        ovam.binarize(HEAT, Otsu(), normalize="minmax")
    with pytest.raises(InvalidArgumentError, match=r"^level is "):
        Absolute(math.nan)


def test_a_mask_is_one_array_whatever_the_normalisation() -> None:
    """The published code's maximum came back as a tuple of values and indices."""
    for normalize in ("max", "minmax"):
        mask = ovam.binarize(HEAT, normalize=normalize)
        assert (mask.dtype, mask.shape) == (np.bool_, HEAT.shape)


def pixels(*rows: str) -> np.ndarray:
    return np.array([[letter == "#" for letter in row] for row in rows])


RING = pixels("......", ".####.", ".#..##", ".####.", ".....#")


def test_holes_are_filled_but_not_bays() -> None:
    assert np.array_equal(filled(RING), pixels("......", ".####.", ".#####", ".####.", ".....#"))
    assert np.array_equal(filled(RING, maximum_area=1), RING)
    for turns in range(4):
        bay = np.rot90(pixels("###", "#..", "###"), turns)
        assert np.array_equal(filled(bay), bay)
    leaking = pixels("###.", "#.#.", "##..")  # a hole that touches the outside at a corner alone
    assert filled(leaking)[1, 1]
    assert not filled(np.zeros((3, 4), np.bool_)).any()
    assert filled(np.ones((3, 4), np.bool_)).all()


def test_a_hole_may_have_as_many_pixels_as_are_filled() -> None:
    assert np.array_equal(filled(RING, maximum_area=2), filled(RING))


def test_maps_are_resized_bilinearly_by_the_pixels_centres() -> None:
    assert resized(np.array([[0.0, 1.0]]), (1, 4)).tolist() == [[0, 0.25, 0.75, 1]]
    spike = np.eye(1, 9, 4) * 9
    assert resized(spike, (1, 3)).tolist() == [[0, 9, 0]]
    assert resized(spike, (3, 9)).shape == (3, 9)


def test_small_regions_are_dropped() -> None:
    spots = pixels("##...", "##..#", "....#", ".#...")
    assert np.array_equal(without_small_regions(spots, 3), pixels("##...", "##...", ".....", "....."))
    assert np.array_equal(without_small_regions(spots, 0), spots)
    assert not without_small_regions(spots, 5).any()


@given(arrays.arrays(np.bool_, st.tuples(st.integers(1, 9), st.integers(1, 9))), st.integers(0, 5))
def test_tidying_twice_is_tidying_once(mask: np.ndarray, size: int) -> None:
    whole, part = filled(mask), filled(mask, maximum_area=size)
    assert np.array_equal(filled(whole), whole)
    assert np.array_equal(filled(part, maximum_area=size), part)
    assert not (mask & ~part).any()
    assert not (part & ~whole).any()
    kept = without_small_regions(mask, size)
    assert np.array_equal(without_small_regions(kept, size), kept)
    assert not (kept & ~mask).any()


def test_tidying_drops_specks_before_it_fills_holes() -> None:
    assert np.array_equal(tidied(RING, 2, fill_holes=False), RING)
    assert [tidied(pixels("...", ".#."), size, fill_holes=False).sum() for size in (0, 1, 2)] == [1, 1, 0]
    speck_in_ring = pixels("####", "#..#", "#.#.", "####") | pixels("....", "....", "....", "....")
    assert np.array_equal(tidied(speck_in_ring, 0, fill_holes=True), filled(speck_in_ring))
    ring_with_speck = pixels("#####", "#...#", "#.#.#", "#...#", "#####")
    assert tidied(ring_with_speck, 2, fill_holes=True).all()
    assert tidied(ring_with_speck, 17, fill_holes=True).sum() == 0


def test_regions_are_split_largest_first() -> None:
    mask = np.array([[1, 0, 1, 1], [0, 1, 0, 0], [0, 0, 0, 1]], dtype=np.bool_)
    assert [int(one.sum()) for one in instances(mask)] == [4, 1]
    assert [int(one.sum()) for one in instances(mask, connectivity=4)] == [2, 1, 1, 1]
    assert [int(one.sum()) for one in instances(mask, minimum_area=2)] == [4]
    assert instances(np.zeros((3, 4), dtype=np.bool_)) == []
    with pytest.raises(InvalidArgumentError, match=r"^connectivity is "):
        instances(mask, connectivity=6)
    with pytest.raises(InvalidArgumentError, match=r"^mask is "):
        instances(mask[:0])


@given(arrays.arrays(np.bool_, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_regions_make_up_the_mask(mask: np.ndarray) -> None:
    total = sum((one.astype(int) for one in instances(mask)), np.zeros(mask.shape, dtype=int))
    assert np.array_equal(total, mask)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.int64])
def test_heat_may_be_a_tensor_of_any_type(dtype: torch.dtype) -> None:
    heat = torch.tensor([[1, 2], [3, 4]], dtype=dtype).requires_grad_(dtype.is_floating_point)
    assert ovam.binarize(heat, 0.5, attention=torch.ones(3, 3, dtype=dtype)).tolist() == [[False, True], [True, True]]
    assert ovam.binarize([[1, 2], [3, 4]], 0.5).tolist() == [[False, True], [True, True]]


def test_heat_in_double_precision_is_cut_in_it() -> None:
    heat = np.array([[1.0, 1.0 + 1e-12]])
    assert ovam.binarize(heat, 1.0).tolist() == [[False, True]]
    assert ovam.binarize(heat.astype(np.float32), 1.0).all()


def test_every_parameter_of_the_crf_is_its_own() -> None:
    denseCRF = pytest.importorskip("denseCRF")  # noqa: N806 - its name
    generator = np.random.default_rng(0)
    image = generator.integers(0, 255, (12, 16, 3), dtype=np.uint8)
    mask = generator.random((12, 16)) > 0.5
    values = (7.0, 9.0, 40.0, 2.0, 5.0, 3)
    probabilities = np.stack([~mask, mask], axis=-1).astype(np.float32)
    expected = denseCRF.densecrf(image, probabilities, values) == 1
    assert np.array_equal(ovam.dense_crf(image, mask, CrfParameters(*values)), expected)
    assert 0 < expected.sum() < expected.size


def test_without_simplecrf_the_extra_that_brings_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "denseCRF", None)
    with pytest.raises(MissingPackageError, match=r"a dense CRF needs the package simplecrf: pip install 'ovam-service\[crf\]'"):
        ovam.dense_crf(np.zeros((2, 2, 3), np.uint8), np.ones((2, 2), np.bool_))
