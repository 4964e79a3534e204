"""The dense CRF in torch is SimpleCRF's, and its filter is the Gaussian that it stands for."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ovam.core.crf import CrfParameters, dense_crf
from ovam.errors import InvalidArgumentError
from ovam.fitting.lattice import lattice_of
from ovam.fitting.mean_field import dense_crfs, fitted_together

REAL = Path(__file__).parents[2] / "docs" / "demo.png"  # generated images with their masks, side by side
CHOICES = [CrfParameters(), CrfParameters(5.0, 40.0, 5.0, 1.0, 2.0, 10), CrfParameters(10.0, 30.0, 0.5, 0.0, 1.0, 1)]


def image_and_masks(left: int, top: int, width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
    with Image.open(REAL) as sheet:
        pixels = np.asarray(sheet.convert("RGB").crop((left, top, left + width, top + height)))
    grey = pixels.astype(float).mean(axis=-1)
    rows, columns = np.mgrid[:height, :width]
    disc = (rows - height / 2) ** 2 + (columns - width / 2) ** 2 < (height / 3) ** 2
    return pixels, np.stack([grey > np.median(grey), disc, disc & (grey < grey.mean()), np.zeros_like(disc)])


@pytest.mark.parametrize("parameters", CHOICES)
@pytest.mark.parametrize("box", [(20, 60, 128, 128), (300, 200, 96, 64), (500, 80, 33, 57)])
def test_the_masks_are_those_of_simplecrf(box: tuple[int, int, int, int], parameters: CrfParameters) -> None:
    image, masks = image_and_masks(*box)
    for found, mask in zip(dense_crfs(image, masks, parameters), masks, strict=True):
        assert (found == dense_crf(image, mask, parameters)).mean() >= 0.999


def test_masks_together_are_what_each_is_alone() -> None:
    image, masks = image_and_masks(20, 60, 64, 48)
    alone = [dense_crfs(image, mask[None])[0] for mask in masks]
    assert np.array_equal(dense_crfs(image, masks), np.stack(alone))


def test_each_mask_is_fitted_with_its_own_parameters_in_its_own_place() -> None:
    image, masks = image_and_masks(20, 60, 64, 48)
    choices = [CrfParameters(iterations=1), CrfParameters(), CrfParameters(iterations=1), CrfParameters()]
    alone = [dense_crfs(image, mask[None], each)[0] for mask, each in zip(masks, choices, strict=True)]
    assert not np.array_equal(alone[0], masks[0])
    assert np.array_equal(fitted_together(image, [*masks], choices), np.stack(alone))


def test_an_image_may_have_one_pixel() -> None:
    assert dense_crfs(np.zeros((1, 1, 3), np.uint8), np.ones((1, 1, 1), bool)).all()


@pytest.mark.parametrize("dimensions", [1, 2, 5])
def test_the_filter_is_nearly_a_gaussian(dimensions: int) -> None:
    places = 2 * torch.randn(400, dimensions, generator=torch.Generator().manual_seed(0))
    lattice = lattice_of(places)
    assert torch.allclose(lattice.weights.sum(dim=1), torch.ones(400), atol=1e-4)
    assert float(lattice.weights.min()) > -1e-4
    values = torch.rand(400, 1, generator=torch.Generator().manual_seed(1))
    kernel = torch.exp(-torch.cdist(places, places).square() / 2)
    found = (lattice.filtered(values) / lattice.filtered(torch.ones(400, 1)))[:, 0]
    expected = (kernel @ values)[:, 0] / kernel.sum(dim=1)
    assert float((found - expected).abs().mean()) < 0.05


def test_masks_of_another_size_are_refused() -> None:
    with pytest.raises(InvalidArgumentError, match=r"^masks is "):
        dense_crfs(np.zeros((8, 8, 3), np.uint8), np.zeros((1, 8, 9), bool))
