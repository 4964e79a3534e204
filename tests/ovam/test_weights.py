"""Weights that are elsewhere, or of another type, give the same maps; autoencoders of other kinds give latents."""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AsymmetricAutoencoderKL, AutoencoderTiny, StableDiffusionPipeline
from diffusers.hooks import apply_group_offloading

import ovam
from ovam.errors import UnsupportedModelError
from ovam.learning.initial import initial_tokens
from ovam.tracing.keys import place_of, type_of
from tests.families import generate, tiny_family
from tests.pipelines import tiny_pipeline

MASK = np.eye(64, 96) > 0
IMAGE = np.random.default_rng(0).integers(0, 255, (64, 96, 3), dtype=np.uint8)
PARTS = ("unet", "text_encoder", "text_encoder_2", "vae")


def offload_sequentially(pipeline: Any) -> None:
    accelerate = pytest.importorskip("accelerate")
    for part in PARTS:
        if getattr(pipeline, part, None) is not None:
            accelerate.cpu_offload(getattr(pipeline, part), execution_device=torch.device("cpu"))


def offload_in_groups(pipeline: Any) -> None:
    cpu = torch.device("cpu")
    apply_group_offloading(pipeline.unet, onload_device=cpu, offload_device=cpu, offload_type="leaf_level")


def store_in_8_bits(pipeline: Any) -> None:
    pipeline.unet.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.float32)
    pipeline.vae.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.float32)


def quantise_linear_layers(pipeline: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that torch.ao will go
        pipeline.unet = torch.ao.quantization.quantize_dynamic(pipeline.unet, {torch.nn.Linear}, dtype=torch.qint8)


def load_gguf(pipeline: Any) -> None:
    """Replace linear layers by those that GGUF files are loaded into, where their width is a multiple of its blocks."""
    gguf = pytest.importorskip("gguf")
    from diffusers.quantizers.gguf.utils import GGUFLinear, GGUFParameter  # noqa: PLC0415 - needs gguf

    kind = gguf.GGMLQuantizationType.Q8_0
    for name, module in [*pipeline.unet.named_modules()]:
        if isinstance(module, torch.nn.Linear) and module.in_features % 32 == 0:
            layer = GGUFLinear(module.in_features, module.out_features, module.bias is not None, compute_dtype=torch.float32)
            packed = gguf.quants.quantize(module.weight.detach().numpy(), kind)
            layer.weight, layer.bias = GGUFParameter(torch.from_numpy(packed), quant_type=kind), module.bias
            parent, _, own = name.rpartition(".")
            setattr(pipeline.unet.get_submodule(parent), own, layer)


WAYS: dict[str, tuple[Callable[[Any], None], float]] = {
    "sequential offloading": (offload_sequentially, 1e-6),
    "offloading in groups": (offload_in_groups, 1e-6),
    "fp8 layerwise casting": (store_in_8_bits, 0.1),
    "int8 dynamic": (quantise_linear_layers, 0.1),
    "GGUF": (load_gguf, 0.1),
}


def answers(pipeline: Any, family: str) -> list[torch.Tensor]:
    """Everything that calls a model: encoding, generation, a real image, heatmaps, learning, and bytes."""
    with ovam.capture(pipeline, self_attention=True) as traces:
        generate(pipeline, family)
    trace = ovam.Trace.from_bytes(traces[0].to_bytes(), pipeline)
    real = ovam.trace_image(pipeline, IMAGE, timesteps=[500], prompt="a cat")
    return [
        ovam.encode(pipeline, "a cat on a tree", padding="max_length")[0],
        *(ovam.word_heatmap(each, pipeline, "a cat on a tree", "cat") for each in (traces[0], trace, real)),
        torch.from_numpy(ovam.segment(trace, pipeline, "cat", ovam.Method()).heatmap),
        *learned(trace, pipeline),
    ]


def learned(trace: ovam.Trace, pipeline: Any) -> list[torch.Tensor]:
    if type(trace.blocks[0].to_k).__module__.startswith("torch.ao"):
        warnings.filterwarnings("ignore", message="quantized::linear_dynamic")
        with pytest.raises(UnsupportedModelError, match="no gradients, as quantised kernels do"):
            ovam.optimize_tokens([(trace, MASK)], initial_tokens(pipeline, "cat"), epochs=2)
        return []
    return [ovam.optimize_tokens([(trace, MASK)], initial_tokens(pipeline, "cat"), epochs=2, learning_rate=1e-3).embedding]


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
@pytest.mark.parametrize("way", WAYS)
def test_weights_may_be_elsewhere_or_of_another_type(family: str, way: str) -> None:
    pipeline, plain = tiny_family(family), tiny_family(family)
    change, tolerance = WAYS[way]
    change(pipeline)
    for found, expected in zip(answers(pipeline, family), answers(plain, family), strict=False):
        assert torch.allclose(found, expected, atol=tolerance * float(expected.abs().max()))


def test_where_and_in_what_type_a_module_computes_is_found() -> None:
    pipeline = tiny_pipeline()
    assert (place_of(pipeline.unet), type_of(pipeline.unet)) == (torch.device("cpu"), torch.float32)
    assert (place_of(torch.nn.Identity()), type_of(torch.nn.Identity())) == (torch.device("cpu"), torch.float32)
    assert type_of(pipeline.unet.half()) == torch.float16
    store_in_8_bits(pipeline)
    assert type_of(pipeline.unet.down_blocks[0].attentions[0].transformer_blocks[0].attn2.to_k) == torch.float32


def tiny_autoencoder() -> Any:
    channels = {"encoder_block_out_channels": (8,) * 4, "decoder_block_out_channels": (8,) * 4}
    return AutoencoderTiny(**channels, num_encoder_blocks=(1,) * 4, num_decoder_blocks=(1,) * 4).eval()


def asymmetric_autoencoder() -> Any:
    return AsymmetricAutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        down_block_out_channels=(8,) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        up_block_out_channels=(8,) * 4,
        norm_num_groups=4,
    ).eval()


@pytest.mark.parametrize("make", [tiny_autoencoder, asymmetric_autoencoder])
def test_a_real_image_is_encoded_by_any_autoencoder(make: Callable[[], Any]) -> None:
    pipeline: StableDiffusionPipeline = tiny_pipeline()
    torch.manual_seed(0)
    pipeline.vae = make()
    seen: list[torch.Tensor] = []
    handle = pipeline.unet.register_forward_pre_hook(lambda _m, args: seen.append(args[0]))
    trace = ovam.trace_image(pipeline, IMAGE, timesteps=[0], seed=1)
    handle.remove()
    assert trace.image_size == (64, 96)
    pixels = torch.from_numpy(IMAGE).permute(2, 0, 1)[None] / 127.5 - 1
    with torch.no_grad():
        encoded = pipeline.vae.encode(pixels)
    latent = encoded.latents if hasattr(encoded, "latents") else encoded.latent_dist.mean
    noise = torch.randn(latent.shape, generator=torch.Generator().manual_seed(1))
    share = float(pipeline.scheduler.alphas_cumprod[0])
    assert torch.allclose(
        seen[0], share**0.5 * latent * pipeline.vae.config.scaling_factor + (1 - share) ** 0.5 * noise, atol=1e-5
    )


def test_an_offloaded_autoencoder_that_overflows_is_named() -> None:
    pipeline = tiny_pipeline()
    pipeline.vae.half()
    pipeline.vae.register_to_config(force_upcast=True)
    offload_sequentially(pipeline)
    with pytest.raises(UnsupportedModelError, match="overflows in half precision, and its weights are offloaded"):
        ovam.trace_image(pipeline, IMAGE)
