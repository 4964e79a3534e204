"""A trace survives its way through bytes, and nothing else passes for one."""

import dataclasses
import json

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import load, save

import ovam
from ovam.errors import InvalidArgumentError, TraceFormatError, TraceMismatchError
from ovam.tracing.blocks import Block, SelfAttention


def test_a_trace_comes_back_from_its_bytes_as_it_was(pipeline: StableDiffusionPipeline, trace: ovam.Trace) -> None:
    again = ovam.Trace.from_bytes(trace.to_bytes(), pipeline)
    for field in ("evaluations", "timesteps", "latent_size", "image_size", "half", "clip_skip", "nbytes", "width"):
        assert getattr(again, field) == getattr(trace, field)
    for block, same in zip(trace.blocks, again.blocks, strict=True):
        assert (block.name, block.grid, block.scale) == (same.name, same.grid, same.scale)
        assert block.to_k is same.to_k
        assert torch.equal(block.queries, same.queries)


def test_half_the_bytes_are_enough_for_the_same_map(pipeline: StableDiffusionPipeline, trace: ovam.Trace) -> None:
    data = trace.to_bytes(dtype=torch.float16)
    assert len(data) < 0.6 * len(trace.to_bytes())
    again = ovam.Trace.from_bytes(data, pipeline)
    assert again.nbytes == trace.nbytes / 2
    maps = [ovam.word_heatmap(one, pipeline, "a cat", "cat") for one in (trace, again)]
    assert torch.allclose(*maps, atol=1e-3)


def test_a_trace_is_as_large_as_all_of_its_tensors(trace: ovam.Trace) -> None:
    queries = torch.zeros(3, 2, 96, 8)
    pixels = SelfAttention("attn1", (8, 12), 1.0, queries, queries.half())
    more = dataclasses.replace(trace, self_attention=(pixels,))
    assert trace.nbytes == sum(block.queries.nbytes for block in trace.blocks)
    assert more.nbytes == trace.nbytes + queries.nbytes * 1.5


def test_self_attention_that_need_not_move_stays_the_same_object(trace: ovam.Trace) -> None:
    """What heat was refined by is kept with it."""
    more = dataclasses.replace(trace, self_attention=(SelfAttention("attn1", (8, 12), 1.0, *torch.zeros(2, 3, 2, 96, 8)),))
    assert more.to("cpu").self_attention[0] is more.to(dtype=torch.float32).self_attention[0] is more.self_attention[0]
    moved = more.to("meta").self_attention[0], more.to(dtype=torch.float16).self_attention[0]
    assert [(one.queries.device.type, one.keys.dtype) for one in moved] == [("meta", torch.float32), ("cpu", torch.float16)]


def test_only_floating_types_and_eight_bits_can_hold_queries(trace: ovam.Trace) -> None:
    for dtype in (torch.int16, torch.uint8, torch.bool):
        with pytest.raises(InvalidArgumentError, match="dtype"):
            trace.to_bytes(dtype=dtype)


def test_bytes_that_are_cut_short_or_foreign_are_refused(pipeline: StableDiffusionPipeline, trace: ovam.Trace) -> None:
    data = trace.to_bytes()
    tensors = {"weight": torch.zeros(2)}
    huge_header = (1 << 62).to_bytes(8, "little") + data[8:]
    for bad in (b"", b"\x00" * 7, data[:-1], data[:100], b"\x80\x04K\x01.", save(tensors), huge_header):
        with pytest.raises(TraceFormatError):
            ovam.Trace.from_bytes(bad, pipeline)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("format", "ovam-trace/9"),
        ("blocks", []),
        ("blocks", [{"name": "elsewhere", "grid": [1, 1], "scale": 1, "width": 1}]),
        ("blocks", 5),
        ("grid", [8, 11]),
        ("grid", [96]),
        ("heads", [0]),
        ("heads", []),
        ("evaluations", [0]),
        ("timesteps", []),
        ("timesteps", ["now", "then", "later"]),
        ("latent_size", [8]),
        ("clip_skip", "two"),
        ("half", "other"),
        ("half", ["conditional"]),
    ],
)
def test_a_header_that_contradicts_the_tensors_is_refused(
    pipeline: StableDiffusionPipeline, trace: ovam.Trace, field: str, value: object
) -> None:
    data = trace.to_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["trace"])
    tensors = {block.name: block.queries for block in trace.blocks}
    if field in ("grid", "heads"):
        field, value = "blocks", [header["blocks"][0] | {field: value}]
    bad = save(tensors, metadata={"trace": json.dumps(header | {field: value})})
    with pytest.raises(TraceFormatError):
        ovam.Trace.from_bytes(bad, pipeline)


def test_a_trace_of_another_build_is_refused(pipeline: StableDiffusionPipeline, trace: ovam.Trace) -> None:
    block = trace.blocks[0]
    renamed = dataclasses.replace(block, name="down_blocks.7.attn2")
    wider = dataclasses.replace(block, to_k=torch.nn.Linear(48, 16, bias=False))
    fewer_heads = dataclasses.replace(block, queries=block.queries[:, :1])
    for foreign in (renamed, wider, fewer_heads):
        data = dataclasses.replace(trace, blocks=(foreign,)).to_bytes()
        with pytest.raises(TraceMismatchError, match=foreign.name):
            ovam.Trace.from_bytes(data, pipeline)


def test_keys_come_from_calling_the_projection(trace: ovam.Trace) -> None:
    block = trace.blocks[0]
    adapted = torch.nn.Sequential(block.to_k, torch.nn.Dropout(p=1.0))
    assert float(dataclasses.replace(block, to_k=adapted).keys(torch.ones(1, 32)).detach().abs().max()) == 0


def test_a_trace_cannot_be_changed(trace: ovam.Trace) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        trace.half = "unconditional"


def rewritten(data: bytes, **changes: object) -> bytes:
    """The same tensors under a changed header; ``None`` takes a field away."""
    length = int.from_bytes(data[:8], "little")
    header = json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["trace"]) | changes
    kept = {field: value for field, value in header.items() if value is not None}
    return save(load(data), metadata={"trace": json.dumps(kept)})


@pytest.mark.parametrize("changed", ["fingerprint", "to_k.weight"])
def test_keys_of_another_shape_or_type_are_refused(pipeline: StableDiffusionPipeline, trace: ovam.Trace, changed: str) -> None:
    data, name = trace.to_bytes(), f"{trace.blocks[0].name}.{changed}"
    length = int.from_bytes(data[:8], "little")
    metadata = json.loads(data[8 : 8 + length])["__metadata__"]
    for tensor in (torch.zeros(3), torch.zeros(16, 31), torch.zeros(16, 32, dtype=torch.int32), torch.zeros(2, 2, 2)):
        with pytest.raises((TraceFormatError, TraceMismatchError)):
            ovam.Trace.from_bytes(save(load(data) | {name: tensor}, metadata=metadata), pipeline)


def test_a_self_attention_without_its_tensors_is_refused(pipeline: StableDiffusionPipeline, trace: ovam.Trace) -> None:
    absent = [{"name": "down_blocks.0.attn1", "grid": [8, 12], "scale": 1.0}]
    with pytest.raises(TraceFormatError):
        ovam.Trace.from_bytes(rewritten(trace.to_bytes(), self_attention=absent), pipeline)


def test_heads_that_the_pipeline_lacks_are_a_mismatch(pipeline: StableDiffusionPipeline, trace: ovam.Trace) -> None:
    block = trace.blocks[0]
    for head in (block.heads, 7):
        foreign = dataclasses.replace(block, queries=block.queries[:, :1], head_indices=(head,))
        with pytest.raises(TraceMismatchError, match=block.name):
            ovam.Trace.from_bytes(dataclasses.replace(trace, blocks=(foreign,)).to_bytes(), pipeline)


def test_keys_have_the_type_of_the_queries_they_meet() -> None:
    queries = torch.zeros(1, 2, 6, 4, dtype=torch.float16)
    keys = Block("attn2", (2, 3), 0.5, queries, torch.nn.Linear(5, 8)).keys(torch.zeros(3, 5))
    assert (keys.dtype, keys.shape) == (torch.float16, (2, 3, 4))
