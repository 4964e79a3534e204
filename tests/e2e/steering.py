"""Tiny models and adapters of every kind behind a real gateway and a real worker, and what is asked of them."""

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import torch
from diffusers import ControlNetModel, StableDiffusionPipeline
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from PIL import Image
from redis import Redis
from safetensors.torch import save_file
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from service.app import create_app
from service.settings import GatewaySettings
from tests.diffusion_transformers import tiny_transformer
from tests.families import tiny_family
from tests.pipelines import TEXT_WIDTH
from tests.service.serving import Json, client_of
from tests.worker.running import running
from worker.resources import Resources
from worker.settings import BUNDLED, WorkerSettings

FAMILIES = ("sd1", "sdxl")
PROMPT = "a photograph of a cat"
WAIT = {"Prefer": "wait=60"}


def saved_models(folder: Path, *families: str) -> dict[str, str]:
    """A model of each family."""
    names = families or FAMILIES
    for name in names:
        tiny_family(name).save_pretrained(folder / name)
    return {name: str(folder / name) for name in names}


def saved_lora(family: str, folder: Path, seed: int = 0) -> Path:
    """A LoRA of a model's UNet and text encoders, as diffusers writes it."""
    return lora_of(tiny_family(family), folder, seed)


def lora_of(pipeline: Any, folder: Path, seed: int = 0) -> Path:
    """The same of any pipeline."""
    torch.manual_seed(seed)
    unet = LoraConfig(r=2, lora_alpha=4, target_modules=["to_q", "to_k", "to_v", "to_out.0"], init_lora_weights=False)
    text = LoraConfig(r=2, target_modules=["q_proj", "k_proj"], init_lora_weights=False)
    layers: dict[str, Any] = {}
    for part, config in {"unet": unet, "text_encoder": text, "text_encoder_2": text}.items():
        if getattr(pipeline, part, None) is not None:
            getattr(pipeline, part).add_adapter(config)
            layers[f"{part}_lora_layers"] = get_peft_model_state_dict(getattr(pipeline, part))
    type(pipeline).save_lora_weights(folder, **layers)
    return folder


def saved_transformer_lora(name: str, folder: Path) -> Path:
    """A LoRA of a transformer, as diffusers writes it."""
    pipeline = tiny_transformer(name)
    torch.manual_seed(0)
    layers = ["to_q", "to_k", "to_v", "add_q_proj", "add_k_proj"]
    pipeline.transformer.add_adapter(LoraConfig(r=2, target_modules=layers, init_lora_weights=False))
    type(pipeline).save_lora_weights(folder, transformer_lora_layers=get_peft_model_state_dict(pipeline.transformer))
    return folder


def saved_inversion(family: str, path: Path, vectors: int = 2, width: int = TEXT_WIDTH) -> Path:
    """A textual inversion."""
    generator = torch.Generator().manual_seed(1)
    names = ("emb_params",) if family == "sd1" else ("clip_l", "clip_g")
    save_file({name: torch.randn(vectors, width, generator=generator) for name in names}, path)
    return path


def saved_controlnet(family: str, folder: Path) -> Path:
    """A ControlNet that adds something: one that begins as a model's copy adds nothing."""
    return controlnet_of(tiny_family(family).unet, folder)


def controlnet_of(unet: Any, folder: Path) -> Path:
    """The same of any UNet."""
    torch.manual_seed(5)
    found = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(8,) * 4)
    for parameter in [*found.controlnet_down_blocks.parameters(), *found.controlnet_mid_block.parameters()]:
        torch.nn.init.normal_(parameter, std=0.1)
    found.save_pretrained(folder)
    return folder


def saved_ip_adapter(family: str, folder: Path) -> Path:
    """An IP-Adapter of four tokens, and its image encoder."""
    return ip_adapter_of(tiny_family(family).unet, folder)


def ip_adapter_of(unet: Any, folder: Path) -> Path:
    """The same of any UNet."""
    torch.manual_seed(6)
    width = unet.config.cross_attention_dim
    tensors = {
        "image_proj.proj.weight": torch.randn(4 * width, 8),
        "image_proj.proj.bias": torch.zeros(4 * width),
        "image_proj.norm.weight": torch.ones(width),
        "image_proj.norm.bias": torch.zeros(width),
    }
    names = [name for name in unet.attn_processors if "attn2" in name]
    for number, name in enumerate(names):
        out = unet.get_submodule(name.removesuffix(".processor")).to_k.out_features
        for part in ("to_k_ip", "to_v_ip"):
            tensors[f"ip_adapter.{2 * number + 1}.{part}.weight"] = torch.randn(out, width)
    folder.mkdir()
    save_file(tensors, folder / "ip-adapter.safetensors")
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = CLIPVisionConfig(**small, image_size=32, patch_size=8, projection_dim=8)
    CLIPVisionModelWithProjection(config).save_pretrained(folder / "image_encoder")
    return folder


def world_adapters(folder: Path) -> dict[str, str]:
    """An adapter of every kind for the bundled model."""
    pipeline = StableDiffusionPipeline.from_pretrained(BUNDLED, safety_checker=None)
    width = pipeline.unet.config.cross_attention_dim
    found = {
        "toy": saved_inversion("sd1", folder / "toy.safetensors", width=width),
        "edges": controlnet_of(pipeline.unet, folder / "edges"),
        "looks": ip_adapter_of(pipeline.unet, folder / "looks"),
        "style": lora_of(pipeline, folder / "style"),  # last: it changes the pipeline
        "style-xl": saved_lora("sdxl", folder / "style-xl"),  # for another model
    }
    return {name: str(path) for name, path in found.items()}


@asynccontextmanager
async def steered(redis_url: str, folder: Path, **settings: Any) -> AsyncIterator[tuple[httpx2.AsyncClient, Resources]]:
    """A client of a gateway with a worker behind it."""
    with Redis.from_url(redis_url) as redis:
        redis.flushall()
    common: Any = {"redis_url": redis_url, "store_url": f"file://{folder}/store", "data_dir": folder}
    worker = WorkerSettings(**common, default_model="sd1", grace_seconds=0, worker_name="tester", **settings)
    async with running(worker) as resources, client_of(create_app(GatewaySettings(**common))) as client:
        client.timeout = httpx2.Timeout(90)
        while len((await client.get("/v1/models")).json()["models"]) < len(settings["models"]):
            await asyncio.sleep(0.2)
        yield client, resources


def picture(height: int = 96, width: int = 64) -> Image.Image:
    """A picture of colours that run from corner to corner."""
    rows, columns = np.mgrid[:height, :width]
    return Image.fromarray(np.stack([rows * 2, columns * 2, (rows + columns) % 255], axis=-1).astype(np.uint8))


def encoded(image: Image.Image) -> str:
    buffer = BytesIO()
    image.save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


async def done(http: httpx2.AsyncClient, body: Json, path: str = "/v1/generate") -> Json:
    small = {"prompt": PROMPT, "seed": 3, "num_inference_steps": 4} if path == "/v1/generate" else {}
    answer = await http.post(path, json=small | body, headers=WAIT)
    assert answer.status_code in (201, 202), answer.text
    record = answer.json()
    while record["finished_at"] is None:  # a busy machine takes longer than a request may wait
        await asyncio.sleep(0.2)
        record = (await http.get(f"/v1/jobs/{record['id']}")).json()
    assert record["state"] == "succeeded", record["error"]
    return record


async def pixels(http: httpx2.AsyncClient, record: Json, image: int = 0) -> np.ndarray:
    answer = await http.get(record["result"]["images"][image]["image"]["url"])
    return np.asarray(Image.open(BytesIO(answer.content)).convert("RGB")).astype(int)
