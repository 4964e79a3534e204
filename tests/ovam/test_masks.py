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


def test_the_published_settings_are_those_of_the_paper() -> None:
    settings = {method.name: (method.tau, method.alpha, method.crf) for method in ovam.METHODS}
    assert settings["ovam-words"] == (0.4, 0.85, True)
    assert settings["ovam-optimized"] == (0.8, 0.95, True)
    assert settings["daam-words"] == (0.4, None, False)
    assert settings["attn2mask-words"] == (pytest.approx(0.4), None, True)
    assert settings["attn2mask-optimized"] == (pytest.approx(0.6), None, True)


def test_attn2mask_marks_where_the_class_beats_the_background() -> None:
    method = next(method for method in ovam.METHODS if method.name == "attn2mask-words")
    heat = (HEAT - 0.2) / 0.8
    assert ovam.binarize(HEAT, method.tau, normalize=method.normalize).equal(heat > 1 - heat - 0.2)
