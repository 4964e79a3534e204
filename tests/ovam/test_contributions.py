"""How much heads and layers contribute, and heatmaps that are weighted by it, against a recomputation head by head."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from dataclasses import replace
from functools import cache
from threading import Thread
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as some
from peft import LoraConfig
from torch import Tensor

import ovam
from ovam import Method
from ovam.attention.aggregation import map_weights
from ovam.attention.scores import select
from ovam.attention.targets import rows_of, target_heatmaps
from ovam.errors import ContributionsNotKeptError, InvalidArgumentError
from ovam.tracing.contributions import Contributing, Contribution, written_by
from ovam.tracing.model import cross_attentions, plain_unet
from tests.diffusion_transformers import draw, tiny_transformer
from tests.families import generate, tiny_family

# diffusers' multistep solver meets a newer NumPy
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning:diffusers")

AUTOMATIC = Method(aggregation="automatic")
PROMPTS = ["a cat and a dog", "a tree"]
Seen = dict[str, list[tuple[Tensor, Tensor, Tensor]]]
"""By block, evaluation after evaluation: the heads' values, the pixels' vectors before, and what the layer wrote."""


def with_lora(pipeline: Any) -> Any:
    torch.manual_seed(0)
    pipeline.unet.add_adapter(LoraConfig(r=2, target_modules=["to_k", "to_out.0"], init_lora_weights=False))
    return pipeline


@cache
def family(name: str) -> Any:
    if name in ("pixart", "sana"):
        return tiny_transformer(name)
    return with_lora(tiny_family("sd1")) if name == "lora" else tiny_family(name)


def made(name: str, prompt: str | list[str], **options: Any) -> None:
    pipeline = family(name)
    if name in ("pixart", "sana"):
        draw(pipeline, name, prompt, **options)
    else:
        generate(pipeline, "sd1" if name == "lora" else name, prompt, **options)


@contextmanager
def watching(unet: Any) -> Iterator[Seen]:
    """Keep what goes into every cross-attention and what comes out."""
    found: Seen = {}
    values: dict[str, Tensor] = {}
    before: dict[str, Tensor] = {}

    def keep(store: dict[str, Tensor], name: str) -> Any:
        return lambda _module, args: store.update({name: args[0].detach().double()} if args[0].ndim == 3 else {})

    def written(name: str) -> Any:
        return lambda _module, _args, output: found.setdefault(name, []).append((values[name], before[name], output.double()))

    with ExitStack() as hooks:
        for name, attention in cross_attentions(unet).items():
            block, inner = unet.get_submodule(name.removesuffix(".attn2")), unet.get_submodule(name)
            entrance = block.norm2 if hasattr(block, "norm3") else inner  # of PixArt and Sana nothing is normalised before
            hooks.callback(entrance.register_forward_pre_hook(keep(before, name)).remove)
            hooks.callback(attention.to_out[0].register_forward_pre_hook(keep(values, name)).remove)
            hooks.callback(inner.register_forward_hook(written(name)).remove)
        yield found


def expected(unet: Any, name: str, seen: tuple[Tensor, Tensor, Tensor], row: int) -> tuple[Tensor, Tensor]:
    """Recompute contributions in double precision: every head's values go through the output projection alone."""
    attention = unet.get_submodule(name)
    to_out, (values, before, written) = deepcopy(attention.to_out[0]).double(), (each[row] for each in seen)
    alone = torch.eye(attention.heads, dtype=torch.float64).repeat_interleave(values.shape[-1] // attention.heads, dim=1)
    with torch.no_grad():
        parts = torch.stack([to_out(values * mask) - to_out(torch.zeros_like(values)) for mask in alone])
    whole, stream = parts.sum(dim=0), before + written
    return (parts * whole).sum(dim=(1, 2)) / whole.square().sum(), (whole * stream).sum() / stream.square().sum()


def assert_measured(trace: ovam.Trace, unet: Any, seen: Seen, row: int) -> None:
    for block in trace.blocks:
        found = block.contribution
        assert found is not None
        for evaluation, values in enumerate(seen[block.name]):
            heads, layer = expected(unet, block.name, values, row)
            torch.testing.assert_close(found.heads[evaluation].double(), heads, rtol=1e-5, atol=1e-5)
            torch.testing.assert_close(found.layer[evaluation].double(), layer, rtol=1e-5, atol=1e-5)
            assert float(found.heads[evaluation].sum()) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("name", "guided"), [("sd1", True), ("sd1", False), ("sdxl", False), ("lora", True), ("pixart", True), ("sana", False)]
)
def test_contributions_are_those_of_a_recomputation_head_by_head_and_a_replay_agrees(name: str, guided: bool) -> None:  # noqa: FBT001
    pipeline = family(name)
    unet = plain_unet(pipeline)
    prompts, options = (PROMPTS, {}) if guided else (PROMPTS[:1], {"guidance_scale": 1.0})
    with (
        watching(unet) as seen,
        ovam.capture(pipeline, contributions=True) as traces,
        ovam.capture_replay(pipeline) as replays,
    ):
        made(name, prompts, **options)
    for image, (trace, replay) in enumerate(zip(traces, replays, strict=True)):
        again = replay.trace(pipeline, contributions=True)
        for each in (trace, again):
            assert_measured(each, unet, seen, image + (len(prompts) if guided else 0))
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in unet.modules())


@pytest.fixture(scope="module")
def trace() -> ovam.Trace:
    """The trace of an image of three evaluations and seven blocks, with contributions."""
    with ovam.capture(family("sd1"), contributions=True) as traces:
        made("sd1", "a cat", num_inference_steps=3)
    return traces[0]


@pytest.fixture(scope="module")
def embedding() -> Tensor:
    return ovam.encode(family("sd1"), "a cat and a dog")[0]


def test_a_capture_of_some_heads_and_a_replay_of_some_evaluations_hold_these_contributions() -> None:
    pipeline = family("sd1")
    with (
        ovam.capture(pipeline, contributions=True) as whole,
        ovam.capture(pipeline, heads=[1], contributions=True) as one_head,
        ovam.capture_replay(pipeline) as replays,
    ):
        made("sd1", "a cat")
    part = replays[0].trace(pipeline, blocks="up", evaluations=[1], contributions=True)
    for one, block in zip(one_head[0].blocks, whole[0].blocks, strict=True):
        torch.testing.assert_close(one.contribution.heads, block.contribution.heads[:, [1]], rtol=0, atol=0)
    embedding = ovam.encode(pipeline, "a dog")[0]
    options = {"evaluations": [1], "aggregation": "automatic"}
    torch.testing.assert_close(
        ovam.heatmaps(part, embedding, **options),
        ovam.heatmaps(whole[0], embedding, blocks="up", **options),
        rtol=1e-4,
        atol=1e-5,
    )


def test_a_contribution_is_moved_and_measured_whole() -> None:
    found = Contribution.of(torch.zeros(3, 5))
    assert (found.heads.shape, found.layer.shape, found.nbytes) == ((3, 4), (3,), 3 * 5 * 4)
    moved = found.to("meta")
    assert (moved.heads.device.type, moved.layer.device.type) == ("meta", "meta")


def test_a_layer_s_matrix_is_in_single_precision_at_least() -> None:
    layer = torch.nn.Linear(4, 4)
    for dtype, exact in ((torch.float16, torch.float32), (torch.float64, torch.float64)):
        matrix, start = written_by(layer.to(dtype), torch.zeros(1, 4, dtype=dtype))
        assert (matrix.dtype, start.dtype) == (exact, exact)


def test_threads_that_share_a_model_are_kept_apart() -> None:
    attention, following, found = SimpleNamespace(heads=2, to_out=[torch.nn.Linear(4, 4)]), torch.nn.Identity(), list[Tensor]()
    layer = Contributing("it", attention, following)
    layer.watched(lambda: slice(None), lambda _, rows: found.append(rows))
    values, stream = torch.randn(2, 1, 3, 4, generator=torch.Generator().manual_seed(0))

    def evaluated(scale: float) -> None:
        attention.to_out[0](scale * values)

    evaluated(1.0)
    following(stream)
    evaluated(1.0)
    other = Thread(target=evaluated, args=(-3.0,))  # at another thread's evaluation of the same layer
    other.start()
    other.join()
    following(stream)
    assert torch.equal(*found)


def test_images_are_bitwise_the_same() -> None:
    pipeline = family("sd1")
    plain = generate(pipeline, "sd1")
    with ovam.capture(pipeline, contributions=True):
        assert torch.equal(torch.as_tensor(generate(pipeline, "sd1")), torch.as_tensor(plain))


parts_of_evaluations = some.lists(some.lists(some.floats(-2, 2, width=32), min_size=3, max_size=3), min_size=1, max_size=4)


@given(parts_of_evaluations, some.integers(1, 3))
def test_weights_are_positive_and_add_up_to_one_over_heads_and_over_layers(layers: list[list[float]], heads: int) -> None:
    contributions = torch.tensor(layers)
    parts = [(own[:, None] * torch.linspace(-1, 2, heads), own) for own in contributions]
    weights = torch.stack(map_weights(parts)) / (len(layers) * heads)  # (layers, evaluations, heads)
    assert bool((weights >= 0).all())
    torch.testing.assert_close(weights.sum(dim=(0, 2)), torch.ones(3, dtype=torch.float64))
    positive = contributions.double().clamp_min(0)
    kept = positive.sum(dim=0) > 0
    by_layer = (positive / positive.sum(dim=0))[:, kept]
    torch.testing.assert_close(weights.sum(dim=2)[:, kept], by_layer, rtol=1e-6, atol=1e-9)
    assert bool((weights.sum(dim=2)[:, ~kept] == 1 / len(layers)).all())


def test_a_heatmap_is_the_weighted_sum_of_single_maps(trace: ovam.Trace, embedding: Tensor) -> None:
    selected = select(trace, "all", "all", "all", "automatic")
    count = sum(one.weights.numel() for one in selected)
    size, total = trace.latent_size, torch.zeros(len(embedding), *trace.latent_size)
    for one in selected:
        for step, head in np.ndindex(*one.weights.shape):
            alone = {"blocks": [one.block.name], "evaluations": step, "heads": head}
            total += one.weights[step, head] / count * ovam.heatmaps(trace, embedding, size=size, **alone)
    mean = ovam.heatmaps(trace, embedding, aggregation="automatic")
    torch.testing.assert_close(mean, total.to(mean), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(mean.sum(dim=0), torch.ones(size), rtol=1e-5, atol=1e-5)
    whole = ovam.heatmaps(trace, embedding, aggregation="automatic", reduction="sum")
    torch.testing.assert_close(whole, mean * count, rtol=1e-5, atol=1e-5)
    assert float((mean - ovam.heatmaps(trace, embedding)).abs().max()) > 1e-3


@pytest.mark.parametrize("by", ["block", "evaluation", "head"])
def test_parts_weigh_as_their_maps_do(trace: ovam.Trace, embedding: Tensor, by: Any) -> None:
    split = ovam.attention.heatmaps.split_heatmaps(trace, embedding, by, aggregation="automatic")
    weights = torch.tensor(split.terms)[:, None, None, None]
    joined = (split.maps * weights).sum(dim=0) / weights.sum()
    torch.testing.assert_close(joined, ovam.heatmaps(trace, embedding, aggregation="automatic"), rtol=1e-4, atol=1e-6)


def test_targets_words_segments_and_halves_are_weighted_alike(trace: ovam.Trace) -> None:
    pipeline, word = family("sd1"), ovam.Words("a cat and a dog", "dog")
    heat = ovam.word_heatmap(trace, pipeline, word.prompt, "dog", aggregation="automatic")
    (rows,) = rows_of(pipeline, [word], [AUTOMATIC])
    both = target_heatmaps(trace, [rows, rows], [AUTOMATIC, Method()])
    torch.testing.assert_close(both[0], heat, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(both[1], ovam.word_heatmap(trace, pipeline, word.prompt, "dog"), rtol=1e-4, atol=1e-6)
    plain, sure = (ovam.segment(trace, pipeline, word, AUTOMATIC, confidence=asked) for asked in (False, True))
    np.testing.assert_allclose(sure.heatmap, plain.heatmap, atol=1e-4)
    assert sure.confidence is not None
    assert 0 <= sure.confidence.agreement <= 1


def test_gradients_are_those_of_the_weighted_sum(trace: ovam.Trace, embedding: Tensor) -> None:
    text = embedding[:3].double().requires_grad_()
    double = trace.to(dtype=torch.float64)
    maps = ovam.heatmaps(double, text, aggregation="automatic")
    (slope,) = torch.autograd.grad(maps[1].sum(), text)
    step = torch.zeros_like(text)
    step[1, 0] = 1e-2
    up, down = (ovam.heatmaps(double, (text + sign * step).detach(), aggregation="automatic")[1].sum() for sign in (1, -1))
    assert float(slope[1, 0]) == pytest.approx(float(up - down) / 2e-2, rel=1e-2)


def test_heads_that_are_alike_weigh_the_same() -> None:
    pipeline = tiny_family("sd1")
    with torch.no_grad():
        for attention in cross_attentions(pipeline.unet).values():
            for module in (attention.to_q, attention.to_k, attention.to_v):
                heads = module.weight.unflatten(0, (attention.heads, -1))
                heads.copy_(heads[:1].expand_as(heads).clone())
            columns = attention.to_out[0].weight.unflatten(1, (attention.heads, -1))
            columns.copy_(columns[:, :1].expand_as(columns).clone())
    with ovam.capture(pipeline, contributions=True) as traces:
        generate(pipeline, "sd1")
    embedding, name = ovam.encode(pipeline, "a cat")[0], traces[0].blocks[0].name
    (one,) = select(traces[0], [name], "all", "all", "automatic")
    torch.testing.assert_close(one.weights, torch.ones_like(one.weights), rtol=1e-5, atol=1e-5)
    weighted = ovam.heatmaps(traces[0], embedding, blocks=[name], aggregation="automatic")
    torch.testing.assert_close(weighted, ovam.heatmaps(traces[0], embedding, blocks=[name]), rtol=1e-5, atol=1e-6)


def test_a_real_image_has_contributions() -> None:
    image = np.random.default_rng(0).integers(0, 255, (64, 96, 3), dtype=np.uint8)
    trace = ovam.trace_image(family("sd1"), image, prompt="a cat", timesteps=[500, 100], contributions=True)
    assert ovam.segment(trace, family("sd1"), "cat", AUTOMATIC).mask.shape == (64, 96)


def test_what_cannot_be_weighted_is_refused(trace: ovam.Trace, embedding: Tensor) -> None:
    pipeline = family("sd1")
    stored = ovam.Trace.from_bytes(trace.to_bytes(), pipeline)
    for lacking in (stored, replace(trace, blocks=tuple(replace(block, contribution=None) for block in trace.blocks))):
        with pytest.raises(ContributionsNotKeptError, match=r"contributions=True.*Replay\.trace"):
            ovam.heatmaps(lacking, embedding, aggregation="automatic")
        with pytest.raises(ContributionsNotKeptError):
            ovam.segment(lacking, pipeline, "cat", AUTOMATIC)
    with pytest.raises(InvalidArgumentError, match="aggregation is 'automatic'; allowed: 'equal' with a network"):
        Method(aggregation="automatic", network="datasetdm")


def test_joint_attention_has_no_such_weights() -> None:
    pipeline = tiny_transformer("sd3")
    with ovam.capture(pipeline, contributions=True) as traces:
        draw(pipeline, "sd3")
    with pytest.raises(InvalidArgumentError, match="aggregation is 'automatic'; allowed: 'equal' for sd3"):
        ovam.segment(traces[0], pipeline, "cat", AUTOMATIC)
