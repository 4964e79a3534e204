"""Stored queries: eight bits are enough, a part is read alone, and what is damaged is named."""

import json
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as some
from hypothesis.extra.numpy import arrays
from safetensors.torch import load, save

import ovam
from ovam.core.tensor_files import LENGTH_BYTES, LONGEST_HEAD, head_size, layout_of
from ovam.errors import SelectionError, TraceFormatError
from ovam.tracing.quantised import dequantised, quantised
from ovam.tracing.stored import StoredPart
from tests.families import generate

UP = "up_blocks.1"


@pytest.fixture(scope="module")
def whole(pipeline: Any) -> ovam.Trace:
    with ovam.capture(pipeline, self_attention=True) as traces:
        generate(pipeline, "sd1", num_inference_steps=5)
    return traces[0]


@pytest.mark.parametrize("dtype", [None, torch.float16, torch.bfloat16, torch.int8])
@pytest.mark.parametrize("pixels", [False, True])
def test_a_part_that_is_read_alone_answers_as_the_whole_file(pipeline: Any, whole: ovam.Trace, dtype: Any, pixels: Any) -> None:
    data = whole.to_bytes(dtype)
    part = StoredPart.of(layout_of(data[: head_size(data)]), blocks=[UP, 3], evaluations=[1, -1], self_attention=pixels)
    part.require_whole(len(data))
    read = part.ranges()
    assert 0 < sum(end - start for start, end in read) < (0.5 if not pixels else 0.8) * len(data)
    trace, same = part.trace([data[start:end] for start, end in read], pipeline), ovam.Trace.from_bytes(data, pipeline)
    embedding, _ = ovam.encode(pipeline, "a cat on a tree")
    options: dict[str, Any] = {"blocks": UP, "evaluations": [1, 4]}
    assert torch.equal(ovam.heatmaps(trace, embedding, **options), ovam.heatmaps(same, embedding, **options))
    assert {block.positions for block in trace.blocks} == {(1, 4)}
    assert len(trace.self_attention) == (len(whole.self_attention) if pixels else 0)
    with pytest.raises(SelectionError, match="those that were read or computed"):
        ovam.heatmaps(trace, embedding)


@given(
    arrays("float32", (2, 2, 6, 3), elements=some.floats(-100, 100, width=32)),
)
@example(np.full((2, 2, 6, 3), 2.0**-14, "float32"))  # its scale is at the end of half precision
@settings(max_examples=50)
def test_eight_bits_err_by_half_a_step_of_their_channel_at_most(values: Any) -> None:
    exact = torch.from_numpy(values)
    steps, scales = quantised(exact)
    found = dequantised(steps, scales).float()
    largest = exact.abs().amax(dim=2, keepdim=True)
    assert (largest <= 127 * scales.float() * (1 + 1e-6)).all()  # it is in reach
    assert ((found - exact).abs() <= largest / 127 * 0.51 + largest * 2**-10 + 2**-23).all()


def test_eight_bits_give_the_same_masks(pipeline: Any, whole: ovam.Trace) -> None:
    coarse = ovam.Trace.from_bytes(whole.to_bytes(torch.int8), pipeline)
    embedding, _ = ovam.encode(pipeline, "a cat on a tree")
    maps, same = ovam.heatmaps(whole, embedding), ovam.heatmaps(coarse, embedding)
    assert float((maps - same).abs().max() / maps.max()) < 2e-3


def test_a_damaged_tensor_is_named_whether_it_is_read_alone_or_with_all_others(pipeline: Any, whole: ovam.Trace) -> None:
    data = bytearray(whole.to_bytes(torch.float16))
    layout = layout_of(bytes(data))
    name = next(name for name in layout.places if name.startswith(UP) and name.endswith("attn2"))
    data[layout.places[name].part(3)[0] + 5] ^= 16
    message = rf"'{name}', part 3, is damaged: checksum \w{{8}}, expected \w{{8}}"
    with pytest.raises(TraceFormatError, match=message):
        ovam.Trace.from_bytes(bytes(data), pipeline)
    assert len(layout.damaged(bytes(data))) == 1
    for evaluations, sound in (([3], False), ([0, 1, 2, 4], True)):
        part = StoredPart.of(layout, evaluations=evaluations)
        read = [bytes(data[start:end]) for start, end in part.ranges()]
        if sound:
            part.trace(read, pipeline)
            continue
        with pytest.raises(TraceFormatError, match=message):
            part.trace(read, pipeline)


def test_a_file_that_is_cut_short_is_refused_before_its_parts_are_read(whole: ovam.Trace) -> None:
    data = whole.to_bytes()
    part = StoredPart.of(layout_of(data))
    with pytest.raises(TraceFormatError, match=f"has {len(data) - 7} bytes, and by its head {len(data)}"):
        part.require_whole(len(data) - 7)
    for bad in (b"", data[:7], data[:100], save(load(data))):
        with pytest.raises(TraceFormatError):
            layout_of(bad)


def test_traces_of_the_format_before_are_read(pipeline: Any, whole: ovam.Trace) -> None:
    data = whole.to_bytes()
    header = dict(layout_of(data).header) | {"format": "ovam-trace/3"}
    del header["checksums"]
    old = save(load(data), metadata={"trace": json.dumps(header)})
    assert torch.equal(ovam.Trace.from_bytes(old, pipeline).blocks[0].queries, whole.blocks[0].queries)
    with pytest.raises(TraceFormatError, match="read in part: 'ovam-trace/4'"):
        StoredPart.of(layout_of(old))


def test_a_self_attention_whose_queries_and_keys_differ_in_shape_is_refused(pipeline: Any, whole: ovam.Trace) -> None:
    data = whole.to_bytes()
    header = dict(layout_of(data).header) | {"format": "ovam-trace/3"}
    del header["checksums"]
    name = f"{whole.self_attention[0].name}.keys"
    tensors = load(data)
    tensors[name] = tensors[name][..., :-1].contiguous()
    with pytest.raises(TraceFormatError):
        ovam.Trace.from_bytes(save(tensors, metadata={"trace": json.dumps(header)}), pipeline)


def test_a_head_has_a_length_that_a_head_may_have() -> None:
    assert head_size(LONGEST_HEAD.to_bytes(LENGTH_BYTES, "little")) == LENGTH_BYTES + LONGEST_HEAD
    for bad in (0, 1, LONGEST_HEAD + 1):
        with pytest.raises(TraceFormatError):
            head_size(bad.to_bytes(LENGTH_BYTES, "little"))
