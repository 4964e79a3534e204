"""What is kept of a generation, or of a real image."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from torch import nn

from ovam.core.selection import (
    Blocks,
    FeatureChoice,
    Positions,
    picked_of,
    select_blocks,
    select_positions,
    written,
)
from ovam.errors import SelectionError
from ovam.tracing.contributions import Contributing
from ovam.tracing.families import UNET, family_of
from ovam.tracing.model import Projection, cross_attentions, self_attentions
from ovam.tracing.recording import Wanted
from ovam.tracing.trace import Half


@dataclass(frozen=True)
class Choice:
    """What is kept of a generation, or of a real image; see `capture`."""

    half: Half = "conditional"
    blocks: Blocks = "all"
    evaluations: Positions | slice = "all"
    heads: Positions | slice = "all"
    mid_block: bool = False
    self_attention: bool = False
    keep: Literal["queries", "replay"] = "queries"
    """Keep what the attentions computed, or what the UNet was given, from which it computes that again."""
    features: FeatureChoice | None = None
    contributions: bool = False

    def __post_init__(self) -> None:
        """Raise `SelectionError` for selections of no known form, before anything is drawn."""
        for name in ("evaluations", "heads"):
            picked_of(getattr(self, name), 1, name)
            object.__setattr__(self, name, written(getattr(self, name)))

    def wanted(self, unet: nn.Module) -> list[Wanted]:
        """List the projections that may be kept; resolutions are known after the first evaluation only.

        Raises `SelectionError`.
        """
        if family_of(unet).joint:  # of which any attention is computed again when it is asked for
            if self.heads != "all":
                raise SelectionError("heads", self.heads, "'all' where pixels and text attend together; select them in a method")
            return []
        found = cross_attentions(unet)
        found = {name: module for name, module in found.items() if self.mid_block or not name.startswith("mid_block")}
        possible = select_blocks(self.blocks, dict.fromkeys(found))
        wanted = [
            Wanted(name, found[name], "queries", select_positions(self.heads, found[name].heads, "heads")) for name in possible
        ]
        if self.self_attention:
            pixels, family = self_attentions(unet), family_of(unet)
            if family is not UNET:  # all are on one grid
                names = [*pixels]
                pixels = {name: pixels[name] for name in names[int(family.refine * len(names)) :][:1]}
            wanted += [
                Wanted(name, module, projection, tuple(range(module.heads)))
                for name, module in pixels.items()
                for projection in get_args(Projection)
            ]
        return wanted

    def contributing(self, unet: nn.Module, wanted: Sequence[Wanted]) -> list[Contributing]:
        """List the attentions whose contributions are measured; a replay's are computed again when they are asked for."""
        if not self.contributions or self.keep == "replay":
            return []
        return [
            Contributing.of(unet, each.name, each.attention, None if each.all_heads else each.heads)
            for each in wanted
            if each.to_text
        ]
