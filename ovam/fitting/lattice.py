"""Gaussian filtering of values that have a place in a space of few dimensions, on a permutohedral lattice.

After Adams, Baek and Davis, "Fast High-Dimensional Filtering Using the Permutohedral Lattice", Eurographics 2010, and with the
constants of Krähenbühl and Koltun's dense CRF, so that results are the same to rounding.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

# One factor for each coordinate of a lattice point, whose code is their weighted sum modulo 2^64. Codes of neighbours then lie
# a constant apart. Of a million points, two share a code with a probability of 1e-7.
_FACTORS = (-7046029254386353131, 4354685564936845319, -4417276706812531889, 8517097267634966621, -5884567396141128719)


@dataclass(frozen=True, eq=False)
class Lattice:
    """The lattice points around some places; `filtered` blurs values at these places with a Gaussian of standard deviation 1."""

    offsets: Int[Tensor, "places corners"]
    """The points around each place."""
    weights: Float[Tensor, "places corners"]
    """How near each of them is; they add up to 1."""
    neighbours: Int[Tensor, "corners 2 points"]
    """The points before and after each along every axis; one that is not there has the number `points`."""

    def filtered(self, values: Float[Tensor, "places channels"]) -> Float[Tensor, "places channels"]:
        """Spread values to the lattice, blur there along each axis, and take them back."""
        corners, points = self.neighbours.shape[0], self.neighbours.shape[2]
        grid = values.new_zeros(points + 1, values.shape[1])
        for offset, weight in zip(self.offsets.T, self.weights.T, strict=True):
            grid.index_add_(0, offset, values * weight[:, None])
        for before, after in self.neighbours:
            grid[:-1] += 0.5 * (grid[before] + grid[after])
        found = torch.zeros_like(values)
        for offset, weight in zip(self.offsets.T, self.weights.T, strict=True):
            found += grid[offset] * weight[:, None]
        return found / (1 + 2.0 ** (1 - corners))


def lattice_of(places: Float[Tensor, "places dimensions"]) -> Lattice:
    """Build the lattice around places, given in standard deviations of the Gaussian; 5 dimensions at most."""
    dimensions = places.shape[1]
    corners = dimensions + 1
    elevated = _elevated(places)
    nearest, rank = _simplex(elevated)
    factors = torch.tensor(_FACTORS[:dimensions], device=places.device)
    base = (nearest[:, :-1] * factors).sum(dim=1)
    codes = []
    for corner in range(corners):  # a corner is the nearest point plus `corner`, less `corners` where a rank is high
        step = torch.where(rank[:, :-1] <= dimensions - corner, corner, corner - corners)
        codes.append(base + (step * factors).sum(dim=1))
    points, offsets = torch.stack(codes, dim=1).unique(return_inverse=True)
    return Lattice(offsets, _weights(elevated - nearest, rank), _neighbours(points, factors))


def _elevated(places: Float[Tensor, "places dimensions"]) -> Float[Tensor, "places corners"]:
    """Map places to the plane of the lattice, in which coordinates add up to 0."""
    dimensions = places.shape[1]
    deviation = (2 / 3) ** 0.5 * (dimensions + 1)
    total, found = torch.zeros_like(places[:, 0]), []
    for axis in range(dimensions, 0, -1):
        scaled = places[:, axis - 1] * (deviation / (axis * (axis + 1)) ** 0.5)
        found.append(total - axis * scaled)
        total = total + scaled
    return torch.stack([total, *reversed(found)], dim=1)


def _simplex(elevated: Float[Tensor, "places corners"]) -> tuple[Int[Tensor, "places corners"], Int[Tensor, "places corners"]]:
    """Find the nearest lattice point whose coordinates are multiples of `corners`, and the rank of each coordinate's rest."""
    corners = elevated.shape[1]
    parts = elevated / corners
    up, down = parts.ceil() * corners, parts.floor() * corners
    nearest = torch.where(up - elevated < elevated - down, up, down)
    rest = elevated - nearest
    rank = torch.zeros_like(elevated, dtype=torch.int64)
    for one in range(corners):
        for other in range(one + 1, corners):
            lower = rest[:, one] < rest[:, other]
            rank[:, one] += lower
            rank[:, other] += ~lower
    nearest = nearest.long()
    rank += nearest.sum(dim=1, keepdim=True) // corners  # 0 where the point is in the plane; else it is moved back to it
    turn = (rank < 0).long() - (rank >= corners).long()
    return nearest + turn * corners, rank + turn * corners


def _weights(rest: Float[Tensor, "places corners"], rank: Int[Tensor, "places corners"]) -> Float[Tensor, "places corners"]:
    """Return barycentric coordinates in the simplex."""
    corners = rest.shape[1]
    found = rest.new_zeros(len(rest), corners + 1)
    found.scatter_add_(1, corners - 1 - rank, rest / corners)
    found.scatter_add_(1, corners - rank, -rest / corners)
    found[:, 0] += 1 + found[:, corners]
    return found[:, :corners]


def _neighbours(points: Int[Tensor, " points"], factors: Int[Tensor, " dimensions"]) -> Int[Tensor, "corners 2 points"]:
    """Find each point's neighbours along every axis among the sorted codes."""
    corners = len(factors) + 1
    steps = [corners * factor - factors.sum() for factor in (*factors, torch.zeros_like(factors[0]))]
    found = []
    for step in steps:
        for code in (points + step, points - step):
            place = torch.searchsorted(points, code).clamp_(max=len(points) - 1)
            found.append(torch.where(points[place] == code, place, len(points)))
    return torch.stack(found).unflatten(0, (corners, 2))
