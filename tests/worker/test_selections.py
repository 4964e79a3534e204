"""Gateway and library agree on what a selection selects."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from contracts.errors import Code, ServiceError
from contracts.fields import Blocks, Evaluations
from contracts.generation import BlockInfo, GenerateResult
from ovam.errors import SelectionError
from ovam.methods import _read_indices
from ovam.selection import chosen_blocks, chosen_indices
from service.validation import selections

BLOCKS = [
    BlockInfo(name=f"{place}.attentions.0.transformer_blocks.0.attn2", grid=grid, heads=2)
    for place, grid in (("down_blocks.0", (8, 12)), ("down_blocks.1", (4, 6)), ("up_blocks.1", (4, 6)), ("up_blocks.2", (8, 12)))
]
ENDS = st.none() | st.integers(-7, 7)
INDICES = st.one_of(
    st.integers(-7, 7),
    st.floats(0, 0.99),
    st.lists(st.integers(-7, 7), min_size=1, max_size=3),
    st.fixed_dictionaries({}, optional={"start": ENDS, "stop": ENDS, "step": st.integers(1, 3)}),
)


@given(INDICES, st.integers(1, 6))
def test_indices_that_the_library_refuses_are_refused_by_the_gateway(choice: Any, count: int) -> None:
    try:
        chosen_indices(_read_indices("evaluations", choice), count, "evaluations")
    except SelectionError:
        with pytest.raises(ServiceError) as error:
            selections.check_indices(TypeAdapter(Evaluations).validate_python(choice), count, "evaluations", field="evaluations")
        assert (error.value.code, error.value.field) == (Code.SELECTION_INVALID, "evaluations")
    else:
        selections.check_indices(TypeAdapter(Evaluations).validate_python(choice), count, "evaluations", field="evaluations")


@given(st.lists(st.sampled_from(["up", "down_blocks.1", "mid", ".", "attn2", "blocks.3", 12, 6, 8]), min_size=1, max_size=3))
def test_blocks_are_chosen_alike(choice: list[str | int]) -> None:
    TypeAdapter(Blocks).validate_python(choice)
    try:
        expected = chosen_blocks(choice, {block.name: block.grid for block in BLOCKS})
    except SelectionError:
        with pytest.raises(ServiceError, match="selects none of those that were kept"):
            selections.chosen_blocks(choice, BLOCKS, field="blocks")
    else:
        assert tuple(block.name for block in selections.chosen_blocks(choice, BLOCKS, field="blocks")) == expected


def test_a_record_that_does_not_tell_is_not_held_against_a_selection() -> None:
    silent = GenerateResult(model="tiny", height=8, width=8, num_inference_steps=1, guidance_scale=1.0, evaluations=1, images=[])
    selections.check_selection(silent, ["side"], 99, 99, {})
