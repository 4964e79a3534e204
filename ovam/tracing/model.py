"""Finding the UNet of a pipeline, or the transformer in its place, and the attentions in it."""

import sys
from collections.abc import Mapping
from typing import Any, Literal

from torch import nn

from ovam.errors import CaptureError, CompiledModelError, UnsupportedModelError
from ovam.tracing.captions import across_heads, captioned
from ovam.tracing.families import UNET, family_of
from ovam.tracing.keys import is_fused

Projection = Literal["queries", "keys"]

Pipeline = Any
"""A diffusers pipeline: with a UNet or a transformer, a scheduler, tokenizers and text encoders."""

KNOWN = (
    "StableDiffusionPipeline",
    "StableDiffusionImg2ImgPipeline",
    "StableDiffusionInpaintPipeline",
    "StableDiffusionControlNetPipeline",
    "StableDiffusionXLPipeline",
    "StableDiffusionXLImg2ImgPipeline",
    "StableDiffusionXLInpaintPipeline",
    "StableDiffusionControlNetImg2ImgPipeline",
    "StableDiffusionControlNetInpaintPipeline",
    "StableDiffusionXLControlNetPipeline",
    "StableDiffusionXLControlNetImg2ImgPipeline",
    "StableDiffusionXLControlNetInpaintPipeline",
    "LatentConsistencyModelPipeline",
    "LatentConsistencyModelImg2ImgPipeline",
    "PixArtAlphaPipeline",
    "PixArtSigmaPipeline",
    "SanaPipeline",
    "StableDiffusion3Pipeline",
    "FluxPipeline",
    "Flux2Pipeline",
    "Flux2KleinPipeline",
)
"""The pipelines whose batch is known to be `[unconditional * n, conditional * n]`; other guidance may have
three parts (InstructPix2Pix, perturbed attention), which a count of rows cannot distinguish."""

ATTENTION_OPTIONS = ("cross_attention_kwargs", "joint_attention_kwargs", "attention_kwargs")
"""What the arguments of attention processors are called, model by model."""


def unet_of(pipeline: Pipeline) -> Any:  # noqa: ANN401 - a module, or none
    """Return what a pipeline predicts noise with, as it is called: a UNet, or a transformer in its place."""
    unet = getattr(pipeline, "unet", None)
    return getattr(pipeline, "transformer", None) if unet is None else unet


def plain_unet(pipeline: Pipeline) -> nn.Module:
    """Return the pipeline's UNet, or its transformer, taken out of a `torch.compile` wrapper if there is one.

    Raises `UnsupportedModelError` when the pipeline has neither.
    """
    unet = unet_of(pipeline)
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


def calling_pipeline() -> tuple[Pipeline | None, Mapping[str, Any]]:
    """Return the pipeline whose call is running, and the call's variables; `None` and nothing outside of one.

    A UNet does not know who calls it, and several pipelines may share one.
    """
    frame = sys._getframe(1)  # noqa: SLF001 - the documented way to the callers
    while frame is not None:
        if frame.f_code.co_name == "__call__" and frame.f_code.co_varnames[:1] == ("self",):
            variables = frame.f_locals
            if unet_of(variables["self"]) is not None and hasattr(variables["self"], "scheduler"):
                return variables["self"], variables
        frame = frame.f_back
    return None, {}


def require_plain_call(pipeline: Pipeline, options: Mapping[str, Any], call: Mapping[str, Any]) -> None:
    """Raise for an evaluation whose trace would be of something else than the image, or than the model as it will be.

    `options` are what the UNet is called with, `call` the variables of the pipeline's call. Raises `UnsupportedModelError`
    for a pipeline that is not known, and `CaptureError` for an adapter scale of this one call and for cropped inpainting.
    """
    require_known(pipeline)
    name = next((each for each in ATTENTION_OPTIONS if options.get(each)), ATTENTION_OPTIONS[0])
    scale = (options.get(name) or {}).get("scale", 1.0)
    adapted = (getattr(pipeline, part, None) for part in ("unet", "transformer", "text_encoder", "text_encoder_2"))
    if scale != 1.0 and any(getattr(part, "peft_config", None) for part in adapted):
        raise CaptureError(f"{name} scale is {scale}, which keys cannot know; allowed: pipeline.set_adapters")
    if call.get("padding_mask_crop") is not None:
        raise CaptureError(
            "padding_mask_crop generates a crop of the image, in whose coordinates the trace would be; "
            "allowed: crop image and mask before the call, and paste the result"
        )
    if call.get("image_latents") is not None and type(pipeline).__name__.startswith("Flux2"):  # elsewhere, what is drawn over
        raise CaptureError("reference images are among the pixels, where a trace knows no others; allowed: a prompt alone")
    asked = (call.get("orig_height"), call.get("orig_width"))
    if call.get("use_resolution_binning") and asked != (call.get("height"), call.get("width")):
        raise CaptureError(
            f"use_resolution_binning resizes and crops the image to (height, width) {asked}, other coordinates than the trace's; "
            f"allowed: use_resolution_binning=False, or the size {(call.get('height'), call.get('width'))}"
        )


def require_uncompiled(pipeline: Pipeline) -> None:
    """Raise `CompiledModelError` when hooks put on the UNet now would never be called."""
    unet = plain_unet(pipeline)
    compiled = unet_of(pipeline) is not unet or any(
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
    known = family_of(unet) is not UNET
    if getattr(getattr(unet, "config", None), "encoder_hid_dim_type", None) in ("text_proj", "text_image_proj"):
        raise UnsupportedModelError(f"{type(unet).__name__} projects text embeddings before it attends to them")
    for name, module in found.items():
        if hasattr(getattr(module, "processor", None), "to_k_custom_diffusion"):
            raise UnsupportedModelError(f"{name} projects its keys in a processor (Custom Diffusion); allowed: adapters of PEFT")
        normed = any(getattr(module, norm, None) is not None for norm in ("norm_q", "norm_k", "norm_cross"))
        if normed and not (known and across_heads(module)):
            raise UnsupportedModelError(f"{name} normalises its queries or keys; allowed: plain projections")
    return captioned(unet, found)


def self_attentions(unet: nn.Module) -> dict[str, Any]:
    """Map the path of every self-attention `attn1` of a UNet to its module, in the order of the UNet."""
    return {
        name: module
        for name, module in unet.named_modules()
        if name.rpartition(".")[2] == "attn1" and not getattr(module, "is_cross_attention", True)
    }


def is_linear(attention: Any) -> bool:  # noqa: ANN401 - an attention
    """Whether pixels attend to each other without a softmax, by products of what is positive of queries and keys (Sana)."""
    return "LinearAttn" in type(getattr(attention, "processor", None)).__name__


def module_of(attention: Any, projection: Projection) -> tuple[nn.Module, int, int]:  # noqa: ANN401 - an attention
    """Return the module whose output holds a projection, which part of the channels it is, and of how many.

    Where diffusers fused the projections of a self-attention, one module makes queries, keys and values;
    a fused cross-attention still projects its queries alone.
    """
    if is_fused(attention) and not attention.is_cross_attention:
        return attention.to_qkv, ("queries", "keys").index(projection), 3
    norm = getattr(attention, "norm_q" if projection == "queries" else "norm_k", None)
    if norm is not None:
        return norm, 0, 1
    return (attention.to_q if projection == "queries" else attention.to_k), 0, 1
