"""Masks by share of the hottest pixel (Eq. 8, 9), scores, the CRF, and the published settings."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import ovam
from ovam.errors import InvalidArgumentError

HEAT = torch.tensor([[0.2, 0.4, 0.5], [0.39, 0.8, 1.0]])
ANY_HEAT = arrays.arrays(np.float32, (5, 7), elements=st.integers(0, 64).map(lambda number: number / 64))


def test_a_mask_holds_the_pixels_that_reach_the_share_of_the_hottest() -> None:
    assert ovam.binarize(HEAT, tau=0.4).tolist() == [[False, True, True], [False, True, True]]
    assert ovam.binarize(HEAT * 7, tau=0.4).equal(ovam.binarize(HEAT, tau=0.4))
    assert ovam.binarize(HEAT, tau=1.0).sum() == 1
    assert ovam.binarize(HEAT, tau=0.0).all()


def test_min_max_takes_a_high_floor_away() -> None:
    lifted = 100 + HEAT
    assert ovam.binarize(lifted, tau=0.4).all()
    assert ovam.binarize(lifted, tau=0.4, normalize="minmax").equal(HEAT >= 0.2 + 0.4 * 0.8)


def test_self_attention_weighs_the_heat_between_alpha_and_1() -> None:
    attention = torch.tensor([[10.0, 10.0, 20.0], [10.0, 20.0, 10.0]])
    weighed = HEAT * torch.tensor([[0.5, 0.5, 1.0], [0.5, 1.0, 0.5]])
    assert ovam.binarize(HEAT, tau=0.6, attention=attention, alpha=0.5).equal(weighed >= 0.6 * 0.8)
    assert ovam.binarize(HEAT, attention=attention, alpha=1.0).equal(ovam.binarize(HEAT))
    assert ovam.binarize(torch.ones(8, 12), attention=attention).shape == (8, 12)


def test_a_map_without_heat_marks_nothing() -> None:
    assert not ovam.binarize(torch.zeros(4, 5)).any()
    assert not ovam.binarize(torch.full((4, 5), 0.3), normalize="minmax").any()
    assert ovam.binarize(torch.full((4, 5), 0.3)).all()


@settings(deadline=None)
@given(
    arrays.arrays(np.float32, (5, 7), elements=st.floats(0, 1, width=32)),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_a_higher_share_marks_fewer_pixels(heat: np.ndarray, one: float, other: float) -> None:
    low, high = (ovam.binarize(torch.from_numpy(heat), tau=tau) for tau in sorted((one, other)))
    assert not (high & ~low).any()


@pytest.mark.parametrize(
    ("heat", "options", "field"),
    [
        (HEAT, {"tau": 1.1}, "tau"),
        (HEAT, {"alpha": -0.1}, "alpha"),
        (-HEAT, {}, "heatmap"),
        (HEAT * math.nan, {}, "heatmap"),
        (HEAT[:0], {}, "heatmap"),
    ],
)
def test_values_outside_are_named(heat: torch.Tensor, options: dict[str, float], field: str) -> None:
    with pytest.raises(InvalidArgumentError, match=f"^{field} is "):
        ovam.binarize(heat, **options)


def test_the_score_is_the_mean_heat_inside_as_a_share_of_the_hottest() -> None:
    assert ovam.score(HEAT * 2, HEAT > 0.45) == pytest.approx((0.5 + 0.8 + 1) / 3)
    assert ovam.score(HEAT, HEAT > 2) == 0
    assert ovam.score(torch.zeros(2, 3), HEAT > 0.45) == 0


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


@settings(deadline=None)
@given(ANY_HEAT, st.floats(0, 1), st.floats(0, 1))
def test_a_higher_level_marks_fewer_pixels(heat: np.ndarray, one: float, other: float) -> None:
    low, high = (ovam.binarize(torch.from_numpy(heat), ovam.Absolute(level)) for level in sorted((one, other)))
    assert not (high & ~low).any()


@settings(deadline=None)
@given(ANY_HEAT, st.sampled_from([0.25, 2.0, 64.0]))
def test_shares_and_otsu_do_not_ask_for_the_unit_of_the_heat(heat: np.ndarray, factor: float) -> None:
    one, other = torch.from_numpy(heat), torch.from_numpy(heat) * factor
    for threshold in (ovam.ShareOfMaximum(0.5), ovam.ShareOfMaximum(0.5, "minmax"), ovam.Otsu()):
        assert ovam.binarize(one, threshold).equal(ovam.binarize(other, threshold))


@settings(deadline=None)
@given(ANY_HEAT)
def test_the_share_as_a_value_is_the_share_as_a_number(heat: np.ndarray) -> None:
    values = torch.from_numpy(heat)
    for tau, normalize in ((0.4, "max"), (0.6, "minmax")):
        assert ovam.binarize(values, ovam.ShareOfMaximum(tau, normalize)).equal(ovam.binarize(values, tau, normalize=normalize))


def test_otsu_parts_two_groups_and_nothing_from_nothing() -> None:
    two = torch.tensor([[0.1, 0.12, 0.9], [0.11, 0.85, 0.1]])
    assert ovam.binarize(two, ovam.Otsu()).equal(two > 0.5)
    for flat in (torch.full((4, 5), 0.3), torch.zeros(4, 5), torch.ones(1, 1)):
        assert not ovam.binarize(flat, ovam.Otsu()).any()


def test_a_threshold_carries_its_own_normalisation() -> None:
    with pytest.raises(InvalidArgumentError, match=r"^normalize is "):
        ovam.binarize(HEAT, ovam.Otsu(), normalize="minmax")
    with pytest.raises(InvalidArgumentError, match=r"^level is "):
        ovam.Absolute(math.nan)
    with pytest.raises(InvalidArgumentError, match=r"^sign is "):
        ovam.binarize(HEAT, sign=2)


def test_a_mask_is_one_tensor_whatever_the_normalisation() -> None:
    """The published code's maximum came back as a tuple of values and indices."""
    for normalize in ("max", "minmax"):
        mask = ovam.binarize(HEAT, normalize=normalize)
        assert (mask.dtype, mask.shape) == (torch.bool, HEAT.shape)


def pixels(*rows: str) -> torch.Tensor:
    return torch.tensor([[letter == "#" for letter in row] for row in rows])


RING = pixels("......", ".####.", ".#..##", ".####.", ".....#")


def test_holes_are_filled_but_not_bays() -> None:
    assert ovam.fill_holes(RING).equal(pixels("......", ".####.", ".#####", ".####.", ".....#"))
    assert ovam.fill_holes(RING, maximum_area=1).equal(RING)
    bay = pixels("###", "#..", "###")
    assert ovam.fill_holes(bay).equal(bay)
    assert not ovam.fill_holes(torch.zeros(3, 4, dtype=torch.bool)).any()
    assert ovam.fill_holes(torch.ones(3, 4, dtype=torch.bool)).all()


def test_small_regions_are_dropped() -> None:
    spots = pixels("##...", "##..#", "....#", ".#...")
    assert ovam.remove_small(spots, 3).equal(pixels("##...", "##...", ".....", "....."))
    assert ovam.remove_small(spots, 0).equal(spots)
    assert not ovam.remove_small(spots, 5).any()
    for tidy in (ovam.remove_small, ovam.fill_holes):
        with pytest.raises(InvalidArgumentError, match="_area is "):
            tidy(spots, -1)


@settings(deadline=None)
@given(arrays.arrays(np.bool_, st.tuples(st.integers(1, 9), st.integers(1, 9))), st.integers(0, 5))
def test_tidying_twice_is_tidying_once(mask: np.ndarray, size: int) -> None:
    given_mask = torch.from_numpy(mask)
    filled, part = ovam.fill_holes(given_mask), ovam.fill_holes(given_mask, maximum_area=size)
    assert ovam.fill_holes(filled).equal(filled)
    assert ovam.fill_holes(part, maximum_area=size).equal(part)
    assert not (given_mask & ~part).any()
    assert not (part & ~filled).any()
    kept = ovam.remove_small(given_mask, size)
    assert ovam.remove_small(kept, size).equal(kept)
    assert not (kept & ~given_mask).any()
