"""A replay gives the trace that was captured: bitwise in a batch of the capture's size, nearly so in any other."""

import dataclasses
import json
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some
from safetensors.torch import load, save

import ovam
from ovam.core.selection import FeatureChoice, Span
from ovam.errors import (
    CaptureError,
    InvalidArgumentError,
    NotReplayableError,
    SelectionError,
    TraceFormatError,
    TraceMismatchError,
)
from ovam.real_images import Course, observed
from ovam.tracing import passes
from ovam.tracing.binding import binding_of
from ovam.tracing.inputs import inputs_of
from ovam.tracing.recorder import Choice
from tests.families import FAMILIES, generate, tiny_family
from tests.ovam.test_bindings import add
from tests.pipelines import SCHEDULERS, tiny_scheduler

pytestmark = [
    # diffusers' Euler schedulers meet a newer NumPy
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning:diffusers"),
    pytest.mark.filterwarnings("ignore:__array_wrap__ must accept:DeprecationWarning"),
]
ONE = 1  # bytes of memory: one evaluation at a time
TOLERANCE = 5e-6  # relative to the largest query: what batches of other sizes differ by in single precision
REPLAYABLE = [family for family in FAMILIES if family != "controlnet"]
every_family = pytest.mark.parametrize("family", REPLAYABLE)


@cache
def shared(family: str) -> Any:
    return tiny_family(family)


def both(pipeline: Any, family: str, **options: Any) -> tuple[ovam.Trace, ovam.Replay]:
    """The trace and the replay of one generation."""
    with ovam.capture(pipeline, self_attention=True) as traces, ovam.capture_replay(pipeline) as replays:
        generate(pipeline, family, **options)
    return traces[-1], replays[-1]


def distance(one: ovam.Trace, other: ovam.Trace) -> float:
    """Largest difference of queries and keys, relative to the largest of its block."""
    pairs = [(a.queries, b.queries) for a, b in zip(one.blocks, other.blocks, strict=True)]
    for a, b in zip(one.self_attention, other.self_attention, strict=True):
        pairs += [(a.queries, b.queries), (a.keys, b.keys)]
    assert all(a.shape == b.shape and a.dtype == b.dtype for a, b in pairs)
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in pairs)


def facts(trace: ovam.Trace) -> tuple[Any, ...]:
    """Everything that a trace says of itself."""
    blocks = [(block.name, block.grid, block.scale, block.head_indices) for block in (*trace.blocks,)]
    layers = [(layer.name, layer.grid, layer.scale) for layer in trace.self_attention]
    sizes = (trace.latent_size, trace.image_size, trace.half, trace.clip_skip)
    return blocks, layers, trace.evaluations, trace.timesteps, sizes


@every_family
@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_a_replay_gives_the_trace_and_its_heatmaps(family: str, scheduler: str) -> None:
    pipeline = shared(family)
    pipeline.scheduler = tiny_scheduler(scheduler, **FAMILIES[family].scheduler)
    trace, replay = both(pipeline, family)
    again = ovam.Replay.from_bytes(replay.to_bytes()).trace(pipeline, self_attention=True)
    assert facts(again) == facts(trace)
    assert distance(again, trace) < TOLERANCE
    embedding, _ = ovam.encode(pipeline, "a cat on a tree")
    maps, same = ovam.heatmaps(trace, embedding), ovam.heatmaps(again, embedding)
    assert float((maps - same).abs().max()) <= 1e-5 * float(maps.max())


@every_family
def test_in_a_batch_of_the_captures_size_a_replay_is_bitwise_the_trace(family: str) -> None:
    pipeline = shared(family)
    trace, replay = both(pipeline, family, guidance_scale=1.0)
    assert distance(replay.trace(pipeline, self_attention=True, memory=ONE), trace) == 0


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
@pytest.mark.parametrize("size", [(128, 192), (72, 40)])
@pytest.mark.parametrize("half", ["conditional", "unconditional"])
def test_the_law_holds_for_any_size_both_halves_and_every_image_of_a_batch(family: str, size: tuple[int, int], half: Any) -> None:
    pipeline = shared(family)
    options = {"half": half, "heads": [0, -1], "evaluations": -1, "blocks": ["up", -(-max(size) // 16)], "mid_block": True}
    with ovam.capture(pipeline, self_attention=True, **options) as traces, ovam.capture_replay(pipeline, **options) as replays:
        generate(pipeline, family, ["a cat", "a dog on a tree"], size=size, num_images_per_prompt=2)
    assert len(replays) == 4
    for trace, replay in zip(traces, replays, strict=True):
        again = replay.trace(pipeline, self_attention=True)
        assert facts(again) == facts(trace)
        assert distance(again, trace) < TOLERANCE


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float16, 0.02), (torch.bfloat16, 0.1)])
@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_half_precision_replays_within_its_own_rounding(family: str, dtype: torch.dtype, bound: float) -> None:
    pipeline = tiny_family(family).to(dtype)
    trace, replay = both(pipeline, family)
    assert replay.samples.dtype == dtype
    assert distance(replay.trace(pipeline, self_attention=True), trace) < bound
    alone, replay = both(pipeline, family, guidance_scale=1.0)
    assert distance(replay.trace(pipeline, self_attention=True, memory=ONE), alone) == 0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 5e-3), (torch.float16, 0.02), (torch.bfloat16, 0.1)])
def test_a_gpu_replays_within_its_own_rounding(dtype: torch.dtype, bound: float) -> None:
    pipeline = tiny_family("sd1").to("cuda", dtype)
    trace, replay = both(pipeline, "sd1")
    again = ovam.Replay.from_bytes(replay.to_bytes()).trace(pipeline, self_attention=True)
    assert again.blocks[0].queries.is_cuda
    assert distance(again, trace) < bound


@given(count=some.integers(1, 6), rows=some.integers(1, 6), data=some.data())
@settings(max_examples=10)
def test_any_part_in_any_batches_is_the_part_of_the_whole(count: int, rows: int, data: some.DataObject) -> None:
    pipeline = shared("sd1")
    replay = many(count)
    whole = replay.trace(pipeline)
    wanted = sorted(data.draw(some.sets(some.integers(0, count - 1), min_size=1)))
    one = 8 * 12 * 16 * 4 * passes.MAPS_AT_ONCE
    part = replay.trace(pipeline, evaluations=wanted, blocks="up", memory=rows * one)
    embedding, _ = ovam.encode(pipeline, "a cat")
    expected = ovam.heatmaps(whole, embedding, blocks="up", evaluations=wanted)
    assert torch.allclose(ovam.heatmaps(part, embedding, evaluations=wanted), expected, atol=1e-6)
    assert part.evaluations == whole.evaluations
    if len(wanted) < count:
        with pytest.raises(SelectionError, match="those that were read or computed"):
            ovam.heatmaps(part, embedding)


@cache
def many(count: int) -> ovam.Replay:
    pipeline = shared("sd1")
    pipeline.scheduler = tiny_scheduler("ddim")
    return both(pipeline, "sd1", num_inference_steps=count)[1]


def test_a_real_image_is_replayed(pipeline: Any) -> None:
    course = Course("a cat", [700, 300, 300], "none", 30, 0, None)
    image = np.random.default_rng(0).integers(0, 255, (64, 96, 3), dtype=np.uint8)
    kept, replays = observed(pipeline, image, course, Choice(self_attention=True), Choice(self_attention=True, keep="replay"))
    trace, replay = next(kept.traces()), next(replays.replays())
    again = replay.trace(pipeline, self_attention=True, memory=ONE)
    assert facts(again) == facts(trace)
    assert distance(again, trace) == 0


def test_self_attention_and_other_heads_come_from_a_replay_that_nobody_foresaw(pipeline: Any) -> None:
    with ovam.capture_replay(pipeline) as replays:
        generate(pipeline, "sd1")
    assert replays[0].trace(pipeline).self_attention == ()
    refined = ovam.segment(replays[0].trace(pipeline, self_attention=True), pipeline, "cat", dataclasses.replace(
        ovam.METHODS["ovam"].words, crf=None
    ))  # fmt: skip
    assert refined.mask.shape == (64, 96)


def test_embedded_guidance_is_kept() -> None:
    pipeline = tiny_family("sd1", "lcm", time_cond_proj_dim=16)
    trace, replay = both(pipeline, "sd1", guidance_scale=8.0)
    assert set(replay.conditions) == {"encoder_hidden_states", "timestep_cond"}
    assert distance(replay.trace(pipeline, self_attention=True, memory=ONE), trace) == 0


def test_replays_change_no_image_and_leave_no_hook() -> None:
    pipeline = tiny_family("sd1")
    plain = generate(pipeline, "sd1", output_type="pt")
    with ovam.capture_replay(pipeline) as replays:
        captured = generate(pipeline, "sd1", output_type="pt")
    assert torch.equal(plain, captured)
    replays[0].trace(pipeline)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in pipeline.unet.modules())


def test_a_replay_between_two_evaluations_of_another_image_disturbs_neither() -> None:
    pipeline = tiny_family("sd1")
    trace, replay = both(pipeline, "sd1")
    alone, _ = both(pipeline, "sd1", prompt="a dog", num_inference_steps=4)
    between: list[ovam.Trace] = []

    def ask(*_: object) -> dict[str, Any]:
        nested = {"between": lambda: between.append(replay.trace(pipeline))} if len(between) == 2 else {}
        between.append(replay.trace(pipeline, memory=ONE, **nested))
        return {}

    meanwhile, other = both(pipeline, "sd1", prompt="a dog", num_inference_steps=4, callback_on_step_end=ask)
    assert distance(meanwhile, alone) == 0
    assert distance(other.trace(pipeline, self_attention=True), alone) < TOLERANCE
    assert len(between) > 4
    for each in between:
        assert distance(each, dataclasses.replace(trace, self_attention=())) < TOLERANCE


def test_what_a_controlnet_adds_is_refused_before_the_image_is_drawn() -> None:
    pipeline = shared("controlnet")
    with pytest.raises(NotReplayableError, match="as large as the queries"), ovam.capture_replay(pipeline) as replays:
        generate(pipeline, "controlnet")
    assert replays == []
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in pipeline.unet.modules())


def test_arguments_of_attention_processors_are_refused() -> None:
    with pytest.raises(NotReplayableError, match="cross_attention_kwargs is"), ovam.capture_replay(shared("sd1")):
        generate(shared("sd1"), "sd1", cross_attention_kwargs={"gligen": 1})


def test_guidance_that_ends_on_the_way_is_refused_by_a_replay_and_by_features_of_both_halves() -> None:
    def end_guidance(running: Any, step: int, _time: int, tensors: dict[str, Any]) -> dict[str, Any]:
        if step == 1:
            running._guidance_scale = 0.0
            return {"prompt_embeds": tensors["prompt_embeds"][-1:]}
        return {}

    options = {
        "num_inference_steps": 4,
        "callback_on_step_end": end_guidance,
        "callback_on_step_end_tensor_inputs": ["prompt_embeds"],
    }
    pipeline = shared("sd1")
    says = r"evaluation 2 is given .*nothing.*, the first was given .*other.encoder_hidden_states.*; keep the queries"
    with pytest.raises(NotReplayableError, match=says), ovam.capture_replay(pipeline) as replays:
        generate(pipeline, "sd1", **options)
    assert replays == []
    features = FeatureChoice(evaluations="all")
    says = "of 2 halves of guidance, and evaluation 2 has 1"
    with pytest.raises(CaptureError, match=says), ovam.capture(pipeline, features=features):
        generate(pipeline, "sd1", **options)
    with ovam.capture(pipeline, features=FeatureChoice(evaluations=[2, 3])) as traces:
        generate(pipeline, "sd1", **options)
    assert traces[0].features is not None
    assert traces[0].features.blocks[0].maps.shape[:2] == (2, 1)


def test_a_replay_takes_no_flag_for_a_choice_of_features() -> None:
    _, replay = both(shared("sd1"), "sd1")
    with pytest.raises(InvalidArgumentError, match="features is True; allowed: FeatureChoice or None"):
        replay.trace(shared("sd1"), features=True)  # type: ignore[arg-type]


CHANGES = {
    "weights": (lambda unet: unet.conv_in.weight.data.mul_(1.5), r"weights: \w{16} at capture, \w{16} here"),
    "replaced": (lambda unet: unet.conv_out.load_state_dict(tiny_family("sd1", seed=3).unet.conv_out.state_dict()), "weights: "),
    "dtype": (lambda unet: unet.to(torch.bfloat16), "dtype: torch.float32 at capture, torch.bfloat16 here"),
    "adapter": (lambda unet: unet.set_adapters(["style", "other"], [1.0, 1.0]), r"adapters: style \w+ x 4 at capture, other"),
    "scale": (lambda unet: unet.set_adapters(["style"], [0.25]), r"adapters: style \w+ x 4 at capture, style \w+ x 1 here"),
    "disabled": (lambda unet: unet.disable_adapters(), r"adapters: style \w+ x 4 at capture, none here"),
    "fused": (lambda unet: unet.fuse_lora(), "weights: "),
    "freeu": (lambda unet: unet.enable_freeu(0.9, 0.2, 1.4, 1.6), "FreeU: off at capture, up_blocks.0"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_another_unet_is_refused_with_what_differs_from_what(change: str) -> None:
    pipeline = tiny_family("sd1")
    add(pipeline, "other", seed=1)
    add(pipeline)
    pipeline.unet.set_adapters(["style"])
    trace, replay = both(pipeline, "sd1")
    assert distance(replay.trace(pipeline, self_attention=True), trace) < TOLERANCE
    alter, message = CHANGES[change]
    alter(pipeline.unet)
    with pytest.raises(TraceMismatchError, match=message):
        replay.trace(pipeline)


def test_a_change_that_no_weight_shows_is_seen_by_what_the_unet_predicts() -> None:
    pipeline = tiny_family("sd1")
    _, replay = both(pipeline, "sd1")
    pipeline.unet.mid_block.attentions[0].transformer_blocks[0].attn2.scale *= 3
    pipeline.unet.conv_in.register_forward_hook(lambda _module, _args, output: output * 1.2)
    with pytest.raises(TraceMismatchError, match=r"evaluation 0 predicts something else .*relative difference 0\.\d+"):
        replay.trace(pipeline)


def test_adapters_that_change_during_a_generation_are_refused() -> None:
    pipeline = tiny_family("sd1")
    add(pipeline)

    def scale(*_: object) -> dict[str, Any]:
        pipeline.unet.set_adapters(["style"], [0.5])
        return {}

    with pytest.raises(CaptureError, match="changed during the generation"), ovam.capture_replay(pipeline):
        generate(pipeline, "sd1", callback_on_step_end=scale)


class Full(torch.OutOfMemoryError):
    """What a device raises."""


def test_a_device_without_memory_gets_smaller_batches_and_at_last_an_error() -> None:
    pipeline, replay = tiny_family("sd1"), many(6)
    sizes: list[int] = []

    def full(most: int) -> Any:
        def forward(_module: Any, args: tuple[Any, ...]) -> None:
            sizes.append(len(args[0]))
            if sizes[-1] > most:
                raise Full

        return pipeline.unet.conv_in.register_forward_pre_hook(forward)

    hook = full(2)
    assert distance(replay.trace(pipeline), many(6).trace(shared("sd1"))) < TOLERANCE
    assert sizes == [6, 3, 2, 2, 2]
    hook.remove()
    full(0)
    with pytest.raises(torch.OutOfMemoryError):
        replay.trace(pipeline)
    assert sizes[-1] == 1
    assert not any(module._forward_hooks for module in pipeline.unet.modules())


def altered(data: bytes, tensors: dict[str, torch.Tensor] | None = None, **changes: object) -> bytes:
    """A file with other tensors, or a changed header."""
    length = int.from_bytes(data[:8], "little")
    header = json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["replay"]) | changes
    return save(load(data) | (tensors or {}), metadata={"replay": json.dumps(header)})


def test_a_damaged_replay_is_refused_and_the_tensor_named() -> None:
    data = many(3).to_bytes()
    for name, tensor in load(data).items():
        with pytest.raises(TraceFormatError, match=rf"'{name}', part 0, is damaged: checksum \w{{8}}, expected \w{{8}}"):
            ovam.Replay.from_bytes(altered(data, {name: tensor + 1}))
    assert ovam.Replay.from_bytes(altered(data)).evaluations == (0, 1, 2)
    for bad in (b"", data[:-1], data[:100], data[:-400], b"\x80\x04K\x01.", save(load(data)), (1 << 62).to_bytes(8, "little")):
        with pytest.raises(TraceFormatError):
            ovam.Replay.from_bytes(bad)


@pytest.mark.parametrize(
    "changes",
    [
        {"format": "ovam-replay/9"},
        {"evaluations": [0]},
        {"evaluations": "all"},
        {"binding": []},
        {"layers": [{"name": 5}]},
        {"half": "both"},
        {"image_size": [1]},
        {"checksums": {"sample": ["x"]}},
        {"checksums": 5},
    ],
    ids=str,
)
def test_a_header_that_contradicts_the_tensors_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(TraceFormatError):
        ovam.Replay.from_bytes(altered(many(3).to_bytes(), **changes))


def test_an_adapter_is_told_with_its_largest_scale() -> None:
    pipeline = tiny_family("sd1")
    add(pipeline)
    unet = pipeline.unet
    layer = next(module for module in unet.modules() if "style" in getattr(module, "scaling", {}))
    layer.scaling["style"] = 9.0
    assert binding_of(unet)["adapters"].endswith(" x 9")


def test_a_generation_in_inference_mode_is_kept() -> None:
    pipeline = shared("sd1")
    with torch.inference_mode(), ovam.capture(pipeline) as traces, ovam.capture_replay(pipeline) as replays:
        generate(pipeline, "sd1")
    assert distance(replays[0].trace(pipeline), traces[0]) < TOLERANCE


def test_an_input_has_a_row_for_each_of_the_batch_or_one_for_all() -> None:
    sample, text = torch.arange(2.0).view(2, 1, 1, 1), torch.zeros(2, 7, 8)
    kept = inputs_of((sample, 5, text), {"timestep_cond": torch.ones(1, 4)}, slice(1, 2))
    assert kept["sample"].flatten().tolist() == [1]
    assert (len(kept["encoder_hidden_states"]), len(kept["timestep_cond"]), kept["timestep"].item()) == (1, 1, 5)
    for bad in (torch.zeros(3, 7, 8), torch.tensor(1.0)):
        with pytest.raises(NotReplayableError, match="not a row for each of 2 in the UNet's batch"):
            inputs_of((sample, 5, bad), {}, slice(1, 2))


def test_a_replay_of_another_models_blocks_is_refused() -> None:
    replay = many(3)
    foreign = (*replay.layers[:-1], dataclasses.replace(replay.layers[0], name="down_blocks.7.attn2"))
    with pytest.raises(TraceMismatchError, match=r"down_blocks\.7"):
        dataclasses.replace(replay, layers=foreign).trace(shared("sd1"))


def test_positions_are_a_range_like_any_other() -> None:
    trace = many(4).trace(shared("sd1"), evaluations=Span(start=2))
    assert {block.positions for block in trace.blocks} == {(2, 3)}
    with pytest.raises(SelectionError, match="evaluations"):
        many(4).trace(shared("sd1"), evaluations=7)
