"""Examines the sources of models: folders, and ids on the Hugging Face hub, without loading anything."""

from pathlib import Path

import httpx2
from huggingface_hub import HfApi, constants, try_to_load_from_cache
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)
from safetensors import SafetensorError, safe_open

from launcher.verdicts import Finding

INDEX = "model_index.json"
HUB_WITHIN = 5.0  # seconds
ELSEWHERE = "download it where there is a connection (`hf download {source}`) and copy the cache, or name a folder in OVAM_MODELS"


def model(name: str, source: str) -> Finding:
    """Examine whether a model's files are there and complete."""
    folder = Path(source)
    if folder.is_dir():
        return in_folder(f"model {name}", folder)
    if folder.is_absolute() or source.startswith((".", "~")):
        return Finding("broken", f"model {name}", f"there is no folder {source}", "correct OVAM_MODELS (`~` is not expanded)")
    return on_hub(f"model {name}", source)


def in_folder(thing: str, folder: Path) -> Finding:
    """Examine a pipeline in a folder: it has an index, and weights that can be opened."""
    if not (folder / INDEX).is_file():
        return Finding("broken", thing, f"{folder} has no {INDEX}", "download the model again, or correct OVAM_MODELS")
    weights = sorted(folder.rglob("*.safetensors"))
    for file in weights:
        try:
            with safe_open(file, framework="numpy"):
                pass
        except (SafetensorError, OSError) as error:
            return Finding("broken", thing, f"{file}: {error}", "download the model again")
    if not weights:
        return Finding("broken", thing, f"{folder} has no weights (*.safetensors)", "download the model again")
    size = sum(file.stat().st_size for file in weights) / 2**20
    return Finding("ok", thing, f"{folder}: {len(weights)} files of weights, {size:.0f} MiB")


def on_hub(thing: str, source: str) -> Finding:
    """Examine a hub id: its files in the cache, else whether they can be downloaded."""
    try:
        index = try_to_load_from_cache(source, INDEX)
    except HFValidationError:
        return Finding("broken", thing, f"{source!r} is neither a folder nor a hub id", "correct OVAM_MODELS")
    if isinstance(index, str):
        return in_folder(thing, Path(index).parent)
    return not_cached(thing, source)


def not_cached(thing: str, source: str) -> Finding:
    """Examine whether a hub id can be downloaded."""
    absent = f"{source!r} is not in the local Hugging Face cache ({constants.HF_HUB_CACHE})"
    remedy = ELSEWHERE.format(source=source)
    try:
        HfApi().model_info(source, timeout=HUB_WITHIN)
    except OfflineModeIsEnabled:
        return Finding("broken", thing, f"{absent}, and HF_HUB_OFFLINE is set (offline)", f"unset it, {remedy}")
    except GatedRepoError:
        return Finding("broken", thing, f"{source} is gated", "accept its licence on the hub, and set HF_TOKEN")
    except RepositoryNotFoundError:
        detail = f"there is no folder {source}, and no such model on the hub that you may read"
        return Finding("broken", thing, detail, "correct OVAM_MODELS, or set HF_TOKEN for a private model")
    except (httpx2.HTTPError, HfHubHTTPError, OSError) as error:
        return Finding("broken", thing, f"{absent}, and the hub cannot be reached (offline): {error}", remedy)
    return Finding("warning", thing, absent, "the first worker downloads it from the hub")
