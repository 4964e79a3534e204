"""Whatever changes how attention is computed, the queries and keys are those of the generation."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
import torch
from peft import LoraConfig

import ovam
from ovam.errors import CaptureError, CompiledModelError
from tests.families import generate, tiny_family
from tests.ovam.reference import aggregate

Projected = dict[str, list[torch.Tensor]]


@contextmanager
def projections(pipeline: Any) -> Iterator[Callable[[], dict[str, list[torch.Tensor]]]]:
    """Watch what cross-attentions project to; gives their probabilities (batch, heads, pixels, tokens)."""
    queries: Projected = {}
    keys: Projected = {}

    def keep(store: Projected, name: str, parts: int) -> Callable[..., None]:
        def hook(_module: Any, _args: Any, output: torch.Tensor) -> None:
            if output.ndim == 3:  # of a batch; the capture itself asks for the keys of single rows
                store.setdefault(name, []).append(output.chunk(parts, dim=-1)[0].detach())

        return hook

    def probabilities() -> dict[str, list[torch.Tensor]]:
        recorded = {}
        for name, made in queries.items():
            attention = pipeline.unet.get_submodule(name)
            pairs = [
                (each.unflatten(-1, (attention.heads, -1)).transpose(1, 2) for each in pair)
                for pair in zip(made, keys[name], strict=True)
            ]
            recorded[name] = [(query @ key.mT * attention.scale).softmax(dim=-1) for query, key in pairs]
        return recorded

    with ExitStack() as hooks:
        for name, module in pipeline.unet.named_modules():
            if name.endswith("attn2") and "mid_block" not in name:
                fused = "Fused" in type(module.processor).__name__
                hooks.callback(module.to_q.register_forward_hook(keep(queries, name, 1)).remove)
                to_k = module.to_kv if fused else module.to_k
                hooks.callback(to_k.register_forward_hook(keep(keys, name, 2 if fused else 1)).remove)
        yield probabilities


def assert_law_holds(pipeline: Any, trace: ovam.Trace, recorded: dict[str, list[torch.Tensor]]) -> None:
    embedding, _ = ovam.encode(pipeline, "a cat", padding="max_length")
    expected = aggregate(recorded, 1, {block.name: block.grid for block in trace.blocks})
    maps = ovam.heatmaps(trace, embedding, reduction="sum")
    assert float(((maps.double() - expected).abs() / expected).max()) < 1e-4


def add_lora(pipeline: Any, _family: str = "") -> None:
    torch.manual_seed(0)
    config = LoraConfig(r=2, target_modules=["to_q", "to_k", "to_v"], init_lora_weights=False)
    pipeline.unet.add_adapter(config, adapter_name="style")


def add_ip_adapter(pipeline: Any, _family: str = "") -> None:
    """Load an image prompt of four tokens into every cross-attention."""
    width = pipeline.unet.config.cross_attention_dim
    torch.manual_seed(0)
    projection = {
        "proj.weight": torch.randn(4 * width, 8),
        "proj.bias": torch.zeros(4 * width),
        "norm.weight": torch.ones(width),
        "norm.bias": torch.zeros(width),
    }
    names = [name for name in pipeline.unet.attn_processors if "attn2" in name]
    weights = {}
    for number, name in enumerate(names):
        out = pipeline.unet.get_submodule(name.removesuffix(".processor")).to_k.out_features
        for part in ("to_k_ip", "to_v_ip"):
            weights[f"{2 * number + 1}.{part}.weight"] = torch.randn(out, width)
    pipeline.unet._load_ip_adapter_weights([{"image_proj": projection, "ip_adapter": weights}], low_cpu_mem_usage=False)


def fuse_and_unfuse(pipeline: Any, family: str = "") -> None:
    """Fuse projections and go back, then add a LoRA, which the matrices that diffusers leaves behind do not have."""
    pipeline.unet.fuse_qkv_projections()
    pipeline.unet.unfuse_qkv_projections()
    add_lora(pipeline, family)


IMAGE_PROMPT = {"ip_adapter_image_embeds": [torch.ones(2, 1, 8)]}
CHANGES: dict[str, tuple[Callable[..., None], dict[str, Any]]] = {
    "attention slicing": (lambda pipeline, _: pipeline.enable_attention_slicing(1), {}),
    "fused projections": (lambda pipeline, _: pipeline.unet.fuse_qkv_projections(), {}),
    "lora": (add_lora, {}),
    "lora after projections were fused and unfused": (fuse_and_unfuse, {}),
    "ip-adapter": (add_ip_adapter, IMAGE_PROMPT),
}


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_the_law_holds_whether_attention_changes_before_or_after_the_hooks(family: str, change: str, when: str) -> None:
    pipeline = tiny_family(family)
    apply, inputs = CHANGES[change]
    with ovam.capture(pipeline) as plain:
        generate(pipeline, family)
    if when == "before":
        apply(pipeline, family)
    with ovam.capture(pipeline, self_attention=True) as traces:
        if when == "after":
            apply(pipeline, family)
        with projections(pipeline) as probabilities:
            generate(pipeline, family, **inputs)
        recorded = probabilities()
    assert_law_holds(pipeline, traces[0], recorded)
    changed = (traces[0].blocks[-1].queries - plain[0].blocks[-1].queries).abs().max()
    assert (float(changed) > 1e-2) == (change not in ("attention slicing", "fused projections"))


def test_fused_self_attentions_leave_the_same_queries_and_keys() -> None:
    pipeline = tiny_family("sd1")
    with ovam.capture(pipeline, self_attention=True) as plain:
        generate(pipeline, "sd1")
    pipeline.unet.fuse_qkv_projections()
    with ovam.capture(pipeline, self_attention=True) as fused:
        generate(pipeline, "sd1")
    for one, other in zip(plain[0].self_attention, fused[0].self_attention, strict=True):
        assert torch.allclose(one.queries, other.queries, atol=1e-4)
        assert torch.allclose(one.keys, other.keys, atol=1e-4)


def test_adapters_that_are_scaled_for_one_call_are_refused() -> None:
    pipeline = tiny_family("sd1")
    add_lora(pipeline)
    with pytest.raises(CaptureError, match=r"scale is 0\.5.*set_adapters"), ovam.capture(pipeline):
        generate(pipeline, "sd1", cross_attention_kwargs={"scale": 0.5})
    pipeline = tiny_family("sd1")
    pipeline.text_encoder.add_adapter(LoraConfig(r=2, target_modules=["q_proj"]))
    with pytest.raises(CaptureError, match=r"scale is 0\.5"), ovam.capture(pipeline):
        generate(pipeline, "sd1", cross_attention_kwargs={"scale": 0.5})
    with ovam.capture(plain := tiny_family("sd1")) as traces:  # nothing that could be scaled
        generate(plain, "sd1", cross_attention_kwargs={"scale": 0.5})
    assert len(traces) == 1


def test_a_unet_compiled_inside_the_capture_is_captured_and_one_before_it_refused() -> None:
    pipeline = tiny_family("sd1")
    with ovam.capture(pipeline) as plain:
        generate(pipeline, "sd1")
    with ovam.capture(pipeline, self_attention=True) as traces:
        pipeline.unet = torch.compile(pipeline.unet, backend="eager")
        generate(pipeline, "sd1")
        generate(pipeline, "sd1")
    for trace in traces:
        for block, same in zip(trace.blocks, plain[0].blocks, strict=True):
            assert torch.allclose(block.queries, same.queries, atol=1e-4)
    assert len(traces) == 2
    with pytest.raises(CompiledModelError), ovam.capture(pipeline):
        pass
