"""Images of every kind become RGB; heat is shown over its image."""

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import ovam
from ovam.core.pictures import rgb_of
from ovam.errors import InvalidArgumentError

RED = np.zeros((4, 6, 3), np.uint8)
RED[..., 0] = 200
GREY = np.arange(24, dtype=np.uint8).reshape(4, 6) * 10
CLEAR = np.dstack([RED, np.full((4, 6), 255, np.uint8)])
CLEAR[:, 3:, 3] = 0
CLEAR[:, 2, 3] = 51
WIDE = (GREY.astype(np.uint16) * 257).astype(np.uint16)
COLOUR = np.dstack([GREY] * 3)


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (RED, RED),
        (GREY, COLOUR),
        (RED / 255, RED),
        (RED.astype(np.float32) / 255, RED),
        ((GREY + 0.4) / 255, COLOUR),
        ((GREY - 0.4).clip(0) / 255, COLOUR),
        (Image.fromarray(RED), RED),
        (Image.fromarray(GREY), COLOUR),
        (Image.fromarray(WIDE), COLOUR),
        (Image.fromarray((GREY / 255).astype(np.float32)), COLOUR),
        (Image.fromarray(GREY > 100), np.dstack([(GREY > 100) * np.uint8(255)] * 3)),
        (Image.fromarray(RED).quantize(2), RED),
    ],
)
def test_an_image_of_any_kind_becomes_rgb(image: Any, expected: np.ndarray) -> None:
    found = rgb_of(image)
    assert (found.dtype, found.shape) == (np.uint8, (4, 6, 3))
    assert np.array_equal(found, expected)


def test_what_is_transparent_is_white() -> None:
    found = rgb_of(Image.fromarray(CLEAR))
    assert found[0, 0].tolist() == [200, 0, 0]
    assert found[0, 5].tolist() == [255, 255, 255]
    assert found[0, 2].tolist() == [244, 204, 204]


@pytest.mark.parametrize(
    "image",
    [np.zeros((4, 6, 4), np.uint8), np.zeros((0, 6, 3), np.uint8), np.zeros((3, 4, 6), np.uint8), np.zeros(6, np.uint8),
     np.full((4, 6), 1.5), np.full((4, 6), -0.1), np.full((4, 6), np.nan), np.zeros((4, 6), np.int64),
     np.zeros((4, 6), np.uint16), np.zeros((4, 6), np.bool_)],
)  # fmt: skip
def test_what_is_no_image_is_refused(image: np.ndarray) -> None:
    with pytest.raises(InvalidArgumentError, match=r"^image is "):
        rgb_of(image)


def brightness(pixels: np.ndarray) -> np.ndarray:
    return pixels.astype(int).sum(axis=2)


def test_hotter_pixels_are_brighter_whatever_the_unit_and_type_of_heat() -> None:
    heat = np.linspace(0.2, 0.9, 24).reshape(4, 6)
    shown = ovam.overlay(np.zeros((4, 6, 3), np.uint8), heat)
    assert (np.diff(brightness(shown).ravel()) >= 0).all()
    assert brightness(shown)[0, 0] < 20
    assert shown[3, 5].tolist() == pytest.approx([0.55 * v for v in (252, 255, 164)], abs=1)  # inferno's hottest, red first
    for same in (7 * heat + 3, torch.from_numpy(heat).requires_grad_(), torch.from_numpy(heat).half()):
        assert np.abs(ovam.overlay(np.zeros((4, 6, 3), np.uint8), same).astype(int) - shown).max() <= 2
    assert np.array_equal(ovam.overlay(RED, np.full((4, 6), 5.0)), ovam.overlay(RED, np.zeros((4, 6))))


def test_the_image_shows_through_and_stays_as_it_was() -> None:
    image = RED.copy()
    shown = ovam.overlay(image, np.zeros((4, 6)))
    assert shown[0, 0].tolist() == pytest.approx([0.45 * 200, 0, 0.55 * 4], abs=1)
    assert np.array_equal(image, RED)
    assert np.array_equal(ovam.overlay(Image.fromarray(RED), np.zeros((4, 6))), shown)


def test_heat_is_resized_to_its_image() -> None:
    assert ovam.overlay(RED, np.zeros((6, 4))).shape == RED.shape
    shown = ovam.overlay(np.zeros((40, 80, 3), np.uint8), np.array([[0.0, 1.0]]))
    assert shown.shape == (40, 80, 3)
    assert (np.diff(brightness(shown), axis=1) >= 0).all()
    assert brightness(shown)[0, 0] < brightness(shown)[0, -1]


def test_a_masks_outline_is_white_and_its_inside_is_not() -> None:
    mask = np.zeros((8, 9), np.bool_)
    mask[1:6, 2:] = True  # to the right border, along which it has an outline, too
    edge = mask.copy()
    edge[2:5, 3:8] = False
    image, heat = np.zeros((8, 9, 3), np.uint8), np.zeros((8, 9))
    for given in (mask, torch.from_numpy(mask), mask.astype(np.uint8)):
        assert np.array_equal((ovam.overlay(image, heat, given) == 255).all(axis=2), edge)


def test_heat_and_masks_that_do_not_fit_are_refused() -> None:
    for heat in (np.zeros((4, 6, 1)), np.zeros((0, 6)), np.full((4, 6), np.nan), np.full((4, 6), np.inf)):
        with pytest.raises(InvalidArgumentError, match=r"^heat is "):
            ovam.overlay(RED, heat)
    with pytest.raises(InvalidArgumentError, match=r"^mask is \(6, 4\); allowed: .*\(4, 6\)"):
        ovam.overlay(RED, np.zeros((4, 6)), np.zeros((6, 4), np.bool_))
