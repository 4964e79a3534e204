"""Muon (Jordan et al., 2024): momentum whose matrices are orthogonalised before the step."""

from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor, nn

STEPS = 5
COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the quintic iteration, chosen for speed near zero
SMALLEST = 16  # rows or columns; smaller ones are vectors in disguise


def orthogonalised(matrices: Tensor) -> Tensor:
    """Matrices (..., rows, columns) with the same singular vectors and singular values near one (Newton-Schulz iteration)."""
    a, b, c = COEFFICIENTS
    x = matrices / (matrices.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    turned = x.shape[-2] > x.shape[-1]
    x = x.mT if turned else x
    for _ in range(STEPS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if turned else x


def orthogonalised_by_shape(matrices: list[Tensor]) -> list[Tensor]:
    """All matrices orthogonalised; on a GPU those of one shape at once, since there small products cost mostly their launch."""
    if not matrices[0].is_cuda:
        return [orthogonalised(matrix) for matrix in matrices]
    places: dict[torch.Size, list[int]] = {}
    for place, matrix in enumerate(matrices):
        places.setdefault(matrix.shape, []).append(place)
    done = {}
    for alike in places.values():
        done |= zip(alike, orthogonalised(torch.stack([matrices[k] for k in alike])), strict=True)
    return [done[k] for k in range(len(matrices))]


def is_matrix(parameter: Tensor) -> bool:
    """Whether Muon takes a parameter: a matrix or a convolution's kernel."""
    return parameter.ndim >= 2 and min(parameter.shape[0], parameter[0].numel()) >= SMALLEST


class Muon(torch.optim.Optimizer):
    """Muon; data-parallel processes orthogonalise every other matrix each and tell each other.

    A step moves a matrix as much as one of AdamW of the same learning rate would (root mean square 0.2).
    """

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float, momentum: float = 0.95, weight_decay: float = 0.01) -> None:
        super().__init__(list(parameters), {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    # pyrefly: ignore[bad-override]  # no closure is ever passed
    def step(self, closure: None = None) -> None:  # noqa: ARG002 - the interface of optimisers
        """Take one step."""
        for group in self.param_groups:
            ahead = [self._ahead(parameter, group["momentum"]) for parameter in group["params"]]
            for parameter, change in zip(group["params"], orthogonalised_by_all(ahead), strict=True):
                scale = 0.2 * max(len(parameter), parameter[0].numel()) ** 0.5
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(change.view_as(parameter), alpha=-group["lr"] * scale)

    def _ahead(self, parameter: nn.Parameter, momentum: float) -> Tensor:
        """The gradient with Nesterov's momentum, as a matrix."""
        state, gradient = self.state[parameter], parameter.grad
        if gradient is None:
            gradient = torch.zeros_like(parameter)
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(parameter)
        state["momentum"].lerp_(gradient, 1 - momentum)
        return gradient.lerp(state["momentum"], momentum).reshape(len(parameter), -1)


def orthogonalised_by_all(matrices: list[Tensor]) -> list[Tensor]:
    """All matrices orthogonalised, the work divided among the processes."""
    if not dist.is_initialized():
        return orthogonalised_by_shape(matrices)
    rank, processes = dist.get_rank(), dist.get_world_size()
    by_cost = sorted(range(len(matrices)), key=lambda i: matrices[i].numel() * min(matrices[i].shape))
    mine = set(by_cost[rank::processes])
    flat = torch.cat([(orthogonalised(m) if i in mine else torch.zeros_like(m)).reshape(-1) for i, m in enumerate(matrices)])
    dist.all_reduce(flat)
    return [piece.view_as(m) for piece, m in zip(flat.split([m.numel() for m in matrices]), matrices, strict=True)]
