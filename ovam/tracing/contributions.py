"""How much each head of a cross-attention has a part in what its layer writes, and the layer in what goes on from it.

The idea, weights from the numerical relations between activations, is that of Meng et al. (GoCA, CVPR 2026, arXiv 2603.06178).
The formulas are this library's own (docs/method.md) and were not checked against that paper's code.
"""

from collections.abc import Callable
from dataclasses import dataclass
from threading import get_ident
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle


@dataclass(frozen=True, eq=False)
class Contribution:
    """Parts of one layer of cross-attention in what a model computed, at the evaluations whose queries were kept."""

    heads: Float[Tensor, "evaluations heads"]
    """Each kept head's part in what the layer writes: over all heads of the layer they add up to 1, and may be negative."""
    layer: Float[Tensor, " evaluations"]
    """The layer's part in the pixels' vectors behind it; negative where it takes away from them."""

    @classmethod
    def of(cls, rows: Float[Tensor, "evaluations heads_and_layer"]) -> "Contribution":
        """Split what `Contributing` measures of one image."""
        return cls(rows[:, :-1].contiguous(), rows[:, -1].contiguous())

    @property
    def nbytes(self) -> int:
        """Memory that it takes in bytes."""
        return self.heads.nbytes + self.layer.nbytes

    def to(self, device: torch.device | str | None) -> "Contribution":
        """Return it on another device; its type stays."""
        return Contribution(self.heads.to(device), self.layer.to(device))


Rows = Callable[[], slice | None]
"""Which rows of the batch that a module sees are measured; `None`: none of them."""
Keep = Callable[["Contributing", Float[Tensor, "rows heads_and_layer"]], None]


@dataclass(frozen=True, eq=False)
class Contributing:
    """One layer of cross-attention whose contributions are wanted."""

    name: str
    attention: Any
    following: nn.Module
    """The norm that gets the pixels' vectors after the layer has written to them."""
    heads: tuple[int, ...] | None = None
    """Which heads; `None` for all."""

    @classmethod
    def of(cls, unet: nn.Module, name: str, attention: Any, heads: tuple[int, ...] | None) -> "Contributing":  # noqa: ANN401
        """Find a cross-attention's surroundings in a UNet, or a transformer of cross-attention."""
        block: Any = unet.get_submodule(name.rpartition(".")[0])
        return cls(name, attention, getattr(block, "norm3", None) or block.norm2, heads)  # norm2 of PixArt and Sana

    @property
    def module(self) -> nn.Module:
        """The module by which the heads' values are written now; an adapter replaces it."""
        return self.attention.to_out[0]

    def watched(self, rows: Rows, keep: Keep) -> list[RemovableHandle]:
        """Measure at every evaluation, and `keep` what is found. Threads that share the model are kept apart."""
        written: dict[int, tuple[Tensor, Tensor]] = {}

        @torch.compiler.disable
        def writes(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
            wanted = rows()
            if wanted is not None:
                values = args[0].detach()[wanted]
                with torch.no_grad():
                    written[get_ident()] = self._parts(module, values, output.detach()[wanted])

        @torch.compiler.disable
        def goes_on(_module: nn.Module, args: tuple[Any, ...]) -> None:
            found, wanted = written.pop(get_ident(), None), rows()
            if found is not None and wanted is not None:
                heads, vectors = found
                stream = args[0].detach()[wanted].to(vectors.dtype)
                layer = (vectors * stream).sum(dim=(1, 2)) / stream.square().sum(dim=(1, 2)).clamp_min(torch.finfo().tiny)
                keep(self, torch.cat([heads, layer[:, None]], dim=1))

        return [self.module.register_forward_hook(writes), self.following.register_forward_pre_hook(goes_on)]

    def _parts(self, module: Any, values: Tensor, output: Tensor) -> tuple[Tensor, Tensor]:  # noqa: ANN401 - a linear layer
        """Return the heads' parts, and the vectors that all heads together write.

        A head's products with what is written are sums over pixels of its values times what is written, projected back.
        """
        matrix, start = written_by(module, values)
        vectors = output.to(matrix.dtype) - start
        products = (values.to(matrix.dtype) * (vectors @ matrix)).sum(dim=1).unflatten(-1, (self.attention.heads, -1)).sum(dim=-1)
        parts = products / products.sum(dim=-1, keepdim=True).clamp_min(torch.finfo().tiny)
        return (parts if self.heads is None else parts[:, list(self.heads)]), vectors


def written_by(
    module: Any,  # noqa: ANN401 - a linear layer
    like: Tensor,
) -> tuple[Float[Tensor, "channels values"], Float[Tensor, " channels"]]:
    """Return the matrix and the constant that a linear layer computes by, in single precision at least.

    Weights that are adapted, quantised or offloaded are not read: what the layer makes of unit vectors is.
    """
    weight = getattr(module, "weight", None)
    width, exact = like.shape[-1], torch.promote_types(like.dtype, torch.float32)
    # `forward`, because the module's hooks watch the generation's own calls
    start = module.forward(like.new_zeros(1, width)).to(exact)[0]
    if type(module) is nn.Linear and type(weight) is nn.Parameter and weight.device == like.device:
        return weight.to(exact), start
    return (module.forward(torch.eye(width, dtype=like.dtype, device=like.device)).to(exact) - start).T, start
