"""Selections of what an image's trace holds, checked against it."""

from collections.abc import Callable, Sequence
from typing import Protocol

from contracts.schema.errors import service_error
from contracts.schema.fields import Keep
from contracts.schema.images import BlockInfo
from ovam.core.selection import Blocks, Positions, select_blocks, select_positions
from ovam.errors import SelectionError


class Traced(Protocol):
    """Images whose traces are there, or will be: what settings select from."""

    @property
    def height(self) -> int:
        """Pixels."""
        ...

    @property
    def width(self) -> int:
        """Pixels."""
        ...

    @property
    def blocks(self) -> Sequence[BlockInfo]:
        """Those that are kept."""
        ...

    @property
    def evaluations(self) -> int:
        """How many are kept."""
        ...

    @property
    def self_attention(self) -> bool:
        """Whether it is kept."""
        ...

    @property
    def keep(self) -> Keep:
        """What is kept of their attention."""
        ...


def selected_blocks(selection: Blocks, blocks: Sequence[BlockInfo], *, field: str) -> list[BlockInfo]:
    """The selected ones of some blocks. ServiceError (selection-invalid) for a selection of blocks that are not there."""
    try:
        names = select_blocks(selection, {block.name: block.grid for block in blocks}, field)
    except SelectionError as error:
        raise service_error(error, field=field) from error
    return [block for block in blocks if block.name in names]


def selected_positions(selection: Positions, count: int, *, field: str) -> tuple[int, ...]:
    """The selected positions among `count`. ServiceError (selection-invalid) for positions that are not there."""
    try:
        return select_positions(selection, count, field)
    except SelectionError as error:
        raise service_error(error, field=field) from error


def check_selections(
    images: Traced,
    *,
    blocks: Blocks,
    evaluations: Positions,
    heads: Positions = "all",
    field: Callable[[str], str] = str,
) -> None:
    """Raise selection-invalid for a selection of what the images' traces do not hold; `field` is where the request makes it."""
    selected_positions(evaluations, images.evaluations, field=field("evaluations"))
    for block in selected_blocks(blocks, images.blocks, field=field("blocks")):
        selected_positions(heads, block.heads, field=field("heads"))
