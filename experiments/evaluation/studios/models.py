"""Where a model's files are, and its pipeline."""

from functools import cache
from pathlib import Path
from typing import Any

from diffusers import DiffusionPipeline

from worker.models import chosen_device, chosen_dtype, hide_progress_bars, load_model

INDEX = "model_index.json"


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


def loaded(model: Path) -> Any:  # noqa: ANN401  # any pipeline that the service serves
    """The pipeline as the service loads it: on a GPU in half precision, without one on the CPU in single precision."""
    hide_progress_bars()
    device = chosen_device("auto")
    return load_model(model.name, str(model), device=device, dtype=chosen_dtype("auto", device), default=True).pipeline


@cache
def text_part(model: Path) -> Any:  # noqa: ANN401  # any pipeline that the service serves
    """The pipeline with its tokenizers and text encoders alone."""
    hide_progress_bars()
    return DiffusionPipeline.from_pretrained(model, unet=None, vae=None, scheduler=None, safety_checker=None)
