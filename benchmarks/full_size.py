"""Models of full size with random weights through the service: memory, seconds, bytes. `python -m benchmarks full_size`.

They are built once, in half precision, below `.cache`. What they draw is noise; what it costs is what trained weights cost.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from torch import nn
from transformers import AutoTokenizer, CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from benchmarks.over_http import MIB, PROMPT, ask, finished, memory, service
from benchmarks.result import ROOT, Result, Setup
from benchmarks.tiers import moment

POOL = 1 << 20  # random numbers, of which all weights are made
CALM = 0.35  # of a text encoder's weights: texts of about the size of noise, else attention of random weights is chaotic
STEPS, GUIDANCE = 2, 1.0
SIZES = {"SD 1.5": 512, "SDXL": 512}
MODELS = ROOT / ".cache" / "full-size"
VAE = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "latent_channels": 4,
}
SMALL_TEXT = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
LARGE_TEXT = {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 20}
XL_UNET = {
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "block_out_channels": (320, 640, 1280),
    "attention_head_dim": (5, 10, 20),
    "transformer_layers_per_block": (1, 2, 10),
    "cross_attention_dim": 2048,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
    "sample_size": 128,
}


def full_size(setup: Setup) -> Iterator[Result]:
    """SD 1.5 and SDXL: an image, a question to its trace in memory, and one to its replay."""
    for name, build in BUILDERS.items():
        if setup.rows in f"full size/{name}":
            yield from served(setup, name, built(name, build))


def served(setup: Setup, name: str, model: Path) -> Iterator[Result]:
    """The rows of a model: memory at most, seconds of its parts, and bytes of a replay."""
    size, row = SIZES[name], f"full size/{name}"
    body = {"prompt": PROMPT, "seed": 0, "num_inference_steps": STEPS, "guidance_scale": GUIDANCE, "height": size, "width": size}
    options = {"OVAM_PRELOAD": "false", "OVAM_TRACE_CACHE_BYTES": str(1 << 30)}
    with service(replace(setup, model=model), **options) as (client, worker):
        idle, _ = memory(worker)
        record = finished(client, "/v1/generate", body)
        warm = min(ask(client, record["id"], number) for number in range(3))
        _, most = memory(worker)
        again = finished(client, "/v1/generate", {**body, "seed": 1})
    with service(replace(setup, model=model), **(options | {"OVAM_TRACE_CACHE_BYTES": "0"})) as (client, _):
        other = finished(client, "/v1/generate", body)
        replayed = ask(client, other["id"], 0)
    drawn = moment(again["finished_at"]) - moment(again["started_at"])
    kept = record["result"]["images"][0]["trace_bytes"]
    evaluations = record["result"]["evaluations"]
    told = f"{name}, random weights, {size} x {size}, {evaluations} evaluations without guidance"
    yield Result(
        name=f"{row}/memory",
        says=f"{told}: resident memory of the worker at most",
        value=most / MIB,
        unit="MiB",
        samples=[most / MIB],
        details={"before_the_first_job_mib": idle / MIB, "weights_on_disk_mib": weights_bytes(model) / MIB},
    )
    yield Result(
        name=f"{row}/seconds",
        says=f"{told}: generation, files written",
        value=drawn,
        unit="s",
        samples=[drawn],
        details={
            "first_with_loading": moment(record["finished_at"]) - moment(record["created_at"]),
            "attribute_warm": warm,
            "attribute_by_replay": replayed,
        },
    )
    whole = kept / evaluations
    yield Result(
        name=f"{row}/bytes",
        says=f"{told}: bytes of the replay",
        value=kept / MIB,
        unit="MiB",
        samples=[kept / MIB],
        details={"bytes": kept, "bytes_an_evaluation": whole, "of_30_steps_at_most_mib": 30 * whole / MIB},
    )


def built(name: str, build: Callable[[], Any]) -> Path:
    """The folder of a model, built if it is not there."""
    folder = MODELS / name.lower().replace(" ", "-").replace(".", "")
    if not (folder / "model_index.json").is_file():
        beside = folder.with_suffix(".new")
        build().save_pretrained(beside)
        beside.replace(folder)
    return folder


def weights_bytes(folder: Path) -> int:
    """The size of a model's weights on disk."""
    return sum(file.stat().st_size for file in folder.rglob("*.safetensors"))


def sd15() -> StableDiffusionPipeline:
    """Stable Diffusion 1.5 as it was published, but for its weights."""
    return StableDiffusionPipeline(
        vae=random(lambda: AutoencoderKL(**VAE)),
        text_encoder=random(lambda: CLIPTextModel(text(SMALL_TEXT, hidden_act="quick_gelu")), CALM),
        tokenizer=tokenizer(),
        unet=random(lambda: UNet2DConditionModel(sample_size=64, cross_attention_dim=768)),
        scheduler=scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def sdxl() -> StableDiffusionXLPipeline:
    """SDXL as it was published, but for its weights."""
    return StableDiffusionXLPipeline(
        vae=random(lambda: AutoencoderKL(**VAE, scaling_factor=0.13025)),
        text_encoder=random(lambda: CLIPTextModel(text(SMALL_TEXT, hidden_act="quick_gelu")), CALM),
        text_encoder_2=random(
            lambda: CLIPTextModelWithProjection(text(LARGE_TEXT, hidden_act="gelu", projection_dim=1280)), CALM
        ),
        tokenizer=tokenizer(),
        tokenizer_2=tokenizer(),
        unet=random(lambda: UNet2DConditionModel(**XL_UNET)),
        scheduler=scheduler(),
    )


BUILDERS: dict[str, Callable[[], Any]] = {"SD 1.5": sd15, "SDXL": sdxl}


def text(size: dict[str, int], **options: Any) -> CLIPTextConfig:  # noqa: ANN401 - of a config
    """The configuration of a text encoder with the bundled model's vocabulary."""
    words = tokenizer()
    return CLIPTextConfig(
        vocab_size=49_408,
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
        **size,
        **options,
    )


def tokenizer() -> Any:  # noqa: ANN401 - a tokenizer
    """The bundled model's; a word is a row of a text like any other."""
    return AutoTokenizer.from_pretrained(ROOT / "models" / "world" / "tokenizer", model_max_length=77)


def scheduler() -> DDIMScheduler:
    """Stable Diffusion's noise."""
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )


def random(make: Callable[[], nn.Module], size: float = 1.0) -> nn.Module:
    """Build a model without initialising it; random weights in half precision keep the size of what passes them, times `size`."""
    with torch.device("meta"):
        model = make().to(dtype=torch.float16)
    pool = torch.randn(POOL, generator=torch.Generator().manual_seed(0))
    for module in model.modules():
        for name, tensor in module.named_parameters(recurse=False):
            shape = tensor.shape
            if tensor.ndim == 1:
                found = torch.ones(shape) if name == "weight" else torch.zeros(shape)
            else:
                spread = size * math.prod(shape[1:]) ** -0.5
                found = (pool * spread).half().repeat(-(-tensor.numel() // POOL))[: tensor.numel()].view(shape)
            setattr(module, name, nn.Parameter(found.half(), requires_grad=False))
        for name, tensor in module.named_buffers(recurse=False):
            setattr(module, name, torch.arange(tensor.numel()).view(tensor.shape).to(tensor.dtype))  # positions
    return model.eval()
