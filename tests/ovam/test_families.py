"""The laws of a trace hold for every family of pipelines, whatever its scheduler, size and batch."""

from functools import cache
from typing import Any

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    LatentConsistencyModelImg2ImgPipeline,
    LatentConsistencyModelPipeline,
    UNet2DConditionModel,
)
from hypothesis import given
from hypothesis import strategies as some

import ovam
from ovam.errors import CaptureError, UnsupportedModelError
from ovam.tracing.families import UNET, family_named, family_of
from ovam.tracing.model import cross_attentions
from tests.families import FAMILIES, XL_UNET, generate, picture, tiny_family
from tests.ovam.reference import Recorded, aggregate, record_attention
from tests.pipelines import SCHEDULERS, tiny_scheduler

pytestmark = [
    # diffusers' Euler schedulers meet a newer NumPy
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning:diffusers"),
    # img2img takes one image for several prompts, but not gladly
    pytest.mark.filterwarnings("ignore:You have passed 4 text prompts:FutureWarning"),
]

DOUBLE = {"sd3": (24, 38, 2, 1), "flux": (19, 8, 2, 1)}
"""Joint blocks of published models, and of small ones."""
READ = {
    ("sd3", "concept"): [range(18, 24), range(30, 38), range(1, 2), range(1)],
    ("sd3", "joint"): [range(9, 10), range(14, 16), range(1), range(1)],
    ("flux", "concept"): [range(15, 19), range(6, 8), range(1, 2), range(1)],
    ("flux", "text"): [range(7, 8), range(3, 4), range(1), range(1)],
}


@pytest.mark.parametrize(("name", "attention"), READ)
def test_blocks_are_read_at_one_depth_of_any_model(name: str, attention: Any) -> None:
    for count, places in zip(DOUBLE[name], READ[name, attention], strict=True):
        names = [str(number) for number in range(count)]
        assert family_named(name).default_blocks(attention, names) == tuple(names[place] for place in places)


def test_a_family_is_that_of_the_class_which_a_model_derives_from() -> None:
    own = type("Own", (type("SD3Transformer2DModel", (), {}),), {})
    assert family_of(own()) is family_named("sd3")
    assert family_of(object()) is UNET


every_family = pytest.mark.parametrize("family", FAMILIES)


@cache
def untouched(family: str) -> Any:
    return tiny_family(family)


@cache
def watched(family: str) -> tuple[Any, Recorded]:
    """A pipeline whose attention is computed, and recorded, by the tests' own processor."""
    pipeline = tiny_family(family)
    return pipeline, record_attention(pipeline)


def error_against(recorded: Recorded, row: int, pipeline: Any, trace: ovam.Trace, prompt: str) -> float:
    """Largest relative error of the maps of a generation's own prompt."""
    embedding, _ = ovam.encode(pipeline, prompt, padding="max_length")
    expected = aggregate(recorded, row, {block.name: block.grid for block in trace.blocks})
    maps = ovam.heatmaps(trace, embedding, reduction="sum")
    return float(((maps.double() - expected).abs() / expected).max())


def assert_same(one: ovam.Trace, other: ovam.Trace, tolerance: float = 0.0) -> None:
    for block, same in zip(one.blocks, other.blocks, strict=True):
        largest = float(same.queries.abs().max())
        assert float((block.queries - same.queries).abs().max()) <= tolerance * largest
    for block, same in zip(one.self_attention, other.self_attention, strict=True):
        assert torch.allclose(block.queries, same.queries, rtol=0, atol=tolerance * float(same.queries.abs().max()))
        assert torch.allclose(block.keys, same.keys, rtol=0, atol=tolerance * float(same.keys.abs().max()))


@every_family
@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_maps_of_both_halves_prompts_are_the_attention_of_the_generation(family: str, scheduler: str) -> None:
    pipeline, recorded = watched(family)
    recorded.clear()
    pipeline.scheduler = tiny_scheduler(scheduler, **FAMILIES[family].scheduler)
    with ovam.capture(pipeline, half="unconditional", mid_block=True) as against, ovam.capture(pipeline, mid_block=True) as to:
        generate(pipeline, family, "a cat", negative_prompt="a dog")
    assert len(against) == len(to) == 1
    assert len(to[0].timesteps) == (3 if scheduler == "pndm" else 2)
    assert set(recorded) == {block.name for block in to[0].blocks}
    assert {len(maps) for maps in recorded.values()} == {len(to[0].timesteps)}
    assert error_against(recorded, 0, pipeline, against[0], "a dog") < 1e-4
    assert error_against(recorded, 1, pipeline, to[0], "a cat") < 1e-4


@every_family
@pytest.mark.parametrize("size", [(128, 192), (64, 256), (72, 40)])
def test_the_law_holds_for_any_height_and_width(family: str, size: tuple[int, int]) -> None:
    pipeline, recorded = watched(family)
    recorded.clear()
    pipeline.scheduler = tiny_scheduler("ddim", **FAMILIES[family].scheduler)
    with ovam.capture(pipeline) as traces:
        generate(pipeline, family, "a cat", size=size)
    assert traces[0].image_size == size
    assert traces[0].latent_size == (size[0] // 8, size[1] // 8)
    assert error_against(recorded, 1, pipeline, traces[0], "a cat") < 1e-4


@every_family
def test_the_law_holds_for_several_prompts_with_several_images_each(family: str) -> None:
    pipeline, recorded = watched(family)
    recorded.clear()
    prompts = ["a cat", "a dog on a tree"]
    with ovam.capture(pipeline) as traces:
        generate(pipeline, family, prompts, num_images_per_prompt=2)
    for number, trace in enumerate(traces):
        assert error_against(recorded, 4 + number, pipeline, trace, prompts[number // 2]) < 1e-4
    assert len(traces) == 4


@every_family
def test_the_law_holds_without_guidance(family: str) -> None:
    pipeline, recorded = watched(family)
    recorded.clear()
    with ovam.capture(pipeline) as traces:
        generate(pipeline, family, guidance_scale=1.0)
    assert error_against(recorded, 0, pipeline, traces[0], "a cat") < 1e-4
    with pytest.raises(CaptureError, match="guidance is off"), ovam.capture(pipeline, half="unconditional"):
        generate(pipeline, family, guidance_scale=1.0)


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_guidance_that_is_embedded_has_one_half(family: str) -> None:
    pipeline = tiny_family(family, "lcm", time_cond_proj_dim=16)
    recorded = record_attention(pipeline)
    with ovam.capture(pipeline) as traces:
        generate(pipeline, family, guidance_scale=8.0)
    assert {maps[0].shape[0] for maps in recorded.values()} == {1}
    assert error_against(recorded, 0, pipeline, traces[0], "a cat") < 1e-4


@pytest.mark.parametrize(
    "kind", [LatentConsistencyModelPipeline, LatentConsistencyModelImg2ImgPipeline], ids=lambda kind: kind.__name__
)
def test_a_latent_consistency_model_has_a_pipeline_of_its_own(kind: Any) -> None:
    parts = tiny_family("sd1", "lcm", time_cond_proj_dim=16).components
    pipeline = kind(**parts, requires_safety_checker=False)
    pipeline.set_progress_bar_config(disable=True)
    recorded = record_attention(pipeline)
    started = {"image": [picture(64, 64)] * 2} if kind is LatentConsistencyModelImg2ImgPipeline else {"height": 64, "width": 64}
    with ovam.capture(pipeline) as traces:
        pipeline(["a cat", "a dog"], num_inference_steps=4, generator=torch.Generator().manual_seed(1), **started)
    assert len(traces) == 2
    for image, prompt in enumerate(("a cat", "a dog")):
        assert error_against(recorded, image, pipeline, traces[image], prompt) < 1e-4


@every_family
def test_the_image_is_bitwise_the_same_and_no_hook_stays(family: str) -> None:
    pipeline = untouched(family)
    plain = generate(pipeline, family, output_type="pt")
    with ovam.capture(pipeline, self_attention=True) as traces:
        captured = generate(pipeline, family, output_type="pt")
    assert torch.equal(plain, captured)
    assert len(traces) == 1
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in pipeline.unet.modules())


class StopRequestedError(Exception):
    """What a user's callback raises to end a generation."""


def stop(*_: object) -> dict[str, Any]:
    raise StopRequestedError


@every_family
def test_an_exception_leaves_nothing_behind(family: str) -> None:
    pipeline = untouched(family)
    with pytest.raises(StopRequestedError), ovam.capture(pipeline, self_attention=True) as traces:
        generate(pipeline, family, callback_on_step_end=stop)
    assert traces == []
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in pipeline.unet.modules())


@every_family
def test_an_images_trace_is_the_same_alone_and_in_a_batch(family: str) -> None:
    pipeline = untouched(family)
    prompts = {"a cat": 3, "a dog": 4}
    with ovam.capture(pipeline, self_attention=True) as together:
        seeds = [torch.Generator().manual_seed(seed) for seed in prompts.values()]
        given = {name: [value] * 2 for name, value in FAMILIES[family].inputs(64, 96).items() if "image" in name}
        generate(pipeline, family, list(prompts), generator=seeds, **given)
    for trace, (prompt, seed) in zip(together, prompts.items(), strict=True):
        with ovam.capture(pipeline, self_attention=True) as alone:
            generate(pipeline, family, [prompt], generator=[torch.Generator().manual_seed(seed)])
        assert_same(trace, alone[0], tolerance=1e-5)


@every_family
def test_a_trace_of_every_family_comes_back_from_its_bytes(family: str) -> None:
    pipeline = untouched(family)
    with ovam.capture(pipeline, self_attention=True) as traces:
        generate(pipeline, family)
    again = ovam.Trace.from_bytes(traces[0].to_bytes(), pipeline)
    assert_same(again, traces[0])
    assert again.width == (64 if FAMILIES[family].two_encoders else 32)


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float16, 2e-3), (torch.bfloat16, 2e-2)])
@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl"])
def test_a_trace_kept_in_half_precision_errs_by_little(family: str, dtype: torch.dtype, bound: float) -> None:
    pipeline = untouched(family)
    with ovam.capture(pipeline) as traces:
        generate(pipeline, family)
    embedding, _ = ovam.encode(pipeline, "a cat on a tree")
    exact = ovam.heatmaps(traces[0], embedding)
    error = (ovam.heatmaps(traces[0].to(dtype=dtype), embedding) - exact).abs().max() / exact.max()
    assert 0 < float(error) < bound


@pytest.mark.parametrize("strength", [0.25, 0.5, 1.0])
@pytest.mark.parametrize("family", ["img2img", "inpaint", "sdxl-img2img"])
def test_denoising_that_starts_in_the_middle_is_counted_from_there(family: str, strength: float) -> None:
    pipeline = untouched(family)
    with ovam.capture(pipeline) as traces, ovam.capture(pipeline, evaluations=-1) as last:
        generate(pipeline, family, num_inference_steps=4, strength=strength)
    assert traces[0].evaluations == tuple(range(int(4 * strength)))
    assert last[0].evaluations == traces[0].evaluations[-1:]
    assert last[0].timesteps == traces[0].timesteps[-1:] == (1.0,)


def test_a_generation_that_hands_over_to_a_refiner_is_counted_to_its_end() -> None:
    pipeline = untouched("sdxl")
    with ovam.capture(pipeline) as traces:
        generate(pipeline, "sdxl", num_inference_steps=4, denoising_end=0.5)
    assert traces[0].timesteps == (751.0, 501.0)


def test_the_controlnets_own_attentions_are_left_alone() -> None:
    pipeline = untouched("controlnet")
    inside = {name for name, _ in pipeline.controlnet.named_modules() if name.endswith("attn2")}
    with ovam.capture(pipeline) as traces:
        generate(pipeline, "controlnet")
    assert len(inside) == 4
    assert len(traces[0].blocks) == 9
    assert {len(block.queries) for block in traces[0].blocks} == {2}


def test_sdxls_seventy_cross_attentions_are_all_found() -> None:
    layers = {"transformer_layers_per_block": (1, 2, 10), "layers_per_block": 2}
    widths = {"block_out_channels": (4, 4, 4), "attention_head_dim": (1, 1, 1), "norm_num_groups": 2}
    unet = UNet2DConditionModel(**(XL_UNET | layers | widths))
    found = cross_attentions(unet)
    assert len(found) == 70
    assert sum(name.startswith("mid_block") for name in found) == 10


class OtherPipeline:
    """A pipeline whose guidance nobody here knows."""

    def __init__(self, pipeline: Any) -> None:
        self.unet = pipeline.unet
        self.scheduler = pipeline.scheduler


class Untimed(DDIMScheduler):
    """A scheduler that keeps its timesteps to itself."""

    def __init__(self) -> None:
        super().__init__()
        del self.timesteps


def test_a_pipeline_or_a_scheduler_that_is_not_known_is_named() -> None:
    pipeline = tiny_family("sd1")
    with pytest.raises(UnsupportedModelError, match=r"OtherPipeline is not known; allowed: .*XLPipeline"):
        ovam.capture(OtherPipeline(pipeline)).__enter__()
    pipeline.scheduler = Untimed()
    with pytest.raises(UnsupportedModelError, match="Untimed has no timesteps"):
        ovam.capture(pipeline).__enter__()


@cache
def sample() -> tuple[ovam.Trace, torch.Tensor]:
    pipeline = untouched("sdxl")
    with ovam.capture(pipeline) as traces:
        generate(pipeline, "sdxl")
    return traces[0], ovam.encode(pipeline, "a cat on a tree")[0]


@given(some.permutations(range(7)))
def test_maps_follow_the_order_of_the_tokens(order: list[int]) -> None:
    trace, embedding = sample()
    maps = ovam.heatmaps(trace, embedding)
    assert torch.allclose(ovam.heatmaps(trace, embedding[order]), maps[order], atol=1e-6)


@given(some.permutations(range(15)))
def test_the_order_of_blocks_does_not_matter(order: list[int]) -> None:
    trace, embedding = sample()
    turned = ovam.Trace(**(vars(trace) | {"blocks": tuple(trace.blocks[index] for index in order)}))
    assert torch.allclose(ovam.heatmaps(turned, embedding), ovam.heatmaps(trace, embedding), atol=1e-6)


@given(some.sets(some.integers(0, 2), min_size=1))
def test_heads_add_up_in_any_choice(chosen: set[int]) -> None:
    trace, embedding = sample()
    choice: dict[str, Any] = {"reduction": "sum", "blocks": "blocks.1.attentions.0.transformer_blocks.0"}
    heads = min(block.heads for block in trace.blocks)
    chosen = {head % heads for head in chosen}
    parts = sum(ovam.heatmaps(trace, embedding, heads=head, **choice) for head in chosen)
    assert torch.allclose(ovam.heatmaps(trace, embedding, heads=sorted(chosen), **choice), parts, rtol=1e-4)
