"""The published methods as settings of the same functions."""

from dataclasses import dataclass

from ovam.masks import Normalize


@dataclass(frozen=True)
class Method:
    """How a method turns a heatmap into a mask."""

    name: str
    tau: float
    """Share of the hottest pixel that counts as inside (Eq. 9)."""
    alpha: float | None
    """Lower end of the self-attention weights (Eq. 8); ``None``: no self-attention."""
    normalize: Normalize
    evaluation: int | None
    """The one evaluation used; ``None``: all."""
    crf: bool
    """Whether `ovam.dense_crf` follows."""


def _attn2mask(name: str, beta: float) -> Method:
    """Attn2Mask's background is 1 - h - beta: inside is h > (1 - beta) / 2 of the min-max map."""
    return Method(name, tau=(1 - beta) / 2, alpha=None, normalize="minmax", evaluation=50, crf=True)


METHODS = (
    Method("ovam-words", tau=0.4, alpha=0.85, normalize="max", evaluation=None, crf=True),
    Method("ovam-optimized", tau=0.8, alpha=0.95, normalize="max", evaluation=None, crf=True),
    Method("daam-words", tau=0.4, alpha=None, normalize="max", evaluation=None, crf=False),
    Method("daam-optimized", tau=0.8, alpha=None, normalize="max", evaluation=None, crf=False),
    _attn2mask("attn2mask-words", beta=0.2),
    _attn2mask("attn2mask-optimized", beta=-0.2),
)
"""The settings of the paper's tables; Attn2Mask is meant for generations of 100 steps."""
