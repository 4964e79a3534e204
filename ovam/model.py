"""Finding the UNet of a pipeline and the cross-attentions in it."""

from typing import Any

from torch import nn

from ovam.errors import CompiledModelError, UnsupportedModelError

Pipeline = Any
"""A diffusers pipeline: with a UNet, a scheduler, a tokenizer and a text encoder."""


def plain_unet(pipeline: Pipeline) -> nn.Module:
    """Return the pipeline's UNet, taken out of a ``torch.compile`` wrapper if there is one.

    Raises `UnsupportedModelError` when the pipeline has no UNet.
    """
    unet = getattr(pipeline, "unet", None)
    if not isinstance(unet, nn.Module):
        raise UnsupportedModelError(f"pipeline {type(pipeline).__name__} has no UNet; allowed: the Stable Diffusion 1.x family")
    wrapped = getattr(unet, "_orig_mod", unet)
    return wrapped if isinstance(wrapped, nn.Module) else unet


def require_uncompiled(pipeline: Pipeline) -> None:
    """Raise `CompiledModelError` when hooks put on the UNet now would never be called."""
    unet = plain_unet(pipeline)
    compiled = pipeline.unet is not unet or any(
        getattr(module, "_compiled_call_impl", None) is not None for module in unet.modules()
    )
    if compiled:
        message = "pipeline.unet is compiled, its hooks would not be called; capture with the UNet as it was before"
        raise CompiledModelError(message)


def cross_attentions(unet: nn.Module) -> dict[str, Any]:
    """Map the path of every cross-attention ``attn2`` of a UNet to its module, in the order of the UNet.

    Raises `UnsupportedModelError` when there is none, or one that normalises queries or keys after
    projecting them.
    """
    found = {
        name: module
        for name, module in unet.named_modules()
        if name.rpartition(".")[2] == "attn2" and getattr(module, "is_cross_attention", False)
    }
    if not found:
        raise UnsupportedModelError(f"{type(unet).__name__} has no cross-attention named attn2")
    for name, module in found.items():
        if any(getattr(module, norm, None) is not None for norm in ("norm_q", "norm_k", "norm_cross")):
            raise UnsupportedModelError(f"{name} normalises its queries or keys; allowed: plain projections")
    return found


def text_width(to_k: nn.Module) -> int:
    """Length of the text embedding's rows that a key projection takes."""
    return int(getattr(to_k, "in_features", 0))
