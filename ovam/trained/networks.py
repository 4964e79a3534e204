"""Trained networks as files: weights in safetensors with a card in the header; found beside the model that they belong to."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, Literal

import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ovam.attention.targets import Rows, Words, rows_of
from ovam.attention.text import encode
from ovam.core.methods import Method
from ovam.errors import ClassNotTrainedError, NetworkFileError, NetworkOfOtherModelError, NoNetworkError, TokenWidthError
from ovam.tracing.keys import differ, fingerprint
from ovam.tracing.model import Pipeline
from ovam.tracing.trace import Trace
from ovam.trained.datasetdm import DatasetDM, DatasetDMSizes
from ovam.trained.grounded_diffusion import GroundedDiffusion, GroundedDiffusionSizes
from ovam.trained.pyramid import pyramid

FORMAT: Final = "ovam-network/1"
FOLDER: Final = "networks"
"""In a model's folder."""
SUFFIX: Final = ".safetensors"
FINGERPRINT: Final = "model.fingerprint"
"""The name of a tensor: keys of one fixed row, by which a model is known."""
Kind = Literal["grounded-diffusion", "datasetdm"]


@dataclass(frozen=True)
class Card:
    """What a trained network is, and how it came to be."""

    kind: Kind
    sizes: dict[str, Any]
    """See `GroundedDiffusionSizes`, `DatasetDMSizes`."""
    blocks: tuple[str, ...]
    """The UNet's blocks whose features it takes."""
    attentions: tuple[str, ...] = ()
    """The cross-attentions whose maps it takes."""
    words: tuple[str, ...] = ()
    """All that it can be asked for by words; empty: anything."""
    training: dict[str, Any] = field(default_factory=dict)
    """The teacher, the classes, the number of examples and of steps ..."""


@dataclass(frozen=True, eq=False)
class Network:
    """A trained network that gives, instead of attention, the heat of a target."""

    card: Card
    module: GroundedDiffusion | DatasetDM
    fingerprint: Float[Tensor, " channels"]
    """Of the model that it was trained on."""

    @classmethod
    def new(cls, card: Card, trace: Trace) -> "Network":
        """Return an untrained network for the model of a trace."""
        return cls(card, module_of(card), fingerprint(trace.blocks[0].to_k))

    def heat(self, trace: Trace, row: Float[Tensor, " text_width"]) -> Float[Tensor, "height width"]:
        """Return how likely each pixel of the image is of a target.

        Raises `NetworkOfOtherModelError`, `FeaturesNotKeptError`, and `TokenWidthError` for a row of another width.
        """
        if differ(fingerprint(trace.blocks[0].to_k), self.fingerprint):
            raise NetworkOfOtherModelError(
                f"the network {self.card.kind!r} was trained on another model than the one that made this image"
            )
        width = self.module.sizes.text_width
        if len(row) != width:
            raise TokenWidthError(f"the target's row is {len(row)} wide, the network {self.card.kind!r} takes {width}")
        levels = pyramid(trace, self.card.blocks, self.card.attentions)
        with torch.no_grad():
            return self.module.to(levels[0].device).probability(levels, row.to(levels[0]), trace.image_size)

    def row(self, pipeline: Pipeline, target: Words | Rows, clip_skip: int | None = None) -> Float[Tensor, " text_width"]:
        """Return the row by which a target is asked for: a class's text, or a learned token in its place.

        Grounded Diffusion takes the mean of the word's rows in its prompt; DatasetDM that of all rows of the word alone, its
        padding's, too.

        Raises `ClassNotTrainedError` for a word that the network was not trained for, if it knows those of its training alone.
        """
        if isinstance(target, Words):
            word = target.word or target.prompt
            if self.card.words and word.casefold() not in self.card.words:
                known = ", ".join(self.card.words)
                raise ClassNotTrainedError(
                    f"the network {self.card.kind!r} was not trained for {word!r}; allowed: {known}, or a token"
                )
            if self.card.kind == "datasetdm":
                return encode(pipeline, word, padding="max_length", clip_skip=clip_skip)[0].float().mean(dim=0)
        (rows,) = rows_of(pipeline, [target], [Method()], clip_skip)
        return rows.embedding[list(rows.chosen)].float().mean(dim=0)

    def save(self, path: Path) -> None:
        """Write weights in half precision, spectral norms folded in, and the card; never half a file."""
        whole = module_of(self.card)
        whole.load_state_dict(self.module.state_dict())
        whole.fold()
        weights = {name: tensor.half().contiguous() for name, tensor in whole.state_dict().items()}
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_suffix(".partial")
        card = json.dumps({"format": FORMAT, **asdict(self.card)})
        beside.write_bytes(save({**weights, FINGERPRINT: self.fingerprint.float()}, {"card": card}))
        beside.replace(path)


def module_of(card: Card) -> GroundedDiffusion | DatasetDM:
    """Return the module of a card, not trained."""
    if card.kind == "grounded-diffusion":
        return GroundedDiffusion(GroundedDiffusionSizes(**card.sizes))
    return DatasetDM(DatasetDMSizes(**card.sizes))


def network_of(pipeline: Pipeline, name: str) -> Network:
    """Return a trained network by its path, or by its name among those in the folder of the pipeline's model.

    Raises `NoNetworkError`, which says which there are.
    """
    path = Path(name) if name.endswith(SUFFIX) else Path(str(pipeline.name_or_path)) / FOLDER / f"{name}{SUFFIX}"
    if not path.is_file():
        known = ", ".join(networks_of(pipeline)) or "none"
        raise NoNetworkError(f"the model {pipeline.name_or_path!r} has no trained network {name!r}; it has: {known}")
    return _read(path, path.stat().st_mtime_ns)


def networks_of(pipeline: Pipeline) -> list[str]:
    """List the trained networks in the folder of the pipeline's model."""
    return networks_in(str(pipeline.name_or_path))


def networks_in(source: str) -> list[str]:
    """List the trained networks in a model's folder; a model that is none, but of the hub, has none."""
    return sorted(path.stem for path in (Path(source) / FOLDER).glob(f"*{SUFFIX}"))


def read(path: Path) -> Network:
    """Read what `Network.save` wrote. Raises `NetworkFileError` for another file."""
    try:
        with safe_open(path, "pt") as file:
            told = json.loads((file.metadata() or {})["card"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        if told.pop("format") != FORMAT:
            raise NetworkFileError(f"{path.name} is of another format than {FORMAT!r}")
        card = Card(**_tupled({**told, "sizes": _tupled(told["sizes"])}))
        known = tensors.pop(FINGERPRINT)
        module = module_of(card)
        module.fold()
        module.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    except (SafetensorError, KeyError, ValueError, TypeError, RuntimeError, AttributeError) as error:
        raise NetworkFileError(f"{path.name} holds no trained network: {error}") from error
    return Network(card, module.eval().requires_grad_(requires_grad=False), known)


def heats_of(
    trace: Trace, pipeline: Pipeline, targets: Sequence[Words | Rows], methods: Sequence[Method]
) -> dict[int, Float[Tensor, "height width"]]:
    """Compute the heat of the targets whose method has a trained network, by their number."""
    found = {}
    for number, (target, method) in enumerate(zip(targets, methods, strict=True)):
        if method.network is not None:
            network = network_of(pipeline, method.network)
            found[number] = network.heat(trace, network.row(pipeline, target, trace.clip_skip))
    return found


def _tupled(told: dict[str, Any]) -> dict[str, Any]:
    """Return what JSON holds as it was written."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in told.items()}


@lru_cache(maxsize=8)
def _read(path: Path, _changed: int) -> Network:
    """Read a file once, until it changes."""
    return read(path)
