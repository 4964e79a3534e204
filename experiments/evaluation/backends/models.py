"""Where a model's files are, and its pipeline."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline
from diffusers.utils import logging as diffusers_logging
from transformers.utils import logging as transformers_logging

from experiments.evaluation.datasets import GUIDANCE_SCALE
from experiments.evaluation.hashes import hash_of
from ovam.trained.networks import FOLDER

INDEX, CARD = "model_index.json", "ovam.json"
WEIGHTS = (".safetensors", ".bin")


class UnknownModelError(Exception):
    """What was named is no model; the message says why."""


def folder_of(source: str) -> Path:
    """The folder of a model, which is named by it, or by its id on the hub: then its files are fetched, or taken from the cache.

    UnknownModelError when it is neither.
    """
    if Path(source).is_dir():
        if not (Path(source) / INDEX).is_file():
            raise UnknownModelError(
                f"the model {source!r} is a folder without {INDEX}; allowed: a pipeline as diffusers saves it"
            )
        return Path(source)
    try:
        return Path(DiffusionPipeline.download(source, safety_checker=None))
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UnknownModelError(f"the model {source!r} is neither a folder nor to be had from the hub: {reason}") from error


def loaded(model: Path) -> Any:  # noqa: ANN401 - any pipeline that the library reads
    """The pipeline: on a GPU in half precision, without one on the CPU in single precision."""
    transformers_logging.disable_progress_bar()
    diffusers_logging.disable_progress_bar()
    gpu = torch.cuda.is_available()
    pipeline = DiffusionPipeline.from_pretrained(model, dtype=torch.float16 if gpu else torch.float32, safety_checker=None)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to("cuda" if gpu else "cpu")


@cache
def text_part(model: Path) -> Any:  # noqa: ANN401 - any pipeline that the library reads
    """The pipeline with its tokenizers and text encoders alone."""
    diffusers_logging.disable_progress_bar()
    return DiffusionPipeline.from_pretrained(model, unet=None, vae=None, scheduler=None, safety_checker=None)


def resolutions_of(model: Path) -> tuple[int, ...]:
    """The resolutions of a model's cross-attention, the highest first."""
    unet = json.loads((model / "unet" / "config.json").read_text())
    levels = enumerate(unet["down_block_types"])
    return tuple(unet["sample_size"] >> level for level, kind in levels if "CrossAttn" in kind)


def guidance_scale_of(model: Path) -> float:
    """The guidance scale that a model's card names."""
    card = model / CARD
    return json.loads(card.read_text()).get("default_guidance_scale", GUIDANCE_SCALE) if card.is_file() else GUIDANCE_SCALE


def weights_hash(model: Path) -> str:
    """SHA-256 over the model's weight files, without those of networks that are trained on it."""
    return hash_of(path for path in model.glob("*/*") if path.suffix in WEIGHTS and path.parent.name != FOLDER)


def networks_hash(model: Path) -> str:
    """SHA-256 over the networks that are trained on a model."""
    return hash_of((model / FOLDER).glob("*"))
