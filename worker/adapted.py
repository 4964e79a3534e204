"""A model with adapters: a pipeline of its own around the model's own weights, which never change.

Adapters replace layers, tokens and attention processors. They do so in copies of the UNet and of the text encoders that share
their weights with the model: other jobs, and those that are let in between two steps, see the model as it was, and with the copy
everything is gone that was loaded.
"""

import warnings
from collections.abc import Sequence
from copy import copy, deepcopy
from typing import Any

import torch
from diffusers import ControlNetModel
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import CLIPImageProcessor, CLIPVisionModelWithProjection

from contracts.schema.adapters import AdapterKind
from ovam.tracing.binding import same_weights
from ovam.tracing.keys import place_of
from ovam.tracing.model import Pipeline, plain_unet
from worker.adapters import AdapterFile, embeddings_in, lora_in, token_of

Used = tuple[AdapterFile, float]
"""An adapter and its scale."""
ENCODERS = ("", "_2")


def adapted(pipeline: Pipeline, uses: Sequence[Used]) -> Pipeline:
    """Return a pipeline with adapters, the model's own being left as it is; a ControlNet is loaded by itself."""
    found = copy(pipeline)
    for name, module in pipeline.components.items():
        if hasattr(module, "_hf_hook"):  # whoever loads adapters would offload it anew, to the first GPU
            setattr(found, name, twin(module))
    part = "unet" if hasattr(pipeline, "unet") else "transformer"
    setattr(found, part, twin(getattr(pipeline, part)))
    same_weights(getattr(pipeline, part), getattr(found, part))
    for end in ENCODERS:
        if type(getattr(pipeline, f"text_encoder{end}", None)).__name__.startswith("CLIP"):  # no adapter is for others
            setattr(found, f"text_encoder{end}", twin(getattr(pipeline, f"text_encoder{end}")))
            setattr(found, f"tokenizer{end}", deepcopy(getattr(pipeline, f"tokenizer{end}")))
    for adapter, _ in of_kind(uses, "textual-inversion"):
        load_textual_inversion(found, adapter)
    load_loras(found, of_kind(uses, "lora"))
    for adapter, scale in of_kind(uses, "ip-adapter"):
        load_ip_adapter(found, adapter, scale)
    return found


def of_kind(uses: Sequence[Used], kind: AdapterKind) -> list[Used]:
    """Return the adapters of a kind."""
    return [each for each in uses if each[0].kind == kind]


def twin(module: Any) -> Any:  # noqa: ANN401  # diffusers' and transformers' mixins are untyped
    """Return a module of its own, without hooks, with the same weights: the tensors are shared, not copied."""
    config = deepcopy(module.config)
    with torch.device("meta"):
        made = type(module)(config) if hasattr(module, "get_input_embeddings") else type(module).from_config(config)
    made.load_state_dict(module.state_dict(), assign=True)
    for name, buffer in module.named_buffers():  # those that no state has
        place, _, last = name.rpartition(".")
        made.get_submodule(place)._buffers[last] = buffer  # noqa: SLF001  # as `register_buffer` does
    return made.train(module.training).requires_grad_(requires_grad=False)


def load_textual_inversion(pipeline: Pipeline, adapter: AdapterFile) -> None:
    """Let a token stand for the vectors of a textual inversion, in every text encoder."""
    for end, rows in zip(ENCODERS, embeddings_in(adapter.path), strict=False):
        encoder, tokenizer = getattr(pipeline, f"text_encoder{end}"), getattr(pipeline, f"tokenizer{end}")
        vectors = rows[0] if len(rows) == 1 else rows
        pipeline.load_textual_inversion(vectors, token=token_of(adapter.name), tokenizer=tokenizer, text_encoder=encoder)


def load_loras(pipeline: Pipeline, uses: Sequence[Used]) -> None:
    """Load LoRAs, and make all of them active with their scales."""
    unet: Any = plain_unet(pipeline)
    names = [adapter.name.replace(".", "_") for adapter, _ in uses]  # a module's name has no dots
    for name, (adapter, _) in zip(names, uses, strict=True):
        tensors, alphas = lora_in(adapter.path, unet)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Already found a `peft_config`")  # several are meant to be there
            pipeline.load_lora_weights(cast(tensors, unet.dtype) | (alphas or {}), adapter_name=name)
    if uses:
        pipeline.set_adapters(names, [scale for _, scale in uses])


def load_ip_adapter(pipeline: Pipeline, adapter: AdapterFile, scale: float) -> None:
    """Let cross-attentions attend to an image, too."""
    kind: Any = CLIPVisionModelWithProjection
    encoder = kind.from_pretrained(adapter.image_encoder, dtype=pipeline.unet.dtype, use_safetensors=True)
    pipeline.image_encoder = encoder.to(place_of(pipeline.unet))
    pipeline.feature_extractor = CLIPImageProcessor(size=encoder.config.image_size, crop_size=encoder.config.image_size)
    tensors: dict[str, dict[str, Tensor]] = {"image_proj": {}, "ip_adapter": {}}
    for key, tensor in load_file(adapter.path).items():
        part, _, name = key.partition(".")
        if part in tensors:
            tensors[part][name] = tensor
    pipeline.load_ip_adapter(tensors, subfolder="", weight_name="")
    pipeline.set_ip_adapter_scale(scale)


def load_controlnet(adapter: AdapterFile, like: Any) -> nn.Module:  # noqa: ANN401  # a UNet
    """Load a ControlNet in the type and to the place of a UNet."""
    found: Any = ControlNetModel.from_config(ControlNetModel.load_config(adapter.config.parent))
    found.load_state_dict(load_file(adapter.path))
    return found.to(device=place_of(like), dtype=like.dtype).eval().requires_grad_(requires_grad=False)


def cast(tensors: dict[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    """Return tensors in another floating type."""
    return {name: tensor.to(dtype) if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}
