"""Tiny genuine pipelines with random weights: every part is the real class, nothing is trained."""

from typing import Literal

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    PNDMScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

Scheduler = Literal["pndm", "ddim"]

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


def tiny_pipeline(scheduler: Scheduler = "ddim", seed: int = 0) -> StableDiffusionPipeline:
    """Build a Stable Diffusion 1.x pipeline whose 64x64 images take milliseconds per evaluation.

    Latents are 1/8 of the image; nine cross-attentions lie on the latent's grid, its half and its quarter,
    a tenth in the mid block. The projections of queries and keys are enlarged, so that attention is far
    from even.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        tokenizer = tiny_tokenizer()
        pipeline = StableDiffusionPipeline(
            vae=_vae(),
            text_encoder=_text_encoder(tokenizer),
            tokenizer=tokenizer,
            unet=_unet(),
            scheduler=_scheduler(scheduler),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def tiny_tokenizer() -> CLIPTokenizer:
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
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=77)


def _text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=TEXT_WIDTH,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=77,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return CLIPTextModel(config).eval()


def _unet() -> UNet2DConditionModel:
    unet = UNet2DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        down_block_types=("CrossAttnDownBlock2D",) * 3,
        up_block_types=("CrossAttnUpBlock2D",) * 3,
        block_out_channels=(16, 24, 32),
        layers_per_block=1,
        attention_head_dim=(2, 3, 4),
        cross_attention_dim=TEXT_WIDTH,
        norm_num_groups=8,
    ).eval()
    with torch.no_grad():
        for name, module in unet.named_modules():
            if name.endswith(("attn2.to_q", "attn2.to_k")):
                module.weight *= 4
    return unet


def _vae() -> AutoencoderKL:
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(8, 8, 8, 8),
        norm_num_groups=4,
        latent_channels=4,
    ).eval()


def _scheduler(name: Scheduler) -> DDIMScheduler | PNDMScheduler:
    betas = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
    if name == "pndm":
        return PNDMScheduler(skip_prk_steps=True, **betas)
    return DDIMScheduler(clip_sample=False, set_alpha_to_one=False, **betas)
