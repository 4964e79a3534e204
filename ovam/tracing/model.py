"""Finding the UNet of a pipeline and the cross-attentions in it."""

from typing import Any, Literal

from torch import nn

from ovam.errors import CaptureError, CompiledModelError, UnsupportedModelError

Projection = Literal["queries", "keys"]

Pipeline = Any
"""A diffusers pipeline: with a UNet, a scheduler, one or two tokenizers and text encoders."""

KNOWN = (
    "StableDiffusionPipeline",
    "StableDiffusionImg2ImgPipeline",
    "StableDiffusionInpaintPipeline",
    "StableDiffusionControlNetPipeline",
    "StableDiffusionXLPipeline",
    "StableDiffusionXLImg2ImgPipeline",
)
"""The pipelines whose batch is known to be `[unconditional * n, conditional * n]`; other guidance may have
three parts (InstructPix2Pix, perturbed attention), which no count of rows tells apart."""


def plain_unet(pipeline: Pipeline) -> nn.Module:
    """Return the pipeline's UNet, taken out of a `torch.compile` wrapper if there is one.

    Raises `UnsupportedModelError` when the pipeline has no UNet.
    """
    unet = getattr(pipeline, "unet", None)
    if not isinstance(unet, nn.Module):
        raise UnsupportedModelError(f"pipeline {type(pipeline).__name__} has no UNet; allowed: {', '.join(KNOWN)}")
    wrapped = getattr(unet, "_orig_mod", unet)
    return wrapped if isinstance(wrapped, nn.Module) else unet


def require_known(pipeline: Pipeline) -> None:
    """Raise `UnsupportedModelError` for a pipeline, or a scheduler, that calls the UNet in a way of its own."""
    if not any(kind.__name__ in KNOWN for kind in type(pipeline).__mro__):
        raise UnsupportedModelError(f"pipeline {type(pipeline).__name__} is not known; allowed: {', '.join(KNOWN)}")
    if not hasattr(pipeline.scheduler, "timesteps"):
        raise UnsupportedModelError(
            f"scheduler {type(pipeline.scheduler).__name__} has no timesteps, by which evaluations are counted"
        )


def require_plain_call(unet: nn.Module, options: dict[str, Any]) -> None:
    """Raise `CaptureError` when adapters are scaled for this one call of the UNet: later keys would lack it."""
    scale = (options.get("cross_attention_kwargs") or {}).get("scale", 1.0)
    if scale != 1.0 and getattr(unet, "peft_config", None):
        raise CaptureError(f"cross_attention_kwargs scale is {scale}, which keys cannot know; allowed: pipeline.set_adapters")


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
    """Map the path of every cross-attention `attn2` of a UNet to its module, in the order of the UNet.

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


def self_attentions(unet: nn.Module) -> dict[str, Any]:
    """Map the path of every self-attention `attn1` of a UNet to its module, in the order of the UNet."""
    return {
        name: module
        for name, module in unet.named_modules()
        if name.rpartition(".")[2] == "attn1" and not getattr(module, "is_cross_attention", True)
    }


def module_of(attention: Any, projection: Projection) -> tuple[nn.Module, int, int]:  # noqa: ANN401 - an attention
    """Return the module whose output holds a projection, which part of the channels it is, and of how many.

    Where diffusers fused the projections of a self-attention, one module makes queries, keys and values;
    a fused cross-attention still projects its queries alone.
    """
    if getattr(attention, "fused_projections", False) and not attention.is_cross_attention:
        return attention.to_qkv, ("queries", "keys").index(projection), 3
    return (attention.to_q if projection == "queries" else attention.to_k), 0, 1


def text_width(to_k: nn.Module) -> int:
    """Length of the text embedding's rows that a key projection takes."""
    return int(getattr(to_k, "in_features", 0))
