"""A dense CRF's mean-field inference on any device, for all masks of one image at once (section 3.4)."""

import math

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ovam.core.crf import PAPER, CrfParameters
from ovam.core.pictures import Picture, rgb_of
from ovam.errors import InvalidArgumentError
from ovam.fitting.lattice import Lattice, lattice_of

_SURE = math.log(0.99 / 0.01)
"""How far a pixel of a hard mask is trusted, as the logarithm of its odds: SimpleCRF clips probabilities to 0.01 and 0.99."""


def dense_crfs(
    image: Picture,
    masks: Bool[np.ndarray, "masks height width"],
    parameters: CrfParameters = PAPER,
    device: torch.device | str = "cpu",
) -> Bool[np.ndarray, "masks height width"]:
    """Do for several masks of one image what `ovam.dense_crf` does for one, with torch on a device.

    The masks share the work that depends on the image alone, about half of what one mask takes. Up to rounding the
    result is SimpleCRF's.

    Raises `InvalidArgumentError` when masks are not boolean and of the image's size.

    >>> from ovam.fitting.mean_field import dense_crfs
    >>> image = np.zeros((32, 32, 3), np.uint8)
    >>> image[8:24, 8:24] = 255
    >>> rough = np.zeros((1, 32, 32), bool)
    >>> rough[:, 10:24, 8:22] = True
    >>> bool((dense_crfs(image, rough)[0] == (image[..., 0] > 0)).all())
    True
    """
    pixels = rgb_of(image)
    masks = np.asarray(masks)
    if masks.dtype != np.bool_ or masks.ndim != 3 or masks.shape[1:] != pixels.shape[:2]:
        raise InvalidArgumentError(
            "masks", (masks.dtype.name, masks.shape), f"bool, (masks, {pixels.shape[0]}, {pixels.shape[1]})"
        )
    with torch.inference_mode():
        colours = torch.tensor(np.array(pixels)).to(device).float()
        inside = torch.from_numpy(masks).to(device).flatten(1).T
        return _inferred(_kernels(colours, parameters), inside, parameters.iterations).T.reshape(masks.shape).cpu().numpy()


class _Kernel:
    """A Gaussian kernel between all pixels, normalised on both sides, times a weight."""

    def __init__(self, lattice: Lattice, weight: float) -> None:
        ones = torch.ones_like(lattice.weights[:, :1])
        self._lattice = lattice
        self._norm = (lattice.filtered(ones) + 1e-20).rsqrt()
        self._weight = weight
        self._whole = self._applied(ones)

    def difference(self, inside: Float[Tensor, "pixels masks"]) -> Float[Tensor, "pixels masks"]:
        """How much more its neighbours tell a pixel to be inside than outside, given their probabilities to be inside."""
        return 2 * self._applied(inside) - self._whole

    def _applied(self, values: Tensor) -> Tensor:
        return self._lattice.filtered(values * self._norm) * (self._norm * self._weight)


def _kernels(colours: Float[Tensor, "height width 3"], parameters: CrfParameters) -> list[_Kernel]:
    """Return the kernel over position and colour, and the one over position alone."""
    height, width, _ = colours.shape
    rows, columns = torch.meshgrid(
        torch.arange(height, device=colours.device), torch.arange(width, device=colours.device), indexing="ij"
    )
    places = torch.stack([columns, rows], dim=-1).flatten(0, 1).float()
    bilateral = [places / parameters.bilateral_distance, colours.flatten(0, 1) / parameters.bilateral_colour]
    return [
        _Kernel(lattice_of(torch.cat(bilateral, dim=1)), parameters.bilateral_weight),
        _Kernel(lattice_of(places / parameters.gaussian_distance), parameters.gaussian_weight),
    ]


def _inferred(kernels: list[_Kernel], masks: Bool[Tensor, "pixels masks"], iterations: int) -> Bool[Tensor, "pixels masks"]:
    """Iterate the mean field: with two labels the odds of one are all there is."""
    trusted = torch.where(masks, _SURE, -_SURE).float()
    odds = trusted
    for _ in range(iterations):
        inside = odds.sigmoid()
        odds = trusted + sum(kernel.difference(inside) for kernel in kernels)
    return odds > 0
