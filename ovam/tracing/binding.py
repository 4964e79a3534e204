"""What a UNet computes by: weights, adapters, type. A replay is bound to it, since queries computed by another differ."""

import hashlib
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any, Final
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from ovam.errors import NotReplayableError, TraceMismatchError

Binding = Mapping[str, str]
"""What the queries depend on, by name, as text that is compared, and quoted when it differs."""

SHOWN: Final = 16  # characters of a hash: 64 bits
FUSED: Final = (".to_qkv.", ".to_kv.", ".to_added_qkv.")
FREEU: Final = ("s1", "s2", "b1", "b2")

# Hashes of weights, with the state for which they hold: to hash the weights of Stable Diffusion takes seconds.
_HASHES: WeakKeyDictionary[nn.Module, tuple[object, str]] = WeakKeyDictionary()


def binding_of(unet: nn.Module) -> Binding:
    """Return what this UNet computes by. Raises `NotReplayableError` when its weights are not there to be hashed."""
    computes = torch.is_autocast_enabled(device_type(unet))
    return {
        "unet": type(unet).__name__,
        "weights": weights_hash(unet),
        "dtype": str(getattr(unet, "dtype", None)),
        "adapters": ", ".join(sorted(_adapters(unet))) or "none",
        "IP-Adapter": ", ".join(dict.fromkeys(_image_scales(unet))) or "none",
        "FreeU": ", ".join(_freeu(unet)) or "off",
        "autocast": str(torch.get_autocast_dtype(device_type(unet))) if computes else "off",
    }


def require_bound(then: Binding, unet: nn.Module) -> None:
    """Raise `TraceMismatchError`, which says what differs from what, unless a UNet computes by the same as at capture."""
    try:
        now = binding_of(unet)
    except NotReplayableError as error:
        raise TraceMismatchError(f"queries cannot be computed again here: {error}") from error
    changed = [f"{name}: {then.get(name)} at capture, {now.get(name)} here" for name in now if then.get(name) != now.get(name)]
    if changed:
        raise TraceMismatchError(f"queries computed again by this UNet would be others; {'; '.join(changed)}")


def weights_hash(unet: nn.Module) -> str:
    """Return a hash of a UNet's own weights, without adapters; the same on every device.

    It is kept, and computed again when a weight was replaced or changed.
    """
    weights = {name: tensor for name, tensor in _weights(unet) if not _is_adapters(name)}
    if any(tensor.is_meta for tensor in weights.values()):
        raise NotReplayableError("the UNet's weights are offloaded one by one; allowed: enable_model_cpu_offload")
    state = tuple((tensor.data_ptr(), _version(tensor)) for tensor in weights.values()), _sample(weights.values())
    known = _HASHES.get(unet)
    if known is None or known[0] != state:
        known = _HASHES[unet] = state, _hash(weights)
    return known[1]


def same_weights(unet: nn.Module, other: nn.Module) -> None:
    """Say that another UNet shares its tensors with this one, whose hash then need not be computed again."""
    if unet in _HASHES:
        _HASHES[other] = _HASHES[unet]


def device_type(unet: nn.Module) -> str:
    """Return the kind of device that a UNet's weights are on."""
    return next((tensor.device.type for _, tensor in _weights(unet)), "cpu")


def _weights(unet: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield all weights by name; what diffusers fused is there a second time, and left out."""
    for name, tensor in chain(unet.named_parameters(), unet.named_buffers()):
        if not any(fused in name for fused in FUSED):
            yield name.replace(".base_layer.", "."), tensor


def _is_adapters(name: str) -> bool:
    return ".lora_" in name


def _hash(tensors: Mapping[str, Tensor], *, also: str = "") -> str:
    """Hash tensors with their names, shapes and types."""
    found = hashlib.sha256(also.encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach()
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        found.update(tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()[:SHOWN]


def _version(tensor: Tensor) -> int:
    """Return how often a tensor was changed; nobody counts for those of inference mode."""
    return -1 if tensor.is_inference() else tensor._version  # noqa: SLF001 - the only count there is


def _sample(tensors: Any) -> bytes:  # noqa: ANN401 - an iterable of tensors
    """Return one number of every tensor: a change of `.data` in place is not counted as a version."""
    with torch.no_grad():  # and in one operation each: this is done for every generation
        firsts = [tensor.as_strided((1,), (1,)).float() for tensor in tensors if tensor.is_floating_point() and tensor.numel()]
        return torch.cat(firsts).cpu().numpy().tobytes() if firsts else b""


def _adapters(unet: nn.Module) -> Iterator[str]:
    """Name the active adapters, each with a hash of its weights and scales, and its largest scale."""
    if not getattr(unet, "peft_config", None):
        return
    tensors: dict[str, dict[str, Tensor]] = {}
    scales: dict[str, dict[str, float]] = {}
    for place, layer in unet.named_modules():
        scaling = getattr(layer, "scaling", None)
        if not isinstance(scaling, Mapping) or getattr(layer, "merged", False) or getattr(layer, "disable_adapters", False):
            continue
        for adapter in getattr(layer, "active_adapters", ()):
            if adapter in scaling:
                scales.setdefault(adapter, {})[place] = float(scaling[adapter])
                own = {f"{place}.{name}": each for name, each in layer.named_parameters() if f".{adapter}." in f"{name}."}
                tensors.setdefault(adapter, {}).update(own)
    for adapter, layers in scales.items():
        scale = max(layers.values(), key=abs)
        yield f"{adapter} {_hash(tensors[adapter], also=str(sorted(layers.items())))} x {scale:g}"


def _image_scales(unet: nn.Module) -> Iterator[str]:
    """Return the scales of an IP-Adapter, whose weights are among the UNet's."""
    if getattr(unet, "encoder_hid_proj", None) is None:
        return
    for layer in unet.modules():
        processor = getattr(layer, "processor", None)
        if hasattr(processor, "to_k_ip"):
            yield str(getattr(processor, "scale", None))


def _freeu(unet: Any) -> Iterator[str]:  # noqa: ANN401 - a UNet
    """Return FreeU's factors, where they are set."""
    for number, block in enumerate(getattr(unet, "up_blocks", ())):
        factors = {name: getattr(block, name, None) for name in FREEU}
        if all(isinstance(value, float | int) for value in factors.values()):
            yield f"up_blocks.{number} {factors}"
