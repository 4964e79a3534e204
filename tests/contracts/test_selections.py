"""A choice selects the same for who checks it as for the method."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as some

from contracts.errors import Code, ServiceError
from contracts.fields import Span
from contracts.generation import BlockInfo
from contracts.selections import chosen_blocks, native, positions
from ovam import selection
from ovam.errors import SelectionError

INDEX = some.integers(-6, 6)
CHOICES = some.one_of(
    some.none(),
    INDEX,
    some.floats(0, 1, exclude_max=True),
    some.lists(INDEX, min_size=1, max_size=4),
    some.builds(Span, start=some.none() | INDEX, stop=some.none() | INDEX, step=some.none() | some.integers(1, 3)),
)
NAMES = ("down_blocks.0.attn2", "mid_block.attn2", "up_blocks.0.attn2", "up_blocks.1.attn2")
GRIDS = ((8, 6), (2, 2), (4, 3), (6, 8))
BLOCKS = [BlockInfo(name=name, grid=grid, heads=2) for name, grid in zip(NAMES, GRIDS, strict=True)]
PARTS = some.sampled_from([8, 4, 2, 6, "up", "blocks.0", "attn2", "up.blocks", "mid_block.attn2", "left"])


@given(CHOICES, some.integers(1, 5))
def test_indices_are_the_methods_own(choice: float | list[int] | Span | None, count: int) -> None:
    try:
        expected = selection.chosen_indices(native(choice), count, "heads")
    except SelectionError:
        with pytest.raises(ServiceError) as caught:
            positions(choice, count, field="heads")
        assert (caught.value.code, caught.value.field) == (Code.SELECTION_INVALID, "heads")
    else:
        assert tuple(positions(choice, count, field="heads")) == expected


@given(some.lists(PARTS, min_size=1, max_size=3))
def test_blocks_are_the_methods_own(choice: list[int | str]) -> None:
    literal = [part if isinstance(part, int) else re.escape(part) for part in choice]
    try:
        expected = selection.chosen_blocks(literal, {block.name: block.grid for block in BLOCKS})
    except SelectionError:
        with pytest.raises(ServiceError, match=r"selects no block; resolutions: 8, 4, 2; names begin with: down_blocks.0, mid"):
            chosen_blocks(choice, BLOCKS, field="blocks")
    else:
        assert tuple(block.name for block in chosen_blocks(choice, BLOCKS, field="blocks")) == expected
