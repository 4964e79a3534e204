"""What a diffusion transformer is, read from its configuration files alone: no weights are loaded."""

from math import lcm
from types import SimpleNamespace
from typing import Any, Final

import diffusers
import torch
import transformers
from diffusers.pipelines.flux2.system_messages import SYSTEM_MESSAGE

from contracts.schema.estimates import ModelSizes
from contracts.schema.images import BlockInfo
from ovam.attention.chats import chat_of
from ovam.tracing.families import Family, family_of
from ovam.tracing.joint import joint_attentions
from ovam.tracing.model import cross_attentions, self_attentions
from worker import schedulers
from worker.kinds import PIXEL_MULTIPLE, Kind

SANA_MULTIPLE: Final = 32  # nor Sana's
PACKED_SIDE: Final = 128  # latents of the images that FLUX draws unless it is told otherwise; its configuration does not say

Json = dict[str, Any]


def described(source: str, index: Json, kind: Kind) -> Json:
    """Return what a card says of a transformer. OSError for files that are not there."""
    unet, vae = (part_of(source, index, part, diffusers) for part in ("transformer", "vae"))
    family, factor = family_of(unet), pixels_of(vae)
    patch = 2 if family.packed else unet.config.patch_size
    side = PACKED_SIDE if family.packed else unet.config.sample_size
    tokenizer = tokenizer_of(source, index, kind)
    rows = kind.default("max_sequence_length")
    around = chat_tokens(tokenizer, kind) if family.name == "flux2" else 0
    in_clip = family.name == "sd3"  # whose rows are CLIP's tokens, then T5's
    return {
        "family": kind.family,
        "text_width": text_width(unet, family),
        "max_tokens": tokenizer.model_max_length if in_clip else rows - around,
        "max_clip_skip": clip_layers(source) if in_clip else 0,
        "default_height": side * factor,
        "default_width": side * factor,
        "size_multiple": lcm(SANA_MULTIPLE if family.name == "sana" else PIXEL_MULTIPLE, factor * patch),
        "guidance_embedded": not kind.guided,
        "attentions": list(family.attentions),
        "blocks": blocks_of(unet, family, side // patch),
        "sizes": sizes_of(source, index, unet, vae, rows + (tokenizer.model_max_length if in_clip else 0)),
        "cannot": dict(kind.cannot),
    }


def part_of(source: str, index: Json, part: str, library: Any) -> Any:  # noqa: ANN401  # a module, without weights
    """Build a part of diffusers or of transformers from its configuration."""
    kind = getattr(library, index[part][1])
    with torch.device("meta"):
        if library is diffusers:
            return kind.from_config(kind.load_config(source, subfolder=part))
        return kind(kind.config_class.from_pretrained(source, subfolder=part))


def tokenizer_of(source: str, index: Json, kind: Kind) -> Any:  # noqa: ANN401  # a tokenizer
    """Read the tokenizer by which words are found."""
    return getattr(transformers, index[kind.tokenizer][1]).from_pretrained(source, subfolder=kind.tokenizer)


def chat_tokens(tokenizer: Any, kind: Kind) -> int:  # noqa: ANN401  # a tokenizer, or a processor with one
    """Return how many tokens the chat has in which FLUX.2 puts every prompt."""
    own = {"system_message": SYSTEM_MESSAGE} if kind.name == "Flux2Pipeline" else {}
    chat = chat_of(SimpleNamespace(tokenizer=tokenizer, **own))
    return len(chat.tokenizer(chat.written(""), add_special_tokens=chat.marks).input_ids)


def vocabulary_of(source: str, index: Json, kind: Kind) -> str:
    """Return its tokenizer.json, set to neither cut nor pad."""
    found = tokenizer_of(source, index, kind)
    tokenizer = getattr(found, "tokenizer", found).backend_tokenizer
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer.to_str()


def text_width(unet: Any, family: Family) -> int:  # noqa: ANN401  # a transformer
    """Return the length of the rows of a text, as its encoder gives them."""
    return unet.config.joint_attention_dim if family.joint else unet.config.caption_channels


def clip_layers(source: str) -> int:
    """Return how many of the last layers both of SD3's CLIP encoders can leave out; the last one is left out anyway."""
    parts = ("text_encoder", "text_encoder_2")
    configs = [transformers.CLIPTextConfig.from_pretrained(source, subfolder=part) for part in parts]
    return max(0, min(config.num_hidden_layers for config in configs) - 1)


def pixels_of(vae: Any) -> int:  # noqa: ANN401  # an autoencoder
    """Return how many pixels of an image's side are one of its latent's."""
    config = vae.config
    return 2 ** (len(config.get("block_out_channels") or config.encoder_block_out_channels) - 1)


def blocks_of(unet: Any, family: Family, side: int) -> list[BlockInfo]:  # noqa: ANN401  # a transformer
    """Describe the attentions that may be read; all are on one grid."""
    found = joint_attentions(unet) if family.joint else cross_attentions(unet)
    return [BlockInfo(name=name, grid=(side, side), heads=attention.heads) for name, attention in found.items()]


def sizes_of(source: str, index: Json, unet: Any, vae: Any, rows: int) -> ModelSizes:  # noqa: ANN401  # without weights
    """Return what estimates are made from."""
    family = family_of(unet)
    encoders = [part for part in ("text_encoder", "text_encoder_2", "text_encoder_3") if index.get(part, (None, None))[-1]]
    parts = [unet, vae, *(part_of(source, index, part, transformers) for part in encoders)]
    width = unet.config.num_attention_heads * unet.config.attention_head_dim
    patch = 2 if family.packed else unet.config.patch_size
    cross = {} if family.joint else {name: each.to_q.out_features for name, each in cross_attentions(unet).items()}
    pixels = [] if family.joint else [*self_attentions(unet).items()]
    refining = pixels[int(family.refine * len(pixels)) :][:1]
    vae_channels = vae.config.get("block_out_channels") or vae.config.decoder_block_out_channels
    return ModelSizes(
        parameters=sum(parameter.numel() for part in parts for parameter in part.parameters()),
        latent_factor=pixels_of(vae),
        unet_channels=max(1, width // patch**2),
        vae_channels=vae_channels[0],
        channels=cross,
        self_attention={name: each.to_q.out_features for name, each in refining},
        self_attention_level=patch.bit_length() - 1,
        scheduler_evaluations=schedulers.EVALUATIONS,
        latent_channels=vae.config.latent_channels,
        text_rows=rows,
    )
