"""The families of models whose attention can be read, as data: which attention each has, and where it is read by default."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil
from types import MappingProxyType
from typing import Any, Final

from ovam.core.methods import Attention
from ovam.errors import AttentionError

Depth = tuple[float, float]
"""From and to which fraction of a model's joint blocks."""


@dataclass(frozen=True)
class Family:
    """What is known of a family of models."""

    name: str
    attentions: tuple[Attention, ...] = ("cross",)
    """Those that it has; a method that names none gets the first."""
    packed: bool = False
    """Whether latents come as a row of patches of 2 by 2."""
    depths: Mapping[Attention, Depth] = field(default_factory=lambda: MappingProxyType({}))
    """Which joint blocks are read unless a method names some."""
    refine: float = 0.5
    """The joint block whose attention among pixels refines heat, as a fraction of the depth."""

    @property
    def joint(self) -> bool:
        """Whether pixels and text attend together."""
        return "joint" in self.attentions

    def attention(self, wanted: Attention | None) -> Attention:
        """Return the attention that a method reads. Raises `AttentionError` for one that the family lacks."""
        if wanted is not None and wanted not in self.attentions:
            raise AttentionError(wanted, self.name, self.attentions)
        return wanted or self.attentions[0]

    def default_blocks(self, attention: Attention, names: Sequence[str]) -> tuple[str, ...]:
        """Return the joint blocks of a model that an attention is read from by default; `names` are its joint blocks."""
        first, last = self.depths[attention]
        start = int(first * len(names))
        return tuple(names[start : max(start + 1, ceil(last * len(names)))])


_JOINT: Final[tuple[Attention, ...]] = ("concept", "joint", "text")
# ConceptAttention (Helbling et al. 2025) averages double blocks 15 to 18 of FLUX's 19; others at the same depth. Seg4Diff
# (Kim et al. 2025) reads block 9 of SD3's 24, which binds words to regions.
_LATE: Final[Depth] = (15 / 19, 1.0)
_MIDDLE: Final[Depth] = (9 / 24, 10 / 24)
_DEPTHS: Final[Mapping[Attention, Depth]] = MappingProxyType({"concept": _LATE, "joint": _MIDDLE, "text": _MIDDLE})

UNET: Final = Family("unet")
FAMILIES: Final[Mapping[str, Family]] = MappingProxyType({
    "UNet2DConditionModel": UNET,
    "PixArtTransformer2DModel": Family("pixart"),
    "SanaTransformer2DModel": Family("sana"),
    "SD3Transformer2DModel": Family("sd3", _JOINT, depths=_DEPTHS, refine=9 / 24),
    "FluxTransformer2DModel": Family("flux", _JOINT, packed=True, depths=_DEPTHS, refine=15 / 19),
    "Flux2Transformer2DModel": Family("flux2", _JOINT, packed=True, depths=_DEPTHS, refine=15 / 19),
})  # fmt: skip
"""By the class of the model that predicts noise."""


def family_named(name: str) -> Family:
    """Return a family by its name."""
    return next(family for family in FAMILIES.values() if family.name == name)


def family_of(unet: Any) -> Family:  # noqa: ANN401 - a UNet, or a transformer
    """Return a model's family: a UNet's, unless it is one of the transformers that are known."""
    return next((FAMILIES[kind.__name__] for kind in type(unet).__mro__ if kind.__name__ in FAMILIES), UNET)
