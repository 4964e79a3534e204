"""Capturing changes nothing, leaves nothing behind and keeps just what generation attended with."""

from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline

import ovam
from ovam.errors import (
    CaptureError,
    CompiledModelError,
    SelectionError,
    UnsupportedModelError,
)
from ovam.learning.initial import initial_tokens
from ovam.tracing.capture import capture_live
from ovam.tracing.recorder import Choice
from ovam.tracing.recording import grid_of
from tests.ovam.reference import aggregate, record_attention
from tests.pipelines import tiny_pipeline


def generate(pipeline: StableDiffusionPipeline, prompt: str | list[str] = "a cat", **options: Any) -> np.ndarray:
    settings = {"height": 64, "width": 64, "num_inference_steps": 2, "output_type": "np"} | options
    return pipeline(prompt, generator=torch.Generator().manual_seed(1), **settings).images


def hooks(pipeline: StableDiffusionPipeline) -> int:
    modules = list(pipeline.unet.modules())
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in modules)


def relative_error(maps: torch.Tensor, expected: torch.Tensor) -> float:
    return float(((maps.double() - expected).abs() / expected).max())


SETTINGS = {
    "square": {},
    "not square": {"height": 64, "width": 96},
    "odd latent": {"height": 72, "width": 40},
    "two images of a prompt": {"num_images_per_prompt": 2},
    "two prompts": {"prompt": ["a cat", "a dog on a tree"]},
    "no guidance": {"guidance_scale": 1.0},
}


@pytest.mark.parametrize("options", SETTINGS.values(), ids=SETTINGS.keys())
@pytest.mark.parametrize("scheduler", ["ddim", "pndm"])
def test_maps_of_the_generation_prompt_are_the_attention_of_the_generation(scheduler: str, options: dict[str, Any]) -> None:
    pipeline = tiny_pipeline(scheduler)
    recorded = record_attention(pipeline)
    with ovam.capture(pipeline) as traces:
        images = generate(pipeline, **options)
    assert len(traces) == len(images)
    prompts = options.get("prompt", ["a cat"] * len(images))
    offset = 0 if options.get("guidance_scale") == 1.0 else len(images)
    for number, (trace, prompt) in enumerate(zip(traces, prompts, strict=True)):
        embedding, _ = ovam.encode(pipeline, prompt, padding="max_length")
        expected = aggregate(recorded, offset + number, {block.name: block.grid for block in trace.blocks})
        assert relative_error(ovam.heatmaps(trace, embedding, reduction="sum"), expected) < 1e-4


def test_the_unconditional_half_is_the_attention_to_the_negative_prompt() -> None:
    pipeline = tiny_pipeline()
    recorded = record_attention(pipeline)
    with ovam.capture(pipeline, half="unconditional") as traces:
        generate(pipeline, negative_prompt="a dog")
    embedding, _ = ovam.encode(pipeline, "a dog", padding="max_length")
    expected = aggregate(recorded, 0, {block.name: block.grid for block in traces[0].blocks})
    assert relative_error(ovam.heatmaps(traces[0], embedding, reduction="sum"), expected) < 1e-4


def test_every_cross_attention_is_found_and_the_mid_block_only_when_asked_for(
    pipeline: StableDiffusionPipeline,
) -> None:
    every = {name for name, _ in pipeline.unet.named_modules() if name.endswith("attn2")}
    with ovam.capture(pipeline, mid_block=True) as traces, ovam.capture(pipeline) as usual:
        generate(pipeline)
    assert {block.name for block in traces[0].blocks} == every
    assert {block.name for block in usual[0].blocks} == {name for name in every if "mid_block" not in name}
    assert len(every) == 10


def test_grids_are_height_and_width_of_the_latent_halved_upwards(pipeline: StableDiffusionPipeline) -> None:
    with ovam.capture(pipeline) as traces:
        generate(pipeline, height=72, width=40)
    assert traces[0].latent_size == (9, 5)
    assert traces[0].image_size == (72, 40)
    assert {block.grid for block in traces[0].blocks} == {(9, 5), (5, 3), (3, 2)}


def test_pixels_that_no_halving_gives_are_refused() -> None:
    assert grid_of(6, (9, 5)) == (3, 2)
    for pixels in (7, 0):
        with pytest.raises(CaptureError, match=f"{pixels} pixels"):
            grid_of(pixels, (9, 5))


def test_pndm_makes_one_evaluation_more_than_steps_and_repeats_a_timestep() -> None:
    pipeline = tiny_pipeline("pndm")
    with ovam.capture(pipeline) as traces:
        generate(pipeline, num_inference_steps=5)
    assert traces[0].evaluations == (0, 1, 2, 3, 4, 5)
    assert traces[0].timesteps == (801.0, 601.0, 601.0, 401.0, 201.0, 1.0)


def test_the_image_is_bitwise_what_it_is_without_capture(pipeline: StableDiffusionPipeline) -> None:
    plain = generate(pipeline)
    with ovam.capture(pipeline):
        captured = generate(pipeline)
    assert np.array_equal(plain, captured)


def test_capture_leaves_no_hook_behind(pipeline: StableDiffusionPipeline) -> None:
    before = hooks(pipeline)
    with ovam.capture(pipeline) as traces:
        assert traces == []
        generate(pipeline)
    assert hooks(pipeline) == before
    assert len(traces) == 1


class StopRequestedError(Exception):
    """What a user's callback raises to end a generation."""


def stop(*_: object) -> dict[str, Any]:
    raise StopRequestedError


def test_a_cancelled_generation_leaves_no_hook_and_no_trace(pipeline: StableDiffusionPipeline) -> None:
    before = hooks(pipeline)
    with pytest.raises(StopRequestedError), ovam.capture(pipeline) as traces:
        generate(pipeline, callback_on_step_end=stop)
    assert hooks(pipeline) == before
    assert traces == []


def break_down(*_: object) -> None:
    raise ValueError("broken")


def test_an_error_inside_the_unet_leaves_no_hook_and_no_trace(pipeline: StableDiffusionPipeline) -> None:
    handle = pipeline.unet.up_blocks[1].register_forward_pre_hook(break_down)
    before = hooks(pipeline)
    with pytest.raises(ValueError, match="broken"), ovam.capture(pipeline) as traces:
        generate(pipeline)
    assert hooks(pipeline) == before
    handle.remove()
    assert traces == []


def test_an_aborted_call_does_not_leak_into_the_next_image(pipeline: StableDiffusionPipeline) -> None:
    with ovam.capture(pipeline) as alone:
        generate(pipeline)
    with ovam.capture(pipeline) as traces:
        with pytest.raises(StopRequestedError):
            generate(pipeline, "a dog", callback_on_step_end=stop)
        generate(pipeline)
    assert len(traces) == 1
    with capture_live(pipeline, Choice()) as live:
        with pytest.raises(StopRequestedError):
            generate(pipeline, "a dog", callback_on_step_end=stop)
        generate(pipeline)
        assert len(live._recorder._calls) == 1  # the queries of the other one are let go at once
    for block, same in zip(traces[0].blocks, alone[0].blocks, strict=True):
        assert torch.equal(block.queries, same.queries)


def test_an_interrupted_call_yields_no_half_filled_trace(pipeline: StableDiffusionPipeline) -> None:
    def interrupt(running: StableDiffusionPipeline, *_: object) -> dict[str, Any]:
        running._interrupt = True
        return {}

    with ovam.capture(pipeline) as traces:
        generate(pipeline, callback_on_step_end=interrupt)
    assert traces == []


@pytest.mark.parametrize("steps", [1, 2])
def test_every_further_call_yields_further_traces(pipeline: StableDiffusionPipeline, steps: int) -> None:
    with ovam.capture(pipeline) as traces:
        generate(pipeline, num_inference_steps=steps)
        generate(pipeline, ["a dog", "a tree"], height=96, num_inference_steps=steps)
        generate(pipeline, num_inference_steps=steps)
    assert [trace.image_size for trace in traces] == [(64, 64), (96, 64), (96, 64), (64, 64)]
    assert {len(trace.timesteps) for trace in traces} == {steps}
    assert torch.equal(traces[0].blocks[0].queries, traces[3].blocks[0].queries)


def test_an_image_of_a_batch_has_its_own_queries(pipeline: StableDiffusionPipeline) -> None:
    seeds = [torch.Generator().manual_seed(seed) for seed in (3, 4)]
    with ovam.capture(pipeline) as together:
        pipeline(["a cat", "a dog"], height=64, width=64, num_inference_steps=2, generator=seeds)
    for row, (prompt, seed) in enumerate([("a cat", 3), ("a dog", 4)]):
        with ovam.capture(pipeline) as alone:
            generator = torch.Generator().manual_seed(seed)
            pipeline(prompt, height=64, width=64, num_inference_steps=2, generator=generator)
        for block, same in zip(together[row].blocks, alone[0].blocks, strict=True):
            assert torch.allclose(block.queries, same.queries, atol=1e-4)


def test_a_trace_owns_just_the_half_it_keeps(trace: ovam.Trace) -> None:
    for block in trace.blocks:
        assert block.queries.untyped_storage().nbytes() == block.queries.nbytes
        assert block.queries.is_contiguous()


def test_guidance_that_ends_halfway_keeps_the_conditional_rows(pipeline: StableDiffusionPipeline) -> None:
    def end_guidance(running: StableDiffusionPipeline, _step: int, _time: int, tensors: dict[str, Any]) -> dict[str, Any]:
        running._guidance_scale = 0.0
        return {"prompt_embeds": tensors["prompt_embeds"][-1:]}

    with ovam.capture(pipeline) as usual:
        generate(pipeline)
    with ovam.capture(pipeline) as traces:
        generate(
            pipeline,
            callback_on_step_end=end_guidance,
            callback_on_step_end_tensor_inputs=["prompt_embeds"],
        )
    assert len(traces) == 1
    first, same = traces[0].blocks[0].queries[0], usual[0].blocks[0].queries[0]
    assert torch.equal(first, same)
    assert traces[0].blocks[0].queries.shape == usual[0].blocks[0].queries.shape


@pytest.mark.parametrize(
    ("choice", "kept"), [(1, (1,)), (-1, (3,)), (slice(-2, None), (2, 3)), ([0, 3], (0, 3)), (slice(0, None, 2), (0, 2))]
)
def test_chosen_evaluations_are_those_of_the_whole_trace(
    pipeline: StableDiffusionPipeline, choice: int | slice | list[int], kept: tuple[int, ...]
) -> None:
    with ovam.capture(pipeline) as whole, ovam.capture(pipeline, evaluations=choice) as part:
        generate(pipeline, num_inference_steps=4)
    assert part[0].evaluations == kept
    assert part[0].timesteps == tuple(whole[0].timesteps[index] for index in kept)
    for block, full in zip(part[0].blocks, whole[0].blocks, strict=True):
        assert torch.equal(block.queries, full.queries[list(kept)])


def test_an_evaluation_that_will_not_come_is_refused_at_once(pipeline: StableDiffusionPipeline) -> None:
    with pytest.raises(SelectionError, match=r"\[50\].*-2 to 1"), ovam.capture(pipeline, evaluations=50):
        generate(pipeline)


def test_blocks_are_chosen_by_name(pipeline: StableDiffusionPipeline) -> None:
    with ovam.capture(pipeline, blocks=["down_blocks.0", "up_blocks.2.attentions.1"]) as traces:
        generate(pipeline)
    names = [block.name for block in traces[0].blocks]
    assert names == [
        "down_blocks.0.attentions.0.transformer_blocks.0.attn2",
        "up_blocks.2.attentions.1.transformer_blocks.0.attn2",
    ]


@pytest.mark.parametrize("blocks", ["side_blocks", "mid_block", [], ["up_blocks", "nowhere"]])
def test_a_choice_of_no_block_is_refused(pipeline: StableDiffusionPipeline, blocks: str | list[str]) -> None:
    with pytest.raises(SelectionError), ovam.capture(pipeline, blocks=blocks):
        pass


def test_the_unconditional_half_needs_guidance(pipeline: StableDiffusionPipeline) -> None:
    with pytest.raises(CaptureError, match="guidance is off"), ovam.capture(pipeline, half="unconditional"):
        generate(pipeline, guidance_scale=1.0)


def test_a_compiled_unet_is_refused() -> None:
    wrapped = tiny_pipeline()
    wrapped.unet = torch.compile(wrapped.unet, backend="eager")
    in_place = tiny_pipeline()
    in_place.unet.compile(backend="eager")
    in_part = tiny_pipeline()
    in_part.unet.down_blocks[0].compile(backend="eager")
    for pipeline in (wrapped, in_place, in_part):
        with pytest.raises(CompiledModelError, match="compiled"), ovam.capture(pipeline):
            pass


def bypass(attn: Any, hidden_states: torch.Tensor, *_: object, **__: object) -> torch.Tensor:
    """Attend without calling ``to_q``, as a compiled block would."""
    return attn.to_out[0](torch.nn.functional.linear(hidden_states, attn.to_q.weight))


def test_a_block_that_never_calls_its_projection_is_an_error_and_no_empty_trace() -> None:
    pipeline = tiny_pipeline()
    pipeline.unet.down_blocks[0].attentions[0].transformer_blocks[0].attn2.set_processor(bypass)
    with pytest.raises(CaptureError, match="gave 0 queries in 1 evaluations"), ovam.capture(pipeline):
        generate(pipeline)


def test_a_pipeline_without_unet_is_refused(pipeline: StableDiffusionPipeline) -> None:
    with pytest.raises(UnsupportedModelError, match="has no UNet"), ovam.capture(pipeline.vae):
        pass


def test_fused_projections_and_sliced_attention_are_captured_all_the_same() -> None:
    pipeline = tiny_pipeline()
    with ovam.capture(pipeline) as plain:
        generate(pipeline)
    pipeline.fuse_qkv_projections()
    with ovam.capture(pipeline) as fused:
        generate(pipeline)
    pipeline.unfuse_qkv_projections()
    pipeline.enable_attention_slicing()
    with ovam.capture(pipeline) as sliced:
        generate(pipeline)
    for block, one, other in zip(plain[0].blocks, fused[0].blocks, sliced[0].blocks, strict=True):
        assert torch.allclose(block.queries, one.queries, atol=1e-3)
        assert torch.allclose(block.queries, other.queries, atol=1e-3)


def test_a_projection_replaced_between_two_calls_is_followed() -> None:
    pipeline = tiny_pipeline()
    with ovam.capture(pipeline) as traces:
        generate(pipeline)
        attention = pipeline.unet.down_blocks[0].attentions[0].transformer_blocks[0].attn2
        before, attention.to_q = attention.to_q, torch.nn.Sequential(attention.to_q, torch.nn.Dropout(p=1.0))
        generate(pipeline)
    assert not before._forward_hooks
    assert float(traces[0].blocks[0].queries.abs().max()) > 0
    assert float(traces[1].blocks[0].queries.abs().max()) == 0


def test_queries_captured_in_inference_mode_can_take_part_in_an_optimisation(
    pipeline: StableDiffusionPipeline,
) -> None:
    with torch.inference_mode(), ovam.capture(pipeline) as traces:
        generate(pipeline)
    mask = torch.zeros(8, 8, dtype=torch.bool)
    mask[2:5, 3:6] = True
    fit = ovam.optimize_tokens([(traces[0], mask)], initial_tokens(pipeline, "cat"), epochs=2)
    assert len(fit.losses) == 2


def test_models_whose_keys_are_projected_elsewhere_are_refused() -> None:
    pipeline = tiny_pipeline()
    attention = pipeline.unet.down_blocks[0].attentions[0].transformer_blocks[0].attn2
    attention.processor.to_k_custom_diffusion = torch.nn.Linear(32, 16)
    with pytest.raises(UnsupportedModelError, match="projects its keys in a processor"), ovam.capture(pipeline):
        pass
    del attention.processor.to_k_custom_diffusion
    for kind in ("text_proj", "text_image_proj"):
        pipeline.unet.register_to_config(encoder_hid_dim_type=kind)
        with pytest.raises(UnsupportedModelError, match="projects text embeddings before"), ovam.capture(pipeline):
            pass
