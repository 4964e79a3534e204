"""A real image's trace is the attention of the UNet to that image under noise, for every family."""

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline

import ovam
from ovam.errors import CompiledModelError, InvalidArgumentError, PromptTooLongError, SelectionError, UnsupportedModelError
from ovam.looking import Flow
from ovam.real_images import TIMESTEPS, Diffusion
from tests.families import FAMILIES, picture, tiny_family
from tests.ovam.reference import Recorded, aggregate, record_attention
from tests.pipelines import SCHEDULERS, tiny_scheduler

# diffusers' Euler schedulers meet a newer NumPy
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning:diffusers")

PLAIN = [family for family in FAMILIES if family != "inpaint"]
every_family = pytest.mark.parametrize("family", PLAIN)
IMAGE = np.asarray(picture(64, 96))
STEPS = (801, 401, 1)


@cache
def untouched(family: str) -> Any:
    return tiny_family(family)


@cache
def watched(family: str) -> tuple[Any, Recorded]:
    """A pipeline whose attention is computed, and recorded, by the tests' own processor."""
    pipeline = tiny_family(family)
    return pipeline, record_attention(pipeline)


def error_against(recorded: Recorded, pipeline: Any, trace: ovam.Trace, prompt: str) -> float:
    """Largest relative error of the maps of the prompt that the UNet was told."""
    embedding, _ = ovam.encode(pipeline, prompt, padding="max_length")
    expected = aggregate(recorded, 0, {block.name: block.grid for block in trace.blocks})
    maps = ovam.heatmaps(trace, embedding, reduction="sum")
    return float(((maps.double() - expected).abs() / expected).max())


def assert_same(one: ovam.Trace, other: ovam.Trace, tolerance: float = 0.0) -> None:
    assert one.timesteps == other.timesteps
    for block, same in zip(one.blocks, other.blocks, strict=True):
        assert float((block.queries - same.queries).abs().max()) <= tolerance * float(same.queries.abs().max())


def latent_of(pipeline: Any, image: np.ndarray) -> torch.Tensor:
    """The latent as diffusers' own image to image begins with it, at the mean of the posterior."""
    pixels = pipeline.image_processor.preprocess(image[None] / np.float32(255))
    return pipeline.vae.encode(pixels).latent_dist.mode() * pipeline.vae.config.scaling_factor


def hooks(pipeline: Any) -> int:
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in pipeline.unet.modules())


@every_family
@pytest.mark.parametrize("prompt", ["", "a cat on a tree"])
@pytest.mark.parametrize(
    "options", [{"timesteps": STEPS}, {"inversion": "ddim", "num_inference_steps": 3}], ids=["noise", "ddim"]
)
def test_maps_of_the_prompt_are_the_attention_of_the_unet(family: str, prompt: str, options: dict[str, Any]) -> None:
    pipeline, recorded = watched(family)
    recorded.clear()
    trace = ovam.trace_image(pipeline, IMAGE, prompt=prompt, mid_block=True, **options)
    assert {len(maps) for maps in recorded.values()} == {3}
    assert (trace.image_size, trace.latent_size, trace.evaluations) == ((64, 96), (8, 12), (0, 1, 2))
    assert set(recorded) == {block.name for block in trace.blocks}
    assert error_against(recorded, pipeline, trace, prompt) < 1e-4


@every_family
@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_the_unet_sees_what_any_scheduler_would_show_it_of_the_noised_image(family: str, scheduler: str) -> None:
    pipeline = untouched(family)
    pipeline.scheduler = tiny_scheduler(scheduler, **FAMILIES[family].scheduler)
    seen: list[torch.Tensor] = []
    handle = pipeline.unet.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    ovam.trace_image(pipeline, IMAGE, timesteps=[599, 299], seed=5)
    handle.remove()
    random = torch.Generator().manual_seed(5)
    latent = latent_of(pipeline, IMAGE)
    for step, sample in zip((599, 299), seen, strict=True):
        pipeline.scheduler.set_timesteps(50 if scheduler == "lcm" else 1000)
        own = pipeline.scheduler.timesteps
        time = own[(own - step).abs().argmin()][None]
        assert float(time) == step
        noisy = pipeline.scheduler.add_noise(latent, torch.randn(latent.shape, generator=random), time)
        assert torch.allclose(sample, pipeline.scheduler.scale_model_input(noisy, time[0]), atol=1e-4)


@every_family
def test_an_image_of_the_pipelines_own_is_seen_as_the_pipeline_saw_it(family: str) -> None:
    pipeline, recorded = watched(family)
    with ovam.capture(pipeline, evaluations=-1) as traces:
        made = pipeline("a cat", **FAMILIES[family].inputs(64, 96), num_inference_steps=4, output_type="np").images[0]
    recorded.clear()
    image = (made * 255).round().astype(np.uint8)
    trace = ovam.trace_image(pipeline, image, prompt="a cat", timesteps=[int(traces[0].timesteps[0])])
    assert trace.timesteps == traces[0].timesteps
    assert [block.grid for block in trace.blocks] == [block.grid for block in traces[0].blocks]
    assert error_against(recorded, pipeline, trace, "a cat") < 1e-4


@every_family
def test_no_hook_stays_even_after_an_error(family: str) -> None:
    pipeline = untouched(family)

    def stop(_done: int, _of: int) -> None:
        raise KeyboardInterrupt

    before = hooks(pipeline)
    ovam.trace_image(pipeline, IMAGE, timesteps=STEPS, self_attention=True)
    with pytest.raises(KeyboardInterrupt):
        ovam.trace_image(pipeline, IMAGE, timesteps=STEPS, self_attention=True, on_evaluation=stop)
    assert hooks(pipeline) == before


@every_family
def test_the_same_seed_gives_the_same_trace_and_another_another(family: str) -> None:
    pipeline = untouched(family)
    one, again, other = (ovam.trace_image(pipeline, IMAGE, timesteps=STEPS, seed=seed) for seed in (3, 3, 4))
    assert_same(one, again)
    with pytest.raises(AssertionError):
        assert_same(one, other, tolerance=1e-3)


@every_family
def test_a_trace_of_a_real_image_comes_back_from_its_bytes(family: str) -> None:
    pipeline = untouched(family)
    trace = ovam.trace_image(pipeline, IMAGE, self_attention=True)
    assert trace.timesteps == tuple(map(float, TIMESTEPS))
    again = ovam.Trace.from_bytes(trace.to_bytes(), pipeline)
    assert_same(again, trace)
    assert len(again.self_attention) == len(trace.self_attention) > 0


def test_an_evaluation_does_not_depend_on_those_after_it(pipeline: StableDiffusionPipeline) -> None:
    first = ovam.trace_image(pipeline, IMAGE, timesteps=STEPS[:1])
    longer = ovam.trace_image(pipeline, IMAGE, timesteps=STEPS, evaluations=0)
    assert longer.evaluations == (0,)
    assert_same(longer, first)


def test_a_timestep_given_twice_has_two_noises(pipeline: StableDiffusionPipeline) -> None:
    twice = ovam.trace_image(pipeline, IMAGE, timesteps=[500, 500])
    assert not torch.allclose(twice.blocks[0].queries[0], twice.blocks[0].queries[1], atol=1e-3)


def test_what_is_kept_is_chosen_as_in_a_capture(pipeline: StableDiffusionPipeline) -> None:
    whole = ovam.trace_image(pipeline, IMAGE, timesteps=STEPS, mid_block=True)
    part = ovam.trace_image(pipeline, IMAGE, timesteps=STEPS, evaluations=-1, heads=1, blocks=["up_blocks.1"])
    assert (len(whole.blocks), part.evaluations, part.timesteps) == (10, (2,), (1.0,))
    full = {block.name: block for block in whole.blocks}
    for block in part.blocks:
        assert "up_blocks.1" in block.name
        assert torch.equal(block.queries, full[block.name].queries[2:, 1:2])
    with pytest.raises(SelectionError, match="evaluations"):
        ovam.trace_image(pipeline, IMAGE, timesteps=STEPS, evaluations=3)


def test_evaluations_are_told_of_as_they_end(pipeline: StableDiffusionPipeline) -> None:
    told: list[tuple[int, int]] = []
    ovam.trace_image(pipeline, IMAGE, timesteps=STEPS, on_evaluation=lambda done, of: told.append((done, of)))
    assert told == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_the_path_of_an_inversion_leads_back_to_the_image(prediction: str) -> None:
    """With the same prediction both ways, DDIM's own step undoes a step of the path."""
    scheduler = DDIMScheduler(prediction_type=prediction, clip_sample=False, steps_offset=0)
    scheduler.set_timesteps(10)
    random = torch.Generator().manual_seed(0)
    latent, said = (torch.randn(1, 4, 8, 8, generator=random) for _ in range(2))
    there = Diffusion.of(scheduler).moved(latent, said, 300, 400)
    back = scheduler.step(same_noise(scheduler, latent, said), 400, there).prev_sample
    assert torch.allclose(back, latent, atol=1e-4)


def same_noise(scheduler: DDIMScheduler, latent: torch.Tensor, said: torch.Tensor) -> torch.Tensor:
    """What the UNet has to say at 400 to mean the image and the noise that it meant at 300."""
    image, rest = (float(share) ** 0.5 for share in (scheduler.alphas_cumprod[300], 1 - scheduler.alphas_cumprod[300]))
    match scheduler.config.prediction_type:
        case "v_prediction":
            meant, noise = image * latent - rest * said, image * said + rest * latent
            later = scheduler.alphas_cumprod[400]
            return later.sqrt() * noise - (1 - later).sqrt() * meant
        case _:
            return said


def test_an_inversion_evaluates_at_even_steps_from_the_image_on(pipeline: StableDiffusionPipeline) -> None:
    trace = ovam.trace_image(pipeline, IMAGE, inversion="ddim", num_inference_steps=4)
    assert trace.timesteps == (0.0, 250.0, 500.0, 750.0)
    alike = ovam.trace_image(pipeline, IMAGE, inversion="ddim", num_inference_steps=4, seed=9)
    assert_same(trace, alike)


def test_guidance_that_is_embedded_is_told_to_be_none() -> None:
    pipeline = tiny_family("sd1", "lcm", time_cond_proj_dim=16)
    recorded = record_attention(pipeline)
    told: list[torch.Tensor] = []
    pipeline.unet.register_forward_pre_hook(lambda _unet, _args, given: told.append(given["timestep_cond"]), with_kwargs=True)
    trace = ovam.trace_image(pipeline, IMAGE, prompt="a cat", timesteps=STEPS)
    assert error_against(recorded, pipeline, trace, "a cat") < 1e-4
    none = pipeline.get_guidance_scale_embedding(torch.tensor([1.0 - 1]), embedding_dim=16)  # as a pipeline tells a scale of 1
    assert all(torch.equal(each, none) for each in told)


def facts_told(pipeline: Any) -> list[list[float]]:
    told: list[torch.Tensor] = []
    hook = pipeline.unet.register_forward_pre_hook(
        lambda _unet, _args, given: told.append(given["added_cond_kwargs"]["time_ids"]), with_kwargs=True
    )
    ovam.trace_image(pipeline, IMAGE, timesteps=STEPS[:1])
    hook.remove()
    return told[0].tolist()


def test_sdxl_is_told_of_an_images_size_and_its_refiner_of_its_looks() -> None:
    assert facts_told(untouched("sdxl")) == [[64, 96, 0, 0, 64, 96]]
    pipeline = tiny_family("sdxl-img2img", projection_class_embeddings_input_dim=72)
    pipeline.register_to_config(requires_aesthetics_score=True)
    assert facts_told(pipeline) == [[64, 96, 0, 0, 6]]


def test_half_precision_is_left_as_it_was() -> None:
    pipeline = tiny_family("sdxl")
    exact = ovam.trace_image(pipeline, IMAGE, timesteps=STEPS)
    pipeline.vae.register_to_config(force_upcast=True)
    pipeline.to(torch.float16)
    half = ovam.trace_image(pipeline, IMAGE, timesteps=STEPS)
    assert {parameter.dtype for parameter in pipeline.vae.parameters()} == {torch.float16}
    for block, same in zip(half.blocks, exact.blocks, strict=True):
        assert block.queries.dtype == torch.float16
        assert float((block.queries.float() - same.queries).abs().max() / same.queries.abs().max()) < 0.05


def test_a_shifted_and_a_standardised_latent_are_as_the_model_knows_them() -> None:
    pipeline = tiny_family("sd1")
    seen: list[torch.Tensor] = []
    pipeline.unet.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    ovam.trace_image(pipeline, IMAGE, inversion="ddim", num_inference_steps=1)
    pipeline.vae.register_to_config(shift_factor=0.5)
    ovam.trace_image(pipeline, IMAGE, inversion="ddim", num_inference_steps=1)
    pipeline.vae.register_to_config(latents_mean=[0.5] * 4, latents_std=[2.0] * 4)
    ovam.trace_image(pipeline, IMAGE, inversion="ddim", num_inference_steps=1)
    assert torch.allclose(seen[1], seen[0] - 0.5 * pipeline.vae.config.scaling_factor, atol=1e-5)
    assert torch.allclose(seen[2], seen[1] / 2, atol=1e-5)


BAD = {
    "one side": {"image": np.zeros((64, 90, 3), np.uint8)},
    "no timestep": {"timesteps": []},
    "too late": {"timesteps": [1000]},
    "too early": {"timesteps": [-1]},
    "two ways": {"inversion": "ddim", "timesteps": [1]},
    "no steps": {"inversion": "ddim", "num_inference_steps": 0},
    "too many steps": {"inversion": "ddim", "num_inference_steps": 1001},
}


@pytest.mark.parametrize("options", BAD.values(), ids=BAD.keys())
def test_what_is_not_allowed_is_named(pipeline: StableDiffusionPipeline, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgumentError, match="allowed"):
        ovam.trace_image(pipeline, **({"image": IMAGE} | options))


def test_a_prompt_that_would_be_cut_is_refused(pipeline: StableDiffusionPipeline) -> None:
    with pytest.raises(PromptTooLongError):
        ovam.trace_image(pipeline, IMAGE, prompt="cat " * 80)


def test_a_model_that_cannot_look_at_a_plain_latent_is_refused() -> None:
    with pytest.raises(UnsupportedModelError, match="9 channels; allowed: the 4"):
        ovam.trace_image(tiny_family("inpaint"), IMAGE)
    other = tiny_family("sd1")
    other.scheduler = DDIMScheduler(prediction_type="sample")
    other.scheduler.register_to_config(prediction_type="noise level")
    with pytest.raises(UnsupportedModelError, match="DDIMScheduler predicts 'noise level'"):
        ovam.trace_image(other, IMAGE)
    compiled = tiny_family("sd1")
    compiled.unet.compile(backend="eager")
    with pytest.raises(CompiledModelError):
        ovam.trace_image(compiled, IMAGE)


def test_flow_leads_straight_from_the_image_to_noise_and_back() -> None:
    latent, noise = torch.full((1, 1), 4.0), torch.full((1, 1), 8.0)
    assert [Flow().noised(latent, noise, step).item() for step in (0, 250, 1000)] == [4.0, 5.0, 8.0]
    assert Flow().moved(noise, noise - latent, 1000, 0).item() == 4.0
    assert Flow().moved(latent, noise - latent, 0, 500).item() == 6.0
