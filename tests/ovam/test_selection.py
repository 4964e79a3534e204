"""A choice means the same at capture as in a heatmap, and what is kept is a part of the whole."""

from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline

import ovam
from ovam.core.selection import Span, select_blocks, select_positions
from ovam.errors import SelectionError
from tests.families import generate


@pytest.mark.parametrize(
    ("selection", "count", "expected"),
    [
        ("all", 3, (0, 1, 2)),
        (2, 3, (2,)),
        (-3, 3, (0,)),
        ([2, 0, -3, 2], 3, (0, 2)),
        (0.0, 3, (0,)),
        (0.5, 4, (2,)),
        (0.99, 3, (2,)),
        (Span(1), 3, (1, 2)),
        (Span(stop=-1, step=2), 6, (0, 2, 4)),
        (Span(-9, 9), 2, (0, 1)),
        (Span(0.5), 7, (3, 4, 5, 6)),
        (Span(0.5), 1, (0,)),
        (Span(0.25, 0.75), 8, (2, 3, 4, 5)),
        (Span(1, 0.5), 6, (1, 2)),
        (slice(None, None, 2), 3, (0, 2)),
    ],
)
def test_positions_rise_and_are_named_once(selection: Any, count: int, expected: tuple[int, ...]) -> None:
    assert select_positions(selection, count, "heads") == expected


@pytest.mark.parametrize("selection", [3, -4, [0, 3], [], Span(3), Span(stop=0.2), 1.0, -0.1, float("nan")])
def test_positions_that_are_not_there_are_refused(selection: Any) -> None:
    with pytest.raises(SelectionError, match=r"^heads is "):
        select_positions(selection, 3, "heads")


GRIDS = {"down.1.attn2": (8, 12), "down.11.attn2": (4, 6), "up.1.attn2": (6, 4), "up.2.attn2": (12, 8)}


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        ("all", [*GRIDS]),
        ("down.1", ["down.1.attn2"]),
        ("1.attn2", ["down.1.attn2", "up.1.attn2"]),
        ("attn", [*GRIDS]),
        (12, ["down.1.attn2", "up.2.attn2"]),
        (["up.2", 6, "down.11"], ["down.11.attn2", "up.1.attn2", "up.2.attn2"]),
    ],
)
def test_blocks_are_named_by_whole_numbers_and_the_longer_side_in_their_own_order(selection: Any, expected: list[str]) -> None:
    assert select_blocks(selection, GRIDS) == tuple(expected)


@pytest.mark.parametrize("selection", [8, 4, "down.attn", "down.2", "", [], ["up", "left"], ["up", 7], "DOWN"])
def test_a_part_that_no_block_has_is_refused(selection: Any) -> None:
    with pytest.raises(SelectionError, match=r"^blocks is "):
        select_blocks(selection, GRIDS)


def test_a_block_whose_grid_is_not_known_yet_passes_for_any_resolution() -> None:
    assert select_blocks(8, {"down": None, "up": (8, 8), "mid": (2, 2)}) == ("down", "up")


@pytest.mark.parametrize(("blocks", "grids"), [(12, {(8, 12)}), ([6, "up_blocks.0"], {(4, 6), (2, 3)}), ("mid", {(2, 3)})])
def test_blocks_are_chosen_at_capture_by_resolution_and_position(
    pipeline: StableDiffusionPipeline, blocks: Any, grids: set[tuple[int, int]]
) -> None:
    with ovam.capture(pipeline, blocks=blocks, mid_block=True) as traces, ovam.capture(pipeline, mid_block=True) as whole:
        generate(pipeline, "sd1")
    assert {block.grid for block in traces[0].blocks} == grids
    embedding, _ = ovam.encode(pipeline, "a cat")
    assert torch.equal(ovam.heatmaps(traces[0], embedding), ovam.heatmaps(whole[0], embedding, blocks=blocks))


def test_a_resolution_that_no_block_has_is_refused_at_the_first_evaluation(pipeline: StableDiffusionPipeline) -> None:
    with (
        pytest.raises(SelectionError, match="blocks is 64; allowed: a resolution of 12, 6, 3, or"),
        ovam.capture(pipeline, blocks=64),
    ):
        generate(pipeline, "sd1")


def test_a_resolution_is_known_even_when_the_first_evaluation_is_not_kept(pipeline: StableDiffusionPipeline) -> None:
    with ovam.capture(pipeline, blocks=6, evaluations=-1) as traces:
        generate(pipeline, "sd1")
    assert {block.grid for block in traces[0].blocks} == {(4, 6)}
    assert traces[0].evaluations == (1,)


def test_chosen_heads_are_those_of_the_whole_trace_and_survive_its_bytes(pipeline: StableDiffusionPipeline) -> None:
    with ovam.capture(pipeline, heads=1) as part, ovam.capture(pipeline) as whole:
        generate(pipeline, "sd1")
    embedding, _ = ovam.encode(pipeline, "a cat")
    expected = ovam.heatmaps(whole[0], embedding, heads=1)
    for trace in (part[0], ovam.Trace.from_bytes(part[0].to_bytes(), pipeline)):
        assert {block.heads for block in trace.blocks} == {1}
        assert {block.head_indices for block in trace.blocks} == {(1,)}
        assert torch.allclose(ovam.heatmaps(trace, embedding), expected, atol=1e-6)


def test_a_head_that_a_block_lacks_is_refused_at_once(pipeline: StableDiffusionPipeline) -> None:
    with pytest.raises(SelectionError, match=r"heads .*\[3\]"), ovam.capture(pipeline, heads=3):
        pass


def test_self_attentions_of_the_largest_grid_are_kept_only_when_asked_for(pipeline: StableDiffusionPipeline) -> None:
    with ovam.capture(pipeline, self_attention=True, evaluations=1) as traces, ovam.capture(pipeline) as usual:
        generate(pipeline, "sd1")
    kept = traces[0].self_attention
    assert usual[0].self_attention == ()
    assert [each.grid for each in kept] == [(8, 12)] * 3
    assert all(each.name.endswith("attn1") for each in kept)
    assert all(each.queries.shape == each.keys.shape == (1, 2, 96, 8) for each in kept)
    assert traces[0].nbytes > usual[0].nbytes / 2
    half = traces[0].to(dtype=torch.float16).self_attention[0]
    assert half.queries.dtype == half.keys.dtype == torch.float16


def test_kept_queries_and_keys_are_those_that_the_pixels_attended_with(pipeline: StableDiffusionPipeline) -> None:
    name = "down_blocks.0.attentions.0.transformer_blocks.0.attn1"
    attention = pipeline.unet.get_submodule(name)
    outputs: dict[str, list[torch.Tensor]] = {"to_q": [], "to_k": []}
    handles = [
        getattr(attention, part).register_forward_hook(lambda _m, _a, out, part=part: outputs[part].append(out[1]))
        for part in outputs
    ]
    with ovam.capture(pipeline, self_attention=True) as traces:
        generate(pipeline, "sd1")
    for handle in handles:
        handle.remove()
    kept = next(each for each in traces[0].self_attention if each.name == name)
    for tensor, part in ((kept.queries, "to_q"), (kept.keys, "to_k")):
        assert torch.equal(tensor.transpose(1, 2).flatten(-2), torch.stack(outputs[part]))
