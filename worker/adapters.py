"""Adapters: where they are, what they are, and which models they fit. Weights are safetensors alone: nothing is unpickled."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from diffusers import Flux2Pipeline, FluxPipeline, SanaPipeline, StableDiffusion3Pipeline, StableDiffusionXLPipeline
from huggingface_hub import hf_hub_download, snapshot_download
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, HFValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from contracts.schema.adapters import AdapterCard, AdapterKind

WEIGHTS: Final = ".safetensors"
PICKLED: Final = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
USUAL: Final = ("pytorch_lora_weights.safetensors", "learned_embeds.safetensors", "diffusion_pytorch_model.safetensors")
"""Names of the file in a repository of the hub that names none."""
CONFIG: Final = "config.json"
IMAGE_ENCODER: Final = "image_encoder"
SHOWN: Final = 16  # digits of a hash
MOST_VECTORS: Final = 75  # what a prompt has room for
DOWN: Final = re.compile(r"\.lora_A\.weight$|\.lora\.down\.weight$|\.lora_linear_layer\.down\.weight$")
READERS: Final[Mapping[str, Any]] = MappingProxyType({
    "SD3Transformer2DModel": StableDiffusion3Pipeline,
    "FluxTransformer2DModel": FluxPipeline,
    "Flux2Transformer2DModel": Flux2Pipeline,
    "SanaTransformer2DModel": SanaPipeline,
})  # fmt: skip
"""What reads a LoRA for a transformer."""


class UnusableAdapterError(Exception):
    """An adapter that cannot be used; the message says why, without its name."""


@dataclass(frozen=True)
class AdapterFile:
    """An adapter as it lies on this machine."""

    name: str
    kind: AdapterKind
    path: Path
    """Its weights."""
    weights: str
    """Their hash."""

    @property
    def config(self) -> Path:
        """Where a ControlNet's configuration is."""
        return self.path.parent / CONFIG

    @property
    def image_encoder(self) -> Path:
        """The folder of an IP-Adapter's image encoder."""
        return self.path.parent / IMAGE_ENCODER

    @property
    def size(self) -> int:
        """Bytes of its weights, and of an IP-Adapter's image encoder."""
        beside = self.image_encoder.glob(f"*{WEIGHTS}") if self.kind == "ip-adapter" else ()
        return sum(each.stat().st_size for each in (self.path, *beside))

    def card(self) -> AdapterCard:
        """Describe it."""
        card = AdapterCard(name=self.name, kind=self.kind, weights=self.weights, size=self.size)
        if self.kind != "textual-inversion":
            return card
        return card.model_copy(update={"token": token_of(self.name), "vectors": len(embeddings_in(self.path)[0])})


def token_of(name: str) -> str:
    """Return what stands for a textual inversion in a prompt."""
    return f"<{name}>"


def read_adapter(name: str, source: str) -> AdapterFile:
    """Find an adapter in a file, a folder, or on the hub. UnusableAdapterError."""
    path = located(source)
    return AdapterFile(name, kind_of(path), path, hashed(path, path.stat().st_mtime_ns, path.stat().st_size))


@cache
def hashed(path: Path, _changed: int, _size: int) -> str:
    """Hash a file, once as long as it stays the same."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:SHOWN]


def located(source: str) -> Path:
    """Return the file of weights that a source (a file, a folder or a hub id) names."""
    path = Path(source).expanduser()
    if path.is_dir():
        return chosen(path)
    if path.is_file():
        return checked(path)
    return fetched(source)


def chosen(folder: Path) -> Path:
    """Return the only file of weights in a folder."""
    found = sorted(folder.glob(f"*{WEIGHTS}"))
    if len(found) == 1:
        return found[0]
    if found:
        raise UnusableAdapterError(f"{folder} holds {len(found)} files of weights; name one of them: {found[0].name}, ...")
    if pickled := [each for each in sorted(folder.iterdir()) if each.suffix in PICKLED]:
        return checked(pickled[0])
    raise UnusableAdapterError(f"{folder} holds no {WEIGHTS}")


def checked(path: Path) -> Path:
    """Return a file unless it is no safetensors file. What is pickled runs code when it is read."""
    if path.suffix != WEIGHTS:
        why = "is pickled, and could run code" if path.suffix in PICKLED else f"does not end with {WEIGHTS}"
        raise UnusableAdapterError(f"{path.name} {why}; allowed: safetensors")
    return path


def fetched(source: str) -> Path:
    """Return a file of the hub: `owner/name`, or `owner/name/path/to/file.safetensors`."""
    owner, _, rest = source.partition("/")
    name, _, inside = rest.partition("/")
    if not (owner.strip(".~") and name):
        raise UnusableAdapterError(f"there is no file or folder {source!r}, and it is not a hub id such as 'owner/name'")
    if inside:
        checked(Path(inside))
    repository = f"{owner}/{name}"
    try:
        for each in (inside,) if inside else USUAL:
            with suppress(EntryNotFoundError):
                path = Path(hf_hub_download(repository, each))
                beside = f"{Path(each).parent}/".removeprefix("./")
                parts = [f"{beside}{CONFIG}", f"{beside}{IMAGE_ENCODER}/{CONFIG}", f"{beside}{IMAGE_ENCODER}/*{WEIGHTS}"]
                snapshot_download(repository, allow_patterns=parts)
                return path
    except (OSError, HfHubHTTPError, HFValidationError) as error:
        raise UnusableAdapterError(f"there is no file or folder {source!r}, nor does the hub give it: {error}") from error
    raise UnusableAdapterError(f"the hub's {repository} holds none of {', '.join(USUAL)}; name a file: {repository}/...{WEIGHTS}")


def kind_of(path: Path) -> AdapterKind:
    """Return what a file of weights is, by its keys, or by the configuration beside it."""
    config = path.parent / CONFIG
    if config.is_file() and json.loads(config.read_text()).get("_class_name") == "ControlNetModel":
        return "controlnet"
    shapes = shapes_in(path)
    if any(key.startswith("ip_adapter.") for key in shapes) and any(key.startswith("image_proj.") for key in shapes):
        return "ip-adapter"
    if any("lora" in key for key in shapes):
        return "lora"
    if shapes and len(shapes) <= 2 and all(len(shape) <= 2 for shape in shapes.values()):  # noqa: PLR2004  # of two encoders
        return "textual-inversion"
    raise UnusableAdapterError(f"{path.name} is no LoRA, textual inversion, IP-Adapter, or ControlNet (with its {CONFIG})")


def shapes_in(path: Path) -> dict[str, list[int]]:
    """Return the shape of every tensor of a file."""
    try:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_slice(key).get_shape() for key in file.keys()}  # noqa: SIM118  # it is no dict
    except (SafetensorError, OSError) as error:
        raise UnusableAdapterError(f"{path.name} is not a safetensors file: {error}") from error


def embeddings_in(path: Path) -> list[Tensor]:
    """Return the rows of a textual inversion, (vectors, width), for each text encoder of its model."""
    tensors = load_file(path)
    names = ("clip_l", "clip_g") if {*tensors} == {"clip_l", "clip_g"} else tuple(tensors)
    rows = [tensors[name].reshape(-1, tensors[name].shape[-1]) for name in names]
    if not 0 < len(rows[0]) <= MOST_VECTORS or len({len(each) for each in rows}) > 1:
        raise UnusableAdapterError(f"{path.name} holds {[len(each) for each in rows]} vectors; allowed: 1 to {MOST_VECTORS}")
    return rows


def lora_in(path: Path, unet: nn.Module) -> tuple[dict[str, Tensor], dict[str, Any] | None]:
    """Return a LoRA's weights under diffusers' names, whoever trained it, and its factors. UnusableAdapterError."""
    tensors, reader = load_file(path), READERS.get(type(unet).__name__)
    try:
        if reader is not None:
            return reader.lora_state_dict(tensors), None
        return StableDiffusionXLPipeline.lora_state_dict(tensors, unet_config=getattr(unet, "config", None))
    except Exception as error:  # whatever diffusers finds in a file that it does not know
        raise UnusableAdapterError(f"diffusers cannot read {path.name} for such a model ({type(error).__name__})") from error


def misfit(adapter: AdapterFile, unet: Any, text_widths: list[int]) -> str | None:  # noqa: ANN401  # a UNet, without weights
    """Say why an adapter does not fit a model, by its UNet and the widths of its text encoders; None if it does."""
    try:
        return next(misfits(adapter, unet, text_widths), None)
    except UnusableAdapterError as error:
        return str(error)


def misfits(adapter: AdapterFile, unet: Any, text_widths: list[int]) -> Iterator[str]:  # noqa: ANN401
    """Say all of it."""
    match adapter.kind:
        case "lora":
            yield from lora_misfits(adapter, unet)
        case "textual-inversion":
            widths = [rows.shape[-1] for rows in embeddings_in(adapter.path)]
            if widths != text_widths:
                yield f"its vectors are {widths} wide; the model's text encoders take {text_widths}"
        case "controlnet":
            config = json.loads(adapter.config.read_text())
            for name in ("cross_attention_dim", "in_channels", "block_out_channels"):
                theirs, own = config.get(name), getattr(unet.config, name)
                if theirs != (list(own) if isinstance(own, tuple) else own):
                    yield f"its {name} is {theirs}; the model's is {own}"
        case "ip-adapter":
            yield from ip_misfits(adapter, unet)


def lora_misfits(adapter: AdapterFile, unet: nn.Module) -> Iterator[str]:
    """Say which of a LoRA's layers the UNet has not, or has in another width."""
    tensors, _ = lora_in(adapter.path, unet)
    known: Mapping[str, Any] = dict(unet.named_modules())
    part, other = ("transformer.", "unet.") if type(unet).__name__ in READERS else ("unet.", "transformer.")
    if any(key.startswith(other) for key in tensors):
        yield f"it is for a model with a {other.removesuffix('.')}; the model has a {part.removesuffix('.')}"
    if not any(key.startswith((part, "text_encoder")) for key in tensors):
        yield f"none of its keys begins with `{part}` or `text_encoder.`, nor is it in the form of Kohya's trainer"
    for key, tensor in tensors.items():
        if not key.startswith(part) or not DOWN.search(key):
            continue
        layer = DOWN.sub("", key).removeprefix(part)
        width = getattr(known.get(layer), "in_features", None) or getattr(known.get(layer), "in_channels", None)
        if width is None:
            yield f"it changes {layer!r}, which the model has not"
        elif tensor.shape[1] != width:
            yield f"its {layer!r} takes {tensor.shape[1]} numbers; the model's takes {width}"


def ip_misfits(adapter: AdapterFile, unet: Any) -> Iterator[str]:  # noqa: ANN401  # a UNet
    """Say in which widths an IP-Adapter differs from the UNet's cross-attentions."""
    if not (adapter.image_encoder / CONFIG).is_file():
        yield f"there is no folder {IMAGE_ENCODER!r} beside {adapter.path.name}"
    shapes = [shape for key, shape in shapes_in(adapter.path).items() if key.endswith("to_k_ip.weight")]
    own = [
        [module.to_k.out_features, module.to_k.in_features]
        for name, module in unet.named_modules()
        if name.endswith("attn2") and hasattr(module, "to_k")
    ]
    if sorted(shapes) != sorted(own):
        yield f"it is for {len(shapes)} attentions of sizes {shapes[:1]}; the model has {len(own)}, of {own[:1]}"
