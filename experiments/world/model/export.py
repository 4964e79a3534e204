"""The trained parts put together to a StableDiffusionPipeline, in half precision."""

import copy
import json
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from experiments.world.model import data

LARGEST = "15MB"  # of a file of weights


def assemble(
    folder: Path,
    out: Path,
    tokenizer: CLIPTokenizer,
    unet: UNet2DConditionModel,
    text_encoder: CLIPTextModel,
    weights: list[Tensor],
    scheduler: DDIMScheduler,
) -> None:
    """Save a pipeline in half precision to `out`: the folder's autoencoder, and UNet and text encoder with averaged weights."""
    unet, text_encoder = copy.deepcopy(unet).cpu(), copy.deepcopy(text_encoder).cpu()
    with torch.no_grad():
        for parameter, value in zip([*unet.parameters(), *text_encoder.parameters()], weights, strict=True):
            parameter.copy_(value)
    vae = AutoencoderKL.from_pretrained(folder / "vae")
    vae.register_to_config(_name_or_path="")  # a path of the machine that trained it
    pipeline = StableDiffusionPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.to(torch.float16).save_pretrained(out, safe_serialization=True, max_shard_size=LARGEST)
    (out / "world.json").write_text(json.dumps(data.marks(folder) | {"recipe": data.recipe(folder)}, indent=1) + "\n")
