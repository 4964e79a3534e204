"""What a worker keeps of the attention of an image: in memory for the next question, in the store for later ones."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import prod
from typing import Any, Final, TypeVar

import numpy as np
import torch
from jaxtyping import UInt8

from contracts.rules.capabilities import kept_blocks
from contracts.rules.targets import changes_of
from contracts.schema.fields import Keep, Precision
from contracts.schema.images import FilledCapture
from contracts.schema.models import ModelCard
from contracts.state import keys
from contracts.state.store import File
from ovam.core.methods import METHODS
from ovam.errors import NotReplayableError
from ovam.tracing.model import Pipeline, cross_attentions, plain_unet
from ovam.tracing.replay import Replay
from ovam.tracing.trace import Trace
from worker.rendering import BINARY
from worker.scenes import Scene

PRECISIONS: Final[dict[Precision, torch.dtype]] = {
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "int8": torch.int8,
}
T = TypeVar("T")
log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Taken:
    """An image and what is kept of its attention: a trace, a replay, or both."""

    image: UInt8[np.ndarray, "height width 3"]
    trace: Trace | None
    replay: Replay | None

    @property
    def kept(self) -> Trace | Replay:
        """What is stored."""
        found = self.replay or self.trace
        if found is None:
            raise ValueError("nothing was kept of the image")
        return found

    @property
    def keep(self) -> Keep:
        """In which form it is stored."""
        return "queries" if self.replay is None else "replay"

    def scene(self, precision: Precision | None) -> Scene | None:
        """Return what is kept in memory, as a later question would find it in the store."""
        if self.trace is None or (self.replay is None and precision == "int8"):
            return None
        return Scene(self.trace if self.replay else self.trace.to(dtype=PRECISIONS[precision or "float16"]), self.image)

    def file(self, index: int, precision: Precision | None) -> File:
        """Encode what is stored of image number `index` of its job."""
        if self.replay is not None:
            return File(keys.replay(index), BINARY, self.replay.to_bytes())
        if self.trace is None:
            raise ValueError("nothing was kept of the image")
        return File(keys.trace(index), BINARY, self.trace.to_bytes(PRECISIONS[precision or "float16"]))


def stored_as(kept: Trace | Replay, index: int) -> str:
    """Return the name of the file in which something is kept of image number `index`."""
    return keys.replay(index) if isinstance(kept, Replay) else keys.trace(index)


def needs_self_attention(card: ModelCard) -> bool:
    """Whether words are looked for with self-attention unless a request says otherwise."""
    best = card.word_defaults
    return replace(METHODS[best.method].words, **changes_of(best.settings)).needs_self_attention


def queries_bytes(pipeline: Pipeline, capture: FilledCapture, card: ModelCard, size: tuple[int, int], evaluations: int) -> int:
    """Return how large the queries of one image are, with the self-attention that words are looked for with; about."""
    unet: Any = plain_unet(pipeline)
    if card.joint:  # it is as large as its replay
        return 0
    widths = {name: attention.inner_dim for name, attention in cross_attentions(unet).items()}
    values = sum(prod(block.grid) * widths[block.name] for block in kept_blocks(capture, card, size))
    return evaluations * values * unet.dtype.itemsize * (2 if needs_self_attention(card) else 1)


def in_either_form(take: Callable[[bool], T], *, replay: bool, label: str) -> T:
    """Take images with a replay, or where that is refused, with queries; `take` is told whether a replay is wanted."""
    if replay:
        try:
            return take(True)
        except NotReplayableError as error:
            log.warning("%s: queries are stored instead of a replay: %s", label, error)
    return take(False)
