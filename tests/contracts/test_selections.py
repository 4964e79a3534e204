"""A selection selects the same for who checks it as for the library, and is refused by its field."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as some

from contracts.rules.selections import check_selections, selected_blocks, selected_positions
from contracts.schema.errors import Code, ServiceError
from contracts.schema.images import BlockInfo, ImagesResult
from ovam.core.selection import Positions, Span, select_blocks, select_positions
from ovam.errors import SelectionError

INDEX = some.integers(-6, 6)
END = some.none() | INDEX | some.floats(0, 1, exclude_max=True)
POSITIONS = some.one_of(
    some.just("all"),
    INDEX,
    some.floats(0, 1, exclude_max=True),
    some.lists(INDEX, min_size=1, max_size=4),
    some.builds(Span, start=END, stop=END, step=some.none() | some.integers(1, 3)),
)
NAMES = ("down_blocks.0.attn2", "mid_block.attn2", "up_blocks.0.attn2", "up_blocks.1.attn2")
GRIDS = ((8, 6), (2, 2), (4, 3), (6, 8))
BLOCKS = [BlockInfo(name=name, grid=grid, heads=heads) for name, grid, heads in zip(NAMES, GRIDS, (2, 2, 2, 5), strict=True)]
PARTS = some.sampled_from([8, 4, 2, 6, "up", "blocks.0", "attn2", "up.blocks", "mid_block.attn2", "left"])


@given(POSITIONS, some.integers(1, 5))
def test_positions_are_the_librarys_own(selection: Positions, count: int) -> None:
    try:
        expected = select_positions(selection, count, "heads")
    except SelectionError as error:
        with pytest.raises(ServiceError, match=f"^{re.escape(str(error))}$") as caught:
            selected_positions(selection, count, field="heads")
        assert (caught.value.code, caught.value.field) == (Code.SELECTION_INVALID, "heads")
    else:
        assert selected_positions(selection, count, field="heads") == expected


@given(some.just("all") | some.lists(PARTS, min_size=1, max_size=3))
def test_blocks_are_the_librarys_own(selection: list[int | str]) -> None:
    try:
        expected = select_blocks(selection, {block.name: block.grid for block in BLOCKS})
    except SelectionError as error:
        with pytest.raises(ServiceError, match=f"^{re.escape(str(error))}$") as caught:
            selected_blocks(selection, BLOCKS, field="blocks")
        assert (caught.value.code, caught.value.field) == (Code.SELECTION_INVALID, "blocks")
    else:
        assert tuple(block.name for block in selected_blocks(selection, BLOCKS, field="blocks")) == expected


def test_heads_must_be_in_every_block_that_is_selected_and_in_no_other() -> None:
    images = ImagesResult.model_construct(evaluations=4, blocks=BLOCKS)
    check_selections(images, blocks=["up_blocks.1"], evaluations=[0, -4], heads=4)
    with pytest.raises(ServiceError, match=r"^place of heads is \[4\]; allowed: positions from -2 to 1$") as caught:
        check_selections(images, blocks="all", evaluations="all", heads=4, field=lambda name: f"place of {name}")
    assert caught.value.field == "place of heads"
    with pytest.raises(ServiceError) as caught:
        check_selections(images, blocks="all", evaluations=4)
    assert caught.value.field == "evaluations"
