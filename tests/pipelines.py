"""Tiny genuine pipelines with random weights: every part is the real class, nothing is trained."""

from collections.abc import Callable
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    LCMScheduler,
    PNDMScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
    UniPCMultistepScheduler,
)
from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

SCHEDULERS: dict[str, Callable[..., Any]] = {
    "pndm": lambda **betas: PNDMScheduler(skip_prk_steps=True, **betas),
    "ddim": lambda **betas: DDIMScheduler(clip_sample=False, set_alpha_to_one=False, **betas),
    "euler": EulerDiscreteScheduler,
    "euler-ancestral": EulerAncestralDiscreteScheduler,
    "dpm++": DPMSolverMultistepScheduler,
    "unipc": UniPCMultistepScheduler,
    "lcm": LCMScheduler,
}

WORDS = (
    "a",
    "of",
    "and",
    "on",
    "in",
    "with",
    "the",
    "car",
    "cat",
    "dog",
    "hat",
    "tree",
    "photograph",
    "mon",
    "mouth",
)
"""Each is one token; any other word falls into pieces, "monkey" into "mo" and four letters."""

TEXT_WIDTH = 32


def tiny_pipeline(scheduler: str = "ddim", seed: int = 0) -> StableDiffusionPipeline:
    """Build a Stable Diffusion 1.x pipeline whose 64x64 images take milliseconds per evaluation.

    Latents are 1/8 of the image; nine cross-attentions lie on the latent's grid, its half and its quarter,
    a tenth in the mid block. The projections of queries and keys are enlarged, so that attention is far
    from even.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        tokenizer = tiny_tokenizer()
        pipeline = StableDiffusionPipeline(
            vae=tiny_vae(),
            text_encoder=tiny_text_encoder(tokenizer),
            tokenizer=tokenizer,
            unet=tiny_unet(),
            scheduler=tiny_scheduler(scheduler),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def tiny_tokenizer(**options: Any) -> CLIPTokenizer:
    """Build CLIP's tokenizer on a vocabulary of bytes and a few words."""
    alphabet = sorted(ByteLevel.alphabet())
    merges: list[tuple[str, str]] = []
    for word in WORDS:
        symbols = [*word[:-1], word[-1] + "</w>"]
        head = symbols[0]
        for symbol in symbols[1:]:
            if (head, symbol) not in merges:
                merges.append((head, symbol))
            head += symbol
    pieces = [*alphabet, *(letter + "</w>" for letter in alphabet), *dict.fromkeys(a + b for a, b in merges)]
    vocabulary = {piece: number for number, piece in enumerate([*pieces, "<|startoftext|>", "<|endoftext|>"])}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=77, **options)


def tiny_text_encoder(tokenizer: CLIPTokenizer, kind: Callable[..., Any] = CLIPTextModel, **options: Any) -> Any:
    """Build a text encoder of two layers."""
    config = {
        "vocab_size": len(tokenizer),
        "hidden_size": TEXT_WIDTH,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 77,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    return kind(CLIPTextConfig(**(config | options))).eval()


def tiny_unet(**options: Any) -> UNet2DConditionModel:
    """Build a UNet with three resolutions; ``options`` replace parts of its config."""
    config = {
        "sample_size": 8,
        "in_channels": 4,
        "out_channels": 4,
        "down_block_types": ("CrossAttnDownBlock2D",) * 3,
        "up_block_types": ("CrossAttnUpBlock2D",) * 3,
        "block_out_channels": (16, 24, 32),
        "layers_per_block": 1,
        "attention_head_dim": (2, 3, 4),
        "cross_attention_dim": TEXT_WIDTH,
        "norm_num_groups": 8,
    }
    unet = UNet2DConditionModel(**(config | options)).eval()
    with torch.no_grad():
        for name, module in unet.named_modules():
            if name.endswith(("attn2.to_q", "attn2.to_k")):
                module.weight *= 4
    return unet


def tiny_vae() -> AutoencoderKL:
    """Build an autoencoder whose latents are 1/8 of the image."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(8, 8, 8, 8),
        norm_num_groups=4,
        latent_channels=4,
        force_upcast=False,
    ).eval()


def tiny_scheduler(name: str, **options: Any) -> Any:
    """Build one of `SCHEDULERS` with the noise of Stable Diffusion."""
    betas = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
    return SCHEDULERS[name](**betas, **options)
