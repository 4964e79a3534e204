"""Key projections as they were when an image was captured, wherever their weights are and whatever type they have."""

from collections.abc import Iterator
from functools import lru_cache
from itertools import chain
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

CLOSE = 1e-3  # relative difference that kernels and devices make in single precision


class CapturedKeys(nn.Linear):
    """What a key projection with active adapters computed at capture, as one matrix of its own."""


def projected(to_k: nn.Module, embedding: Float[Tensor, "tokens text_width"]) -> Float[Tensor, "tokens channels"]:
    """Call a key projection on an embedding, in its own place and type.

    The module itself is called, never its weight read: so hooks bring offloaded weights, casts and quantised kernels work, and
    adapters count.
    """
    return to_k(embedding.to(place_of(to_k), type_of(to_k)))


class FusedKeys(nn.Module):
    """The keys' half of a projection that makes keys and values at once."""

    def __init__(self, to_kv: nn.Module) -> None:
        super().__init__()
        self.to_kv = to_kv
        self.in_features = text_width(to_kv)
        self.out_features = int(getattr(to_kv, "out_features", 0)) // 2

    def forward(self, embedding: Tensor) -> Tensor:
        """Project an embedding to keys."""
        return self.to_kv(embedding).chunk(2, dim=-1)[0]


def is_fused(attention: Any) -> bool:  # noqa: ANN401 - an attention
    """Whether an attention projects by what diffusers fused: unfusing gives it its processor back, and leaves the mark."""
    return getattr(attention, "fused_projections", False) and "Fused" in type(getattr(attention, "processor", None)).__name__


def key_projection(attention: Any) -> nn.Module:  # noqa: ANN401 - a cross-attention
    """Return the module by which a cross-attention projects its keys now."""
    to_k = attention.to_k
    if hasattr(to_k, "captured"):  # made for what it is now, fused or not
        return to_k
    return FusedKeys(attention.to_kv) if is_fused(attention) else to_k


def captured(attention: Any) -> nn.Module:  # noqa: ANN401 - a cross-attention
    """Return a module that projects keys as this attention does now, whatever happens to its adapters later.

    That is the layer itself while no adapter is active, else a copy of the matrix that layer and adapters make together.
    """
    used, to_k = key_projection(attention), attention.to_k
    return to_k.captured() if hasattr(to_k, "captured") else captured_layer(used, to_k)


def captured_layer(used: Any, to_k: Any = None) -> nn.Module:  # noqa: ANN401 - linear layers
    """Return `to_k`, by default what is `used`, without adapters if that projects the same, else a copy of what is used."""
    to_k = used if to_k is None else to_k
    base = getattr(to_k, "base_layer", to_k)
    if base is used or (not differ(fingerprint(base), fingerprint(used))):
        return base
    with torch.inference_mode(mode=False), torch.no_grad():
        width = text_width(used)
        start = projected(used, torch.zeros(1, width))
        weight = (projected(used, torch.eye(width)) - start).T.contiguous()
        copy = CapturedKeys(width, weight.shape[0], bias=bool(start.any()), device=weight.device, dtype=weight.dtype)
        copy.weight.copy_(weight)
        if copy.bias is not None:
            copy.bias.copy_(start[0])
    return copy.requires_grad_(requires_grad=False)


def fingerprint(to_k: nn.Module) -> Float[Tensor, " channels"]:
    """Return the keys of one fixed row: a fingerprint of a projection with its adapters."""
    with torch.inference_mode(mode=False), torch.no_grad():
        return projected(to_k, _fixed_row(text_width(to_k)))[0].detach().cpu()


@lru_cache(maxsize=8)
def _fixed_row(width: int) -> Float[Tensor, "1 width"]:
    row = (torch.arange(width, dtype=torch.float64) * 0.6180339887498949) % 1 - 0.5
    return row[None].float()


def differ(one: Tensor, other: Tensor) -> bool:
    """Whether two fingerprints are of different projections, and not of one in two types or on two devices."""
    if one.shape != other.shape:
        return True
    precision = max(torch.finfo(one.dtype).eps, torch.finfo(other.dtype).eps)
    away = (one.double() - other.double()).norm()
    return not bool(away <= max(CLOSE, 4 * precision) * other.double().norm())


def text_width(to_k: nn.Module) -> int:
    """Return the length of the text embedding's rows that a key projection takes."""
    return int(getattr(to_k, "in_features", 0))


def place_of(module: nn.Module) -> torch.device:
    """Return the device on which a module computes; where its weights are offloaded, hooks know it."""
    for each in module.modules():
        hook = getattr(each, "_hf_hook", None)
        for one in getattr(hook, "hooks", (hook,)):
            device = getattr(one, "execution_device", None)
            if device is not None:
                return torch.device(device)
    return next((tensor.device for tensor in _tensors(module)), torch.device("cpu"))


def type_of(module: nn.Module) -> torch.dtype:
    """Return the type in which a module computes; its weights may be stored in fewer bits."""
    for each in module.modules():
        registry = getattr(each, "_diffusers_hook", None)
        hook = None if registry is None else registry.get_hook("layerwise_casting")
        computes = getattr(hook, "compute_dtype", None) or getattr(each, "compute_dtype", None)
        if computes is not None:
            return computes
    known = (tensor.dtype for tensor in _tensors(module) if tensor.is_floating_point() and tensor.dtype.itemsize > 1)
    return next(known, torch.float32)


def _tensors(module: nn.Module) -> Iterator[Tensor]:
    return chain(module.parameters(), module.buffers())
