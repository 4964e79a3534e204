"""What a model is, read from its configuration files alone: no weights are loaded."""

import json
from math import lcm
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError
from transformers import CLIPTextConfig, CLIPTokenizer

from contracts.schema.errors import Code, ServiceError
from contracts.schema.images import BlockInfo
from contracts.schema.models import Ability, Family, ModelCard
from ovam.tracing.families import family_of as attention_family
from ovam.tracing.model import cross_attentions
from ovam.trained.networks import networks_in
from worker import schedulers, transformer_cards
from worker.kinds import BY_INPUT, KINDS, PIXEL_MULTIPLE, Kind
from worker.sizes import level_of, sizes_of, text_parameters
from worker.sources import index_of

INPAINTED = 4  # channels of latents that diffusers paints anew inside a mask; it takes no others
CARD_FILE = "ovam.json"  # beside model_index.json: what a model's own files cannot say

Json = dict[str, Any]


def read_card(name: str, source: str, *, default: bool) -> ModelCard:
    """Describe a model. OSError where there is none; ServiceError (model-failed-to-load) for one that is not text to image."""
    index = read_index(source)
    kind = kind_of(name, source, index["_class_name"])
    scheduler = schedulers.read_scheduler(source, index["scheduler"][1])
    own = transformer_cards.described(source, index, kind) if kind.transformer else unet_described(name, source, index)
    described = own | {
        "name": name,
        "source": source,
        "default_guidance_scale": kind.guidance_scale,
        "default_scheduler": type(scheduler).__name__,
        "schedulers": schedulers.names(scheduler),
        "networks": networks_in(source),
        "default": default,
    }
    return ModelCard.model_validate(described | extras(source))


def unet_described(name: str, source: str, index: Json) -> Json:
    """Return what a card says of a UNet. ServiceError (model-failed-to-load) for one that takes more than latents."""
    unet, vae = without_weights(UNet2DConditionModel, source, "unet"), without_weights(AutoencoderKL, source, "vae")
    require_latents_alone(name, source, unet.config.in_channels, vae.config.latent_channels)
    factor, levels = 2 ** (len(vae.config.block_out_channels) - 1), len(unet.config.block_out_channels)
    size = unet.config.sample_size
    latent = (size, size) if isinstance(size, int) else (size[0], size[1])
    return {
        "family": family_of(index["_class_name"], unet),
        "text_width": unet.config.cross_attention_dim,
        "max_tokens": max_tokens(source, index),
        "max_clip_skip": max_clip_skip(source, index),
        "default_height": latent[0] * factor,
        "default_width": latent[1] * factor,
        "size_multiple": lcm(PIXEL_MULTIPLE, factor * 2 ** (levels - 1)),
        "guidance_embedded": unet.config.time_cond_proj_dim is not None,
        "attentions": list(attention_family(unet).attentions),
        "blocks": blocks_of(unet, latent),
        "sizes": sizes_of(unet, vae, text_parameters(source, index)),
        "cannot": cannot_of(unet),
    }


def cannot_of(unet: UNet2DConditionModel) -> dict[Ability, str]:
    """Return what cannot be done with a UNet of its family, and why."""
    found = dict[Ability, str]()
    if unet.config.in_channels != INPAINTED:
        found["mask"] = f"diffusers paints inside masks with latents of {INPAINTED} channels alone"
    if unet.config.time_cond_proj_dim is not None:
        found |= BY_INPUT
    return found


def read_index(source: str) -> Json:
    """Read a pipeline's model_index.json: its class and those of its parts. OSError where there is none."""
    return json.loads(index_of(source).read_text())


def kind_of(name: str, source: str, pipeline: str) -> Kind:
    """Return how a pipeline is served. ServiceError (model-failed-to-load) for one that needs more than a prompt."""
    if pipeline not in KINDS:
        detail = f"model {name!r} ({source}) is a {pipeline}; allowed: {', '.join(KINDS)}"
        raise ServiceError(Code.MODEL_FAILED_TO_LOAD, detail, field="model", value=name)
    return KINDS[pipeline]


def require_latents_alone(name: str, source: str, channels: int, latents: int) -> None:
    """Refuse a UNet that takes more than latents, as those for inpainting do."""
    if channels != latents:
        detail = f"the UNet of model {name!r} ({source}) takes {channels} channels; allowed: the {latents} of its latents"
        raise ServiceError(Code.MODEL_FAILED_TO_LOAD, detail, field="model", value=name)


def family_of(kind: str, unet: UNet2DConditionModel) -> Family:
    """Return the family of a model; Stable Diffusion 2 is the one with linear projections."""
    if kind == "StableDiffusionXLPipeline":
        return "sdxl"
    return "sd2" if unet.config.use_linear_projection else "sd1"


def blocks_of(unet: UNet2DConditionModel, latent: tuple[int, int]) -> list[BlockInfo]:
    """Describe the cross-attentions of a UNet, with their grids for latents of (height, width)."""
    levels = len(unet.config.block_out_channels)
    return [
        BlockInfo(name=name, grid=(latent[0] >> level, latent[1] >> level), heads=attention.heads)
        for name, attention in cross_attentions(unet).items()
        for level in [level_of(name, levels)]
    ]


def max_tokens(source: str, index: Json) -> int:
    """Return the length of the longest text, in tokens, that no tokenizer and no encoder cuts."""
    encoders = [part for part in ("text_encoder", "text_encoder_2") if present(index, part)]
    configs = [CLIPTextConfig.from_pretrained(source, subfolder=part) for part in encoders]
    tokenizers = read_tokenizers(source, index)
    return min(*(each.max_position_embeddings for each in configs), *(each.model_max_length for each in tokenizers))


def max_clip_skip(source: str, index: Json) -> int:
    """Return how many of the last layers every text encoder can leave out; of SDXL's the last one is left out anyway."""
    encoders = [part for part in ("text_encoder", "text_encoder_2") if present(index, part)]
    layers = [CLIPTextConfig.from_pretrained(source, subfolder=part).num_hidden_layers for part in encoders]
    return max(0, min(layers) - (len(layers) > 1))


def text_widths(source: str) -> list[int]:
    """Return the width of a token's embedding in every text encoder."""
    index = read_index(source)
    encoders = [part for part in ("text_encoder", "text_encoder_2") if present(index, part)]
    return [CLIPTextConfig.from_pretrained(source, subfolder=part).hidden_size for part in encoders]


def read_tokenizers(source: str, index: Json) -> list[CLIPTokenizer]:
    """Read a model's tokenizers. ValueError when they do not share a vocabulary, which attribution needs."""
    parts = [part for part in ("tokenizer", "tokenizer_2") if present(index, part)]
    found = [CLIPTokenizer.from_pretrained(source, subfolder=part) for part in parts]
    if any(tokenizer.get_vocab() != found[0].get_vocab() for tokenizer in found):
        raise ValueError("its two tokenizers have different vocabularies; allowed: the same")
    return found


def read_vocabulary(source: str) -> str:
    """Return the model's tokenizer.json, set to neither cut nor pad.

    SDXL's two tokenizers share a vocabulary; its second takes every "!" for a token of its own, and so never makes
    fewer tokens of a text than its first.
    """
    index = read_index(source)
    kind = KINDS[index["_class_name"]]
    if kind.transformer:
        return transformer_cards.vocabulary_of(source, index, kind)
    tokenizer = read_tokenizers(source, index)[-1].backend_tokenizer
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer.to_str()


def present(index: Json, part: str) -> bool:
    """Whether a pipeline has a part; parts that it lacks are listed without a class."""
    return index.get(part, (None, None))[-1] is not None


def without_weights(kind: Any, source: str, part: str) -> Any:  # noqa: ANN401  # diffusers' mixins are untyped
    """Build a part from its configuration, with its class' defaults for what an older file leaves out."""
    with torch.device("meta"):
        return kind.from_config(kind.load_config(source, subfolder=part))


def extras(source: str) -> Json:
    """Read what the model's own ovam.json sets, if it has one."""
    path = Path(source) / CARD_FILE
    if not Path(source).is_dir():
        try:
            path = Path(hf_hub_download(source, CARD_FILE))
        except (EntryNotFoundError, OSError):
            return {}
    return json.loads(path.read_text()) if path.is_file() else {}
