"""How large a model is, read from its configuration files alone, and how this worker runs it."""

import os
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

from contracts.schema.estimates import ModelSizes
from contracts.schema.models import ModelCard
from ovam.tracing.model import cross_attentions, self_attentions
from worker import schedulers
from worker.settings import WorkerSettings

HOST = torch.device("cpu")


def sizes_of(unet: UNet2DConditionModel, vae: AutoencoderKL, text_parameters: int) -> ModelSizes:
    """Return what estimates are made from; `unet` and `vae` need no weights."""
    levels = len(unet.config.block_out_channels)
    largest = min((level_of(name, levels) for name in self_attentions(unet)), default=0)
    pixels = {name: module for name, module in self_attentions(unet).items() if level_of(name, levels) == largest}
    return ModelSizes(
        parameters=parameters_of(unet) + parameters_of(vae) + text_parameters,
        latent_factor=2 ** (len(vae.config.block_out_channels) - 1),
        unet_channels=unet.config.block_out_channels[0],
        vae_channels=vae.config.block_out_channels[0],
        channels={name: module.to_q.out_features for name, module in cross_attentions(unet).items()},
        self_attention={name: module.to_q.out_features for name, module in pixels.items()},
        self_attention_level=largest,
        scheduler_evaluations=schedulers.EVALUATIONS,
    )


def level_of(name: str, levels: int) -> int:
    """Count how often the latent is halved before it reaches a module of the UNet."""
    part, number = name.split(".")[:2]
    match part:
        case "down_blocks":
            return int(number)
        case "up_blocks":
            return levels - 1 - int(number)
        case _:
            return levels - 1


def text_parameters(source: str, index: dict[str, Any]) -> int:
    """Count the parameters of a pipeline's text encoders."""
    parts = [part for part in ("text_encoder", "text_encoder_2") if index.get(part, (None, None))[-1] is not None]
    with torch.device("meta"):
        return sum(parameters_of(CLIPTextModel(CLIPTextConfig.from_pretrained(source, subfolder=part))) for part in parts)


def parameters_of(module: Any) -> int:  # noqa: ANN401  # diffusers' mixins are untyped
    """Count a module's parameters."""
    return sum(parameter.numel() for parameter in module.parameters())


def run_here(card: ModelCard, settings: WorkerSettings, device: torch.device, dtype: torch.dtype) -> ModelCard:
    """Return a card that says how this worker runs the model."""
    if card.sizes is None:
        return card
    on_cpu = device.type == "cpu"
    here = {
        "number_bytes": dtype.itemsize,
        "batch_images": settings.batch_images,
        "on_cpu": on_cpu,
        "device_bytes": memory_of(device) + (memory_of(HOST) if settings.offloads(on_cpu=on_cpu) else 0),
    }
    return card.model_copy(update={"sizes": card.sizes.model_copy(update=here)})


def memory_of(device: torch.device) -> int:
    """Return the bytes of memory that a device has in all."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
