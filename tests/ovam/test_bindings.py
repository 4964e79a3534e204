"""A trace means the model it was captured from, whatever becomes of the model; and only its own pipeline's images."""

import threading
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionImg2ImgPipeline, StableDiffusionInpaintPipeline, StableDiffusionPipeline
from peft import LoraConfig

import ovam
from ovam.errors import CaptureError, TraceMismatchError, UnsupportedModelError
from ovam.tracing.binding import binding_of, weights_hash
from ovam.tracing.keys import differ
from ovam.tracing.model import calling_pipeline
from tests.families import UNCHECKED, generate, left_half, picture, tiny_family
from tests.pipelines import tiny_pipeline, tiny_scheduler, tiny_tokenizer, tiny_unet


def add(pipeline: Any, name: str = "style", seed: int = 0, **options: Any) -> None:
    torch.manual_seed(seed)
    config = LoraConfig(r=2, lora_alpha=8, target_modules=["to_q", "to_k"], init_lora_weights=False, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that there are several, or that one cannot be merged
        pipeline.unet.add_adapter(config, adapter_name=name)


def heat_of(trace: ovam.Trace, pipeline: Any) -> torch.Tensor:
    return ovam.word_heatmap(trace, pipeline, "a cat on a tree", "cat")


def traced(pipeline: Any, family: str = "sd1", **options: Any) -> ovam.Trace:
    with ovam.capture(pipeline) as traces:
        generate(pipeline, family, **options)
    return traces[0]


CHANGES: dict[str, Callable[[Any], Any]] = {
    "disabled": lambda unet: unet.disable_adapters(),
    "scaled": lambda unet: unet.set_adapters(["style"], [0.25]),
    "replaced": lambda unet: unet.set_adapters(["other"]),
    "both": lambda unet: unet.set_adapters(["style", "other"], [0.5, 0.5]),
    "deleted": lambda unet: unet.delete_adapters(["other", "style"]),
    "unloaded": lambda unet: unet.unload_lora(),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_trace_answers_as_before_whatever_becomes_of_its_adapters(change: str) -> None:
    pipeline = tiny_pipeline()
    add(pipeline, "other", seed=1)
    add(pipeline)
    pipeline.unet.set_adapters(["style"])
    trace = traced(pipeline)
    before = heat_of(trace, pipeline)
    CHANGES[change](pipeline.unet)
    assert torch.equal(heat_of(trace, pipeline), before)


@pytest.mark.parametrize("options", [{"use_dora": True}, {"use_rslora": True}, {"lora_bias": True}], ids=str)
def test_every_kind_of_adapter_is_kept(options: dict[str, Any]) -> None:
    pipeline = tiny_pipeline()
    add(pipeline, **options)
    with torch.no_grad():
        embedding, _ = ovam.encode(pipeline, "a cat")
        name = "down_blocks.0.attentions.0.transformer_blocks.0.attn2"
        trace = traced(pipeline)
        expected = pipeline.unet.get_submodule(name).to_k(embedding)
        pipeline.unet.disable_adapters()
        keys = trace.blocks[0].keys(embedding).transpose(0, 1).flatten(1)
    assert torch.allclose(keys, expected, atol=1e-5)


def test_a_trace_with_adapters_is_read_into_a_pipeline_without_them() -> None:
    pipeline, bare = tiny_pipeline(), tiny_pipeline()
    add(pipeline, lora_bias=True)
    trace = traced(pipeline)
    before = heat_of(trace, pipeline)
    again = ovam.Trace.from_bytes(trace.to_bytes(), bare)
    assert torch.allclose(heat_of(again, bare), before, atol=1e-6)
    assert again.nbytes == trace.nbytes > traced(bare).nbytes
    assert torch.allclose(heat_of(ovam.Trace.from_bytes(again.to_bytes(torch.float16), bare), bare), before, atol=1e-2)


def test_a_trace_without_adapters_is_read_into_a_pipeline_with_them() -> None:
    pipeline, adapted = tiny_pipeline(), tiny_pipeline()
    trace = traced(pipeline)
    add(adapted)
    again = ovam.Trace.from_bytes(trace.to_bytes(), adapted)
    assert torch.equal(heat_of(again, adapted), heat_of(trace, pipeline))
    add(pipeline)
    assert torch.equal(heat_of(trace, pipeline), heat_of(again, adapted))


def test_weights_that_change_under_a_trace_are_named() -> None:
    pipeline = tiny_pipeline()
    trace = traced(pipeline)
    data = trace.to_bytes()
    add(pipeline)
    pipeline.unet.fuse_lora()
    embedding, _ = ovam.encode(pipeline, "a cat")
    with pytest.raises(TraceMismatchError, match=r"key weights of 9 of 9 blocks, 'down_blocks.0.*another checkpoint, or .*fused"):
        ovam.heatmaps(trace, embedding)
    with pytest.raises(TraceMismatchError, match="key weights"):
        ovam.segment(trace, pipeline, "cat", "daam")
    with pytest.raises(TraceMismatchError, match="key weights"):
        ovam.optimize_tokens([(trace, np.eye(64) > 0)], "cat", pipeline=pipeline, epochs=1)
    with pytest.raises(TraceMismatchError, match="key weights"):
        ovam.Trace.from_bytes(data, pipeline)
    with pytest.raises(TraceMismatchError, match="key weights"):
        ovam.Trace.from_bytes(data, tiny_pipeline(seed=5))


@pytest.mark.parametrize(
    ("dtype", "share", "differs"),
    [(torch.float32, 1e-4, False), (torch.float32, 1e-2, True), (torch.bfloat16, 2e-2, False), (torch.bfloat16, 1e-1, True)],
)
def test_keys_are_those_of_other_weights_beyond_what_kernels_and_types_make(
    dtype: torch.dtype, share: float, *, differs: bool
) -> None:
    keys = torch.linspace(-1, 1, 64)
    other = (keys * (1 + share)).to(dtype)
    assert differ(other, keys) is differ(keys, other) is differs


def test_a_hash_of_weights_knows_their_names_shapes_and_types() -> None:
    numbers = torch.arange(4.0)
    kinds = [{"a": numbers}, {"b": numbers}, {"a": numbers.view(2, 2)}, {"a": numbers.view(torch.int32)}]
    modules = [torch.nn.Module() for _ in kinds]
    for module, tensors in zip(modules, kinds, strict=True):
        for name, tensor in tensors.items():
            module.register_buffer(name, tensor)
    assert len({weights_hash(module) for module in modules}) == len(kinds)
    assert {name: what for name, what in binding_of(tiny_unet()).items() if what in ("off", "none")} == {
        "adapters": "none", "IP-Adapter": "none", "FreeU": "off", "autocast": "off",
    }  # fmt: skip


def test_a_fused_adapter_is_part_of_the_weights() -> None:
    pipeline = tiny_pipeline()
    add(pipeline)
    pipeline.unet.fuse_lora()
    trace = traced(pipeline)
    before = heat_of(trace, pipeline)
    assert torch.equal(heat_of(ovam.Trace.from_bytes(trace.to_bytes(), pipeline), pipeline), before)
    pipeline.unet.unfuse_lora()
    with pytest.raises(TraceMismatchError, match="unfused"):
        heat_of(trace, pipeline)


def test_the_same_model_in_another_type_is_the_same_model() -> None:
    pipeline, other = tiny_pipeline(), tiny_pipeline()
    trace = traced(pipeline)
    for dtype, tolerance in ((torch.float16, 1e-2), (torch.bfloat16, 5e-2)):
        other.unet.to(dtype)
        assert torch.allclose(
            heat_of(ovam.Trace.from_bytes(trace.to_bytes(), other), other), heat_of(trace, pipeline), atol=tolerance
        )


def test_projections_fused_before_an_adapter_came_are_those_of_the_generation() -> None:
    """Fused keys are a copy of the weights, which the adapter on the unfused ones does not reach."""
    plain, pipeline = tiny_pipeline(), tiny_pipeline()
    pipeline.unet.fuse_qkv_projections()
    expected = traced(plain)
    for attention in (module for name, module in pipeline.unet.named_modules() if name.endswith("attn2")):
        attention.to_k.weight.data *= 2
    found = traced(pipeline)
    assert torch.allclose(heat_of(found, pipeline), heat_of(expected, plain), atol=1e-5)


def test_adapters_that_change_during_a_generation_are_refused() -> None:
    pipeline = tiny_pipeline()
    add(pipeline)

    def switch(running: Any, *_: object) -> dict[str, Any]:
        running.unet.disable_adapters()
        return {}

    with pytest.raises(CaptureError, match="changed during the generation"), ovam.capture(pipeline):
        generate(pipeline, "sd1", callback_on_step_end=switch)


def test_each_call_of_a_capture_has_its_own_adapters() -> None:
    pipeline = tiny_pipeline()
    alone = heat_of(traced(pipeline), pipeline)
    add(pipeline)
    adapted = heat_of(traced(pipeline), pipeline)
    with ovam.capture(pipeline) as traces:
        generate(pipeline, "sd1")
        pipeline.unet.disable_adapters()
        generate(pipeline, "sd1")
    assert torch.equal(heat_of(traces[0], pipeline), adapted)
    assert torch.equal(heat_of(traces[1], pipeline), alone)


def test_traces_of_different_adapters_are_of_different_models() -> None:
    pipeline = tiny_pipeline()
    plain = traced(pipeline)
    add(pipeline)
    adapted = traced(pipeline)
    mask = np.eye(64, 96) > 0
    with pytest.raises(ovam.errors.ExamplesOfOtherModelsError, match="examples 0 and 1 are of different models"):
        ovam.optimize_tokens([(plain, mask), (adapted, mask)], "cat", pipeline=pipeline)


def second_pass(pipeline: StableDiffusionPipeline) -> Any:
    parts = {name: getattr(pipeline, name) for name in ("vae", "unet", "text_encoder", "tokenizer")}
    other = StableDiffusionImg2ImgPipeline(**parts, scheduler=tiny_scheduler("ddim"), **UNCHECKED)
    other.set_progress_bar_config(disable=True)
    return other


def test_a_second_pipeline_on_the_unet_leaves_traces_in_its_own_capture_or_in_the_only_one() -> None:
    first = tiny_pipeline()
    second = second_pass(first)

    def run() -> None:
        generate(first, "sd1")
        generate(second, "img2img", size=(96, 96), guidance_scale=1.0)

    with ovam.capture(first) as small, ovam.capture(second) as large:
        run()
    with ovam.capture(first) as both:
        run()
    with ovam.capture(second) as again, ovam.capture(first, blocks="up") as up, ovam.capture(first) as whole:
        run()
    assert [trace.image_size for trace in (*small, *large)] == [(64, 96), (96, 96)]
    assert [trace.image_size for trace in both] == [(64, 96), (96, 96)]
    assert [trace.image_size for trace in (*again, *up, *whole)] == [(96, 96), (64, 96), (64, 96)]
    for one, other in zip((*small, *large), both, strict=True):
        assert torch.equal(one.blocks[0].queries, other.blocks[0].queries)
    assert len(up[0].blocks) < len(whole[0].blocks)


def test_a_second_pipeline_of_an_unknown_kind_is_refused() -> None:
    class OtherPipeline:
        vae_scale_factor = 8

        def __init__(self, unet: Any, scheduler: Any) -> None:
            self.unet, self.scheduler = unet, scheduler

        def __call__(self) -> None:
            self.unet(torch.zeros(3, 4, 8, 8), 1, encoder_hidden_states=torch.zeros(3, 4, 32))

    pipeline = tiny_pipeline()
    with pytest.raises(UnsupportedModelError, match="pipeline OtherPipeline is not known"), ovam.capture(pipeline):
        OtherPipeline(pipeline.unet, pipeline.scheduler)()


def test_the_call_of_a_pipeline_is_found_behind_its_own_methods_and_other_callables() -> None:
    class Sampler:
        def __call__(self) -> Any:
            return calling_pipeline()

    class Divided:
        unet = scheduler = object()

        def __call__(self, clip_skip: int) -> Any:
            return self.sampled(), clip_skip

        def sampled(self) -> Any:
            return Sampler()()

    pipeline = Divided()
    (found, variables), _ = pipeline(clip_skip=3)
    assert found is pipeline
    assert variables["clip_skip"] == 3
    assert Sampler()() == (None, {})


def test_a_unet_that_is_called_by_no_pipeline_is_refused_in_plain_words() -> None:
    pipeline = tiny_pipeline()
    with pytest.raises(CaptureError, match="not by a pipeline"), ovam.capture(pipeline):
        pipeline.unet(torch.zeros(1, 4, 8, 8), 1, encoder_hidden_states=torch.zeros(1, 4, 32))


def test_real_images_and_generations_do_not_mix() -> None:
    pipeline = tiny_pipeline()
    image = np.zeros((64, 64, 3), np.uint8)
    alone = ovam.trace_image(pipeline, image, timesteps=[500, 100])
    with ovam.capture(pipeline) as traces:
        generate(pipeline, "sd1")
        inside = ovam.trace_image(
            pipeline, image, timesteps=[500, 100], on_evaluation=lambda done, _: generate(pipeline, "sd1") if done == 1 else None
        )
    assert len(traces) == 2
    assert inside.timesteps == alone.timesteps
    assert torch.equal(inside.blocks[0].queries, alone.blocks[0].queries)


def test_a_unet_that_is_replaced_inside_the_capture_is_named() -> None:
    pipeline, other = tiny_pipeline(), tiny_unet()
    capturing = ovam.capture(pipeline)
    traces = capturing.__enter__()
    generate(pipeline, "sd1")
    pipeline.unet = other
    with pytest.raises(CaptureError, match=r"pipeline\.unet was replaced inside the capture"):
        capturing.__exit__(None, None, None)
    assert traces == []


def test_cropped_inpainting_is_refused_and_whole_inpainting_is_not() -> None:
    pipeline: StableDiffusionInpaintPipeline = tiny_family("inpaint")
    with pytest.raises(CaptureError, match="padding_mask_crop generates a crop"), ovam.capture(pipeline):
        generate(pipeline, "inpaint", padding_mask_crop=8, output_type="pil", image=picture(64, 96), mask_image=left_half(64, 96))
    assert traced(pipeline, "inpaint").image_size == (64, 96)


def threads(*jobs: Callable[[], Any]) -> list[Exception]:
    failed: list[Exception] = []

    def run(job: Callable[[], Any]) -> None:
        try:
            job()
        except Exception as error:  # noqa: BLE001 - handed to the test
            failed.append(error)

    running = [threading.Thread(target=run, args=(job,)) for job in jobs]
    for each in running:
        each.start()
    for each in running:
        each.join()
    return failed


def test_threads_with_a_pipeline_each_on_one_unet_are_kept_apart() -> None:
    first = tiny_pipeline()
    second = second_pass(first)
    second.tokenizer = tiny_tokenizer()  # fast tokenizers themselves are not safe between threads
    alone = (traced(first), traced(second, "img2img"))
    found: dict[str, ovam.Trace] = {}
    together = threading.Barrier(2)

    def job(name: str, pipeline: Any, family: str) -> Callable[[], None]:
        def meet(*_: object) -> dict[str, Any]:
            together.wait(60)
            return {}

        def run() -> None:
            found[name] = traced(pipeline, family, callback_on_step_end=meet)

        return run

    assert threads(job("first", first, "sd1"), job("second", second, "img2img")) == []
    for trace, same in zip((found["first"], found["second"]), alone, strict=True):
        for block, expected in zip(trace.blocks, same.blocks, strict=True):
            assert torch.equal(block.queries, expected.queries)


def test_two_threads_on_one_pipeline_are_refused() -> None:
    pipeline = tiny_pipeline()
    inside, done = threading.Event(), threading.Event()

    def wait(*_: object) -> None:
        if not inside.is_set():
            inside.set()
            done.wait(60)

    def late() -> None:
        inside.wait(60)
        try:
            generate(pipeline, "sd1")
        finally:
            done.set()

    handle = pipeline.unet.up_blocks[0].register_forward_pre_hook(wait)
    with ovam.capture(pipeline):
        failed = threads(lambda: generate(pipeline, "sd1"), late)
    handle.remove()
    assert any(isinstance(error, CaptureError) and "two threads generate with one pipeline" in str(error) for error in failed)
