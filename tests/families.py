"""Tiny genuine pipelines of every family that can be captured, and what each is called with."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from diffusers import (
    ControlNetModel,
    StableDiffusionControlNetPipeline,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionInpaintPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLPipeline,
)
from PIL import Image
from transformers import CLIPTextModelWithProjection

from tests.pipelines import tiny_scheduler, tiny_text_encoder, tiny_tokenizer, tiny_unet, tiny_vae

UNCHECKED = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}


def picture(height: int, width: int) -> Image.Image:
    """Draw the picture that a generation starts from."""
    pixels = np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def left_half(height: int, width: int) -> Image.Image:
    """Mask what an inpainting paints anew."""
    return Image.fromarray(np.repeat(np.arange(width)[None] < width // 2, height, axis=0).astype(np.uint8) * 255)


@dataclass(frozen=True)
class Family:
    """How a family's pipeline is built from a text-to-image one's parts, and how it is called."""

    kind: Callable[..., Any]
    unet: dict[str, Any] = field(default_factory=dict)
    text: dict[str, Any] = field(default_factory=dict)
    scheduler: dict[str, Any] = field(default_factory=dict)
    two_encoders: bool = False
    control: bool = False
    inputs: Callable[[int, int], dict[str, Any]] = lambda height, width: {"height": height, "width": width}
    """The arguments that say the image's (height, width)."""
    steps: int = 2
    """``num_inference_steps`` that make two evaluations (PNDM, three)."""


def _from_picture(height: int, width: int) -> dict[str, Any]:
    return {"image": picture(height, width), "strength": 0.5}


def _inpainting(height: int, width: int) -> dict[str, Any]:
    half = {"mask_image": left_half(height, width), "height": height, "width": width}
    return _from_picture(height, width) | half


def _controlled(height: int, width: int) -> dict[str, Any]:
    return {"image": picture(height, width), "height": height, "width": width}


XL_UNET = {
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2, 3),
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": 80,
    "cross_attention_dim": 64,
}
XL = {"unet": XL_UNET, "text": {"hidden_act": "gelu", "projection_dim": 32}, "two_encoders": True}

FAMILIES: dict[str, Family] = {
    "sd1": Family(StableDiffusionPipeline),
    "sd2": Family(
        StableDiffusionPipeline,
        unet={"use_linear_projection": True, "upcast_attention": True},
        text={"hidden_act": "gelu", "num_hidden_layers": 3},
        scheduler={"prediction_type": "v_prediction"},
    ),
    "img2img": Family(StableDiffusionImg2ImgPipeline, inputs=_from_picture, steps=4),
    "inpaint": Family(StableDiffusionInpaintPipeline, unet={"in_channels": 9}, inputs=_inpainting, steps=4),
    "controlnet": Family(StableDiffusionControlNetPipeline, control=True, inputs=_controlled),
    "sdxl": Family(StableDiffusionXLPipeline, **XL),
    "sdxl-img2img": Family(StableDiffusionXLImg2ImgPipeline, inputs=_from_picture, steps=4, **XL),
}


def tiny_family(name: str, scheduler: str = "ddim", seed: int = 0, **unet: Any) -> Any:
    """Build the pipeline of a family with random weights; ``unet`` replaces parts of the UNet's config."""
    family = FAMILIES[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        parts = {
            "vae": tiny_vae(),
            "unet": tiny_unet(**(family.unet | unet)),
            "scheduler": tiny_scheduler(scheduler, **family.scheduler),
            **_text_parts(family),
        }
        if family.control:
            parts["controlnet"] = ControlNetModel.from_unet(parts["unet"], conditioning_embedding_out_channels=(8,) * 4).eval()
    pipeline = family.kind(**parts)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _text_parts(family: Family) -> dict[str, Any]:
    tokenizer = tiny_tokenizer()
    one = {"tokenizer": tokenizer, "text_encoder": tiny_text_encoder(tokenizer, **family.text)}
    if not family.two_encoders:
        return one | UNCHECKED
    other = tiny_tokenizer(pad_token="!")
    encoder = tiny_text_encoder(other, CLIPTextModelWithProjection, **family.text)
    return one | {"tokenizer_2": other, "text_encoder_2": encoder, "add_watermarker": False}


def generate(pipeline: Any, family: str, prompt: Any = "a cat", *, size: tuple[int, int] = (64, 96), **options: Any) -> Any:
    """Call a family's pipeline for images of ``size`` (height, width), by default two evaluations; as arrays."""
    settings = {
        **FAMILIES[family].inputs(*size),
        "num_inference_steps": FAMILIES[family].steps,
        "generator": torch.Generator().manual_seed(1),
        "output_type": "latent",
        "negative_prompt": ["a dog"] * len(prompt) if isinstance(prompt, list) else "a dog",
    }
    return pipeline(prompt, **(settings | options)).images
