"""The models a worker serves: loaded from the hub or a folder, the least recently used one dropped."""

import asyncio
import json
import logging
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import lcm
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from diffusers.utils import logging as diffusers_logging
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError
from transformers import CLIPTextConfig, CLIPTokenizer
from transformers.utils import logging as transformers_logging

import ovam
from contracts.errors import Code, ServiceError
from contracts.models import ModelCard
from worker.gpu import GpuGate, Priority

GUIDANCE_SCALE = 7.5  # Stable Diffusion's own default
CARD_FILE = "ovam.json"  # beside model_index.json: what a model's own files cannot say
PIXEL_MULTIPLE = 8  # the pipelines take no other sizes

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Model:
    """A loaded model."""

    card: ModelCard
    pipeline: StableDiffusionPipeline
    device: torch.device


class Models:
    """Models by name, loaded when they are first asked for."""

    def __init__(
        self,
        sources: Mapping[str, str],
        load: Callable[[str, str], Model],
        gate: GpuGate,
        *,
        most: int,
        dropped: Callable[[str], None],
    ) -> None:
        self.sources = sources
        self._load = load
        self._gate = gate
        self._most = most
        self._dropped = dropped
        self._loaded: OrderedDict[str, Model] = OrderedDict()
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    @property
    def loaded(self) -> list[str]:
        """Names of the models in memory, the least recently used first."""
        return list(self._loaded)

    async def get(self, name: str) -> Model:
        """A model, loaded if need be. ServiceError: unknown-model, model-failed-to-load."""
        if name not in self.sources:
            served = ", ".join(self.sources)
            raise ServiceError(Code.UNKNOWN_MODEL, f"no model {name!r} here; served: {served}", field="model", value=name)
        async with self._locks[name]:
            model = self._loaded.get(name)
            if model is None:
                model = await self._read(name)
                self._loaded[name] = model
            self._loaded.move_to_end(name)
        while len(self._loaded) > self._most:
            oldest, _ = self._loaded.popitem(last=False)
            self._dropped(oldest)
        return model

    async def _read(self, name: str) -> Model:
        source = self.sources[name]
        log.info("loading model %s from %s", name, source)
        try:
            # Loading sets defaults of the whole process for a while, so nothing else may work with tensors meanwhile.
            return await asyncio.wrap_future(self._gate.submit(Priority.ATTRIBUTE, lambda: self._load(name, source)))
        except (torch.OutOfMemoryError, MemoryError):
            raise
        except Exception as error:
            log.exception("model %s does not load from %s", name, source)
            detail = f"model {name!r} does not load from {source!r} ({type(error).__name__})"
            raise ServiceError(Code.MODEL_FAILED_TO_LOAD, detail, field="model", value=name) from error


def chosen_device(name: str) -> torch.device:
    """The device of a setting; ValueError if this machine lacks it."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        msg = f"OVAM_DEVICE is {name!r}, but this machine has {torch.cuda.device_count()} CUDA devices"
        raise ValueError(msg)
    return device


def chosen_dtype(name: str, device: torch.device) -> torch.dtype:
    """The floating type of a setting."""
    if name == "auto":
        return torch.float32 if device.type == "cpu" else torch.float16
    return {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}[name]


def load_model(name: str, source: str, *, device: torch.device, dtype: torch.dtype, default: bool) -> Model:
    """Load a Stable Diffusion pipeline from a hub id or a folder."""
    pipeline = StableDiffusionPipeline.from_pretrained(source, dtype=dtype, safety_checker=None, requires_safety_checker=False)
    pipeline.set_progress_bar_config(disable=True)
    return Model(read_card(name, source, default=default), pipeline.to(device), device)


def hide_progress_bars() -> None:
    """Keep the loading of models out of the log."""
    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()


def loader(device: torch.device, dtype: torch.dtype, default: str) -> Callable[[str, str], Model]:
    """How models are loaded on this worker."""

    def load(name: str, source: str) -> Model:
        return load_model(name, source, device=device, dtype=dtype, default=name == default)

    return load


def read_card(name: str, source: str, *, default: bool) -> ModelCard:
    """Describe a model by its configuration files alone."""
    unet = _config(UNet2DConditionModel, source, "unet")
    vae = _config(AutoencoderKL, source, "vae")
    text = CLIPTextConfig.from_pretrained(source, subfolder="text_encoder")
    factor = 2 ** (len(vae["block_out_channels"]) - 1)
    halvings = len(unet["block_out_channels"]) - 1
    size = unet["sample_size"]
    own = _extras(source)
    height, width = (size, size) if isinstance(size, int) else size
    return ModelCard(
        name=name,
        source=source,
        family="sd1",
        text_width=unet["cross_attention_dim"],
        max_tokens=min(read_tokenizer(source).model_max_length, text.max_position_embeddings),
        default_height=height * factor,
        default_width=width * factor,
        size_multiple=lcm(PIXEL_MULTIPLE, factor * 2**halvings),
        default=default,
        **{"default_guidance_scale": GUIDANCE_SCALE, **own},
    )


def read_tokenizer(source: str) -> CLIPTokenizer:
    """The model's tokenizer."""
    return CLIPTokenizer.from_pretrained(source, subfolder="tokenizer")


def read_vocabulary(source: str) -> str:
    """The model's tokenizer.json, which neither cuts nor pads."""
    tokenizer = read_tokenizer(source).backend_tokenizer
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer.to_str()


def warm(model: Model) -> None:
    """Generate and attribute once, so that the first job does not pay for what happens only once."""
    card = model.card
    with ovam.capture(model.pipeline) as traces:
        model.pipeline(
            "a photograph",
            height=card.default_height,
            width=card.default_width,
            num_inference_steps=2,
            generator=torch.Generator().manual_seed(0),
        )
    embedding, _ = ovam.encode(model.pipeline, "a photograph")
    ovam.heatmaps(traces[0], embedding)


def _config(kind: Any, source: str, subfolder: str) -> dict[str, Any]:  # noqa: ANN401  # diffusers' mixins are untyped
    return dict(kind.load_config(source, subfolder=subfolder))


def _extras(source: str) -> dict[str, Any]:
    """What the model says of itself in ovam.json, if it has one."""
    path = Path(source) / CARD_FILE
    if not Path(source).is_dir():
        try:
            path = Path(hf_hub_download(source, CARD_FILE))
        except (EntryNotFoundError, OSError):
            return {}
    return json.loads(path.read_text()) if path.is_file() else {}
