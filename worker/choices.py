"""What requests choose of blocks and heads, as the library takes it."""

import re
from collections.abc import Sequence
from typing import Any

import ovam
from contracts.capabilities import kept_blocks
from contracts.generation import BlockInfo, FilledCapture
from contracts.models import ModelCard
from contracts.selections import native


def kept(options: FilledCapture, card: ModelCard, size: tuple[int, int]) -> dict[str, Any]:
    """What `ovam.capture` and `ovam.trace_image` keep of an image of (height, width)."""
    return {
        "blocks": named(kept_blocks(options, card, size)),
        "heads": native(options.heads),
        "mid_block": options.mid_block,
        "self_attention": options.self_attention,
    }


def named(blocks: Sequence[BlockInfo]) -> list[str]:
    """Expressions that select these blocks and no others."""
    return [f"^{re.escape(block.name)}$" for block in blocks]


def blocks_of(trace: ovam.Trace) -> list[BlockInfo]:
    """The blocks that a trace holds."""
    return [BlockInfo(name=block.name, grid=block.grid, heads=block.heads) for block in trace.blocks]
