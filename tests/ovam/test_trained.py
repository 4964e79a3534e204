"""Features of a UNet's blocks, and the networks that are trained on them."""

import os
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import linear

import ovam
from ovam import errors
from ovam.core.methods import ByAffinity, Method
from ovam.core.selection import FeatureChoice
from ovam.core.thresholds import Absolute
from ovam.tracing.features import Feature, Features, feature_blocks, output_of
from ovam.tracing.model import cross_attentions
from ovam.trained.datasetdm import DatasetDM, DatasetDMSizes
from ovam.trained.grounded_diffusion import GroundedDiffusion, GroundedDiffusionSizes
from ovam.trained.layers import SegBlock, resized
from ovam.trained.networks import FOLDER, Card, Network, network_of, networks_in, read
from ovam.trained.pyramid import pyramid
from tests.pipelines import TEXT_WIDTH, tiny_pipeline

PROMPTS = ["a cat on the tree", "a dog"]
BLOCKS = [
    "conv_in",
    *("down_blocks.0.attentions.0", "down_blocks.0.downsamplers.0", "down_blocks.1.attentions.0", "down_blocks.1.downsamplers.0"),
    *("down_blocks.2.attentions.0", "mid_block"),
    *("up_blocks.0.attentions.0", "up_blocks.0.attentions.1", "up_blocks.0.upsamplers.0"),
    *("up_blocks.1.attentions.0", "up_blocks.1.attentions.1", "up_blocks.1.upsamplers.0"),
    *("up_blocks.2.attentions.0", "up_blocks.2.attentions.1"),
]
CAT = ovam.Words("a photograph of a cat", "cat")


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Any:
    found = tiny_pipeline()
    found.register_to_config(_name_or_path=str(tmp_path_factory.mktemp("model")))
    return found


@pytest.fixture(scope="module")
def traced(pipeline: Any) -> tuple[list[ovam.Trace], list[ovam.Replay], dict[str, Any]]:
    """Traces and replays of two images, and what the UNet was called with at the last evaluation."""
    last: dict[str, Any] = {}
    handle = pipeline.unet.register_forward_pre_hook(
        lambda _, args, options: last.update(args=args, options=options), with_kwargs=True
    )
    with ovam.capture(pipeline, features=FeatureChoice()) as traces, ovam.capture_replay(pipeline) as replays:
        pipeline(PROMPTS, num_inference_steps=3, generator=torch.Generator().manual_seed(0))
    handle.remove()
    return traces, replays, last


@pytest.fixture(scope="module")
def trace(traced: tuple[list[ovam.Trace], list[ovam.Replay], dict[str, Any]]) -> ovam.Trace:
    return traced[0][0]


def test_features_are_what_a_direct_forward_gives(pipeline: Any, traced: Any) -> None:
    traces, _, last = traced
    given: dict[str, torch.Tensor] = {}
    modules = {name: pipeline.unet.get_submodule(name) for name in feature_blocks(pipeline.unet)}

    def hook(name: str) -> Any:
        return lambda _module, _args, output: given.update({name: output if isinstance(output, torch.Tensor) else output[0]})

    handles = [module.register_forward_hook(hook(name)) for name, module in modules.items()]
    with torch.no_grad():
        pipeline.unet(*last["args"], **last["options"])
    for handle in handles:
        handle.remove()
    assert [*given] == BLOCKS
    for image, trace in enumerate(traces):
        assert trace.features.evaluations == (2,)
        torch.testing.assert_close(trace.features.prompt, last["options"]["encoder_hidden_states"][2 + image])
        for name, rows in given.items():  # [unconditional of both images, conditional of both]
            assert torch.equal(trace.features.at(2, name), rows[[image, 2 + image]])


def test_a_replay_computes_the_same_features_of_both_halves(pipeline: Any, traced: Any) -> None:
    traces, replays, _ = traced
    again = ovam.Replay.from_bytes(replays[1].to_bytes()).trace(pipeline, features=FeatureChoice(("mid_block", 8)))
    assert {block.grid for block in again.features.blocks} == {(2, 2), (8, 8)}
    for block in again.features.blocks:
        torch.testing.assert_close(block.maps[0], traces[1].features.at(2, block.name), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(again.features.prompt, traces[1].features.prompt)
    assert again.nbytes > replays[1].trace(pipeline).nbytes


def test_features_of_a_replay_without_the_other_half_are_refused(pipeline: Any) -> None:
    with ovam.capture_replay(pipeline) as replays:
        pipeline("a cat", num_inference_steps=2, guidance_scale=1.0)
    with pytest.raises(errors.FeaturesNotKeptError, match="one half of guidance alone"):
        replays[0].trace(pipeline, features=FeatureChoice())


@pytest.mark.parametrize("course", [{"timesteps": [500, 100]}, {"inversion": "ddim", "num_inference_steps": 3}])
def test_a_real_image_has_features_of_both_halves_and_the_same_queries(pipeline: Any, course: dict[str, Any]) -> None:
    image = np.arange(64 * 96 * 3, dtype=np.uint8).reshape(64, 96, 3)
    options = {"prompt": "a cat", **course}
    plain, full = (
        ovam.trace_image(pipeline, image, **options),
        ovam.trace_image(pipeline, image, **options, features=FeatureChoice()),
    )
    assert [block.maps.shape[1] for block in full.features.blocks] == [2] * 15
    assert full.features.blocks[0].grid == (8, 12)
    for one, other in zip(plain.blocks, full.blocks, strict=True):
        torch.testing.assert_close(one.queries, other.queries, atol=1e-4, rtol=1e-3)


def test_a_network_takes_features_and_maps_of_every_grid_the_coarsest_first(trace: ovam.Trace) -> None:
    last, names = trace.evaluations[-1], [block.name for block in trace.blocks[:3]]
    grids = {(2, 2): [], (4, 4): [], (8, 8): []}
    for name in BLOCKS:
        for half in trace.features.at(last, name):
            grids[half.shape[-2], half.shape[-1]].append(half)
    for name in names:
        for head in range(next(block for block in trace.blocks if block.name == name).heads):
            maps = ovam.heatmaps(trace, trace.features.prompt, blocks=name, evaluations=-1, heads=head)
            grids[maps.shape[-2], maps.shape[-1]].append(maps)
    for found, expected in zip(pyramid(trace, BLOCKS, names), grids.values(), strict=True):
        torch.testing.assert_close(found, torch.cat(expected))
    half = [Feature(block.name, block.maps[:, 1:]) for block in trace.features.blocks]
    with pytest.raises(errors.FeaturesNotKeptError, match="without guidance"):
        pyramid(replace(trace, features=replace(trace.features, blocks=tuple(half))), BLOCKS)
    with pytest.raises(errors.FeaturesNotKeptError, match="lacks the conditional queries"):
        pyramid(replace(trace, half="unconditional"), BLOCKS, names)


def card_of(pipeline: Any, trace: ovam.Trace, kind: str, **more: Any) -> Card:
    blocks = tuple(feature_blocks(pipeline.unet))
    names = tuple(name for name in cross_attentions(pipeline.unet) if "mid" not in name) if kind == "datasetdm" else ()
    channels = tuple(level.shape[0] for level in pyramid(trace, blocks, names))
    small = (
        {"widths": (4, 4, 8), "embedding": 16, "heads": 2}
        if kind == "grounded-diffusion"
        else {"width": 16, "heads": 2, "layers": 3}
    )
    sizes: Any = GroundedDiffusionSizes if kind == "grounded-diffusion" else DatasetDMSizes
    return Card(kind, asdict(sizes(channels, TEXT_WIDTH, **small)), blocks, names, **more)  # type: ignore[arg-type]


@pytest.fixture(scope="module", params=["grounded-diffusion", "datasetdm"])
def network(request: pytest.FixtureRequest, pipeline: Any, trace: ovam.Trace) -> Network:
    """A network of either kind, untrained, beside the tiny model."""
    torch.manual_seed(1)
    words = ("cat", "kitten") if request.param == "datasetdm" else ()
    found = Network.new(card_of(pipeline, trace, request.param, words=words), trace)
    path = Path(pipeline.name_or_path) / FOLDER / f"{request.param}.safetensors"
    found.save(path)
    assert not path.with_suffix(".partial").exists()
    return found


def test_a_network_is_the_same_after_a_file_but_for_half_precision(pipeline: Any, trace: ovam.Trace, network: Network) -> None:
    again = read(Path(pipeline.name_or_path) / FOLDER / f"{network.card.kind}.safetensors")
    assert again.card == network.card
    assert not any("parametrizations" in name for name in again.module.state_dict())
    row = network.row(pipeline, CAT)
    network.module.eval()  # of the spectral norm alone: no more steps of its power iteration
    heat = again.heat(trace, row)
    assert heat.shape == trace.image_size
    torch.testing.assert_close(heat, network.heat(trace, row), atol=0.02, rtol=0.05)


def test_words_and_a_learned_token_are_found_by_a_network(pipeline: Any, trace: ovam.Trace, network: Network) -> None:
    token = ovam.LearnedTokens(torch.randn(2, TEXT_WIDTH, generator=torch.Generator().manual_seed(3)), ("cat",))
    words, learned = ovam.segment(trace, pipeline, ["cat", token], network.card.kind)
    assert words.method.network == network.card.kind
    assert words.method.threshold == Absolute(0.5)
    assert np.array_equal(words.mask, words.heatmap >= 0.5)
    assert 0 <= words.heatmap.min() <= words.heatmap.max() <= 1
    row = network.row(pipeline, token["cat"])
    torch.testing.assert_close(row, token.embedding[1])
    again = read(Path(pipeline.name_or_path) / FOLDER / f"{network.card.kind}.safetensors")
    assert np.allclose(learned.heatmap, again.heat(trace, row).numpy())


def test_targets_with_and_without_a_network_go_together(pipeline: Any, trace: ovam.Trace, network: Network) -> None:
    alone = ovam.segment(trace, pipeline, "cat", "daam")
    both = ovam.segment(trace, pipeline, ["cat", "cat"], [network.card.kind, "daam"])
    assert np.array_equal(both[1].heatmap, alone.heatmap)
    skipping = ovam.segment(replace(trace, clip_skip=1), pipeline, CAT, network.card.kind)
    again = network_of(pipeline, network.card.kind)
    row = again.row(pipeline, CAT, 1)
    assert not torch.allclose(row, again.row(pipeline, CAT), atol=1e-3)
    assert np.array_equal(skipping.heatmap, again.heat(trace, row).numpy())


def test_networks_are_listed_by_name_and_read_again_when_they_change(pipeline: Any, network: Network, tmp_path: Path) -> None:
    names = [*"fbhadgce"]
    for name in names:
        (tmp_path / FOLDER).mkdir(exist_ok=True)
        (tmp_path / FOLDER / f"{name}.safetensors").touch()
    assert networks_in(str(tmp_path)) == sorted(names)
    path = tmp_path / "changing.safetensors"
    for shift in (0, 1):
        replace(network, fingerprint=network.fingerprint + shift).save(path)
        os.utime(path, ns=(shift, shift))
        assert torch.equal(network_of(pipeline, str(path)).fingerprint, network.fingerprint + shift)


def test_each_kind_takes_the_text_of_its_paper(pipeline: Any, network: Network) -> None:
    if network.card.kind == "datasetdm":
        padded, _ = ovam.encode(pipeline, "cat", padding="max_length")
        torch.testing.assert_close(network.row(pipeline, CAT), padded.mean(dim=0))
    else:
        embedding, tokens = ovam.encode(pipeline, CAT.prompt)
        rows = [token.index for token in ovam.word_tokens(tokens, CAT.prompt, "cat")]
        torch.testing.assert_close(network.row(pipeline, CAT), embedding[rows].mean(dim=0))


def failures(pipeline: Any, trace: ovam.Trace, kind: str) -> Iterator[tuple[type[errors.OvamError], str, Any]]:
    """Bad input, and what is raised for it."""
    method = ovam.METHODS[kind].words
    kept = replace(trace.features, blocks=trace.features.blocks[1:])
    wide = ovam.Rows(torch.zeros(2, TEXT_WIDTH + 1))
    yield (
        errors.FeaturesNotKeptError,
        "holds no features",
        lambda: ovam.segment(replace(trace, features=None), pipeline, "cat", kind),
    )
    yield errors.FeaturesNotKeptError, "conv_in", lambda: ovam.segment(replace(trace, features=kept), pipeline, "cat", kind)
    yield (
        errors.NoNetworkError,
        "has no trained network 'else'",
        lambda: ovam.segment(trace, pipeline, "cat", replace(method, network="else")),
    )
    yield (
        errors.TokenWidthError,
        f"{TEXT_WIDTH + 1}",
        lambda: read(Path(pipeline.name_or_path) / FOLDER / f"{kind}.safetensors").heat(trace, wide.embedding[1]),
    )
    yield errors.InvalidArgumentError, "softmax", lambda: ovam.segment(trace, pipeline, ["cat", "dog"], kind, softmax="together")
    yield errors.InvalidArgumentError, "refine", lambda: Method(network=kind, refine=ByAffinity())


def test_bad_input_gets_an_error_of_its_own(pipeline: Any, trace: ovam.Trace, network: Network) -> None:
    for kind, words, wrong in failures(pipeline, trace, network.card.kind):
        with pytest.raises(kind, match=words):
            wrong()


def test_a_network_of_another_model_is_refused(pipeline: Any, network: Network) -> None:
    other = tiny_pipeline(seed=1)
    with ovam.capture(other, features=FeatureChoice()) as traces:
        other("a cat", num_inference_steps=1)
    path = Path(pipeline.name_or_path) / FOLDER / f"{network.card.kind}.safetensors"
    method = replace(ovam.METHODS[network.card.kind].words, network=str(path))
    with pytest.raises(errors.NetworkOfOtherModelError, match="trained on another model"):
        ovam.segment(traces[0], other, "cat", method)


def test_datasetdm_refuses_a_class_that_it_was_not_trained_for(pipeline: Any, trace: ovam.Trace, network: Network) -> None:
    if network.card.kind == "datasetdm":
        with pytest.raises(errors.ClassNotTrainedError, match="'dog'; allowed: cat, kitten, or a token"):
            ovam.segment(trace, pipeline, "dog", "datasetdm")
        assert torch.equal(network.row(pipeline, ovam.Words("Cat")), network.row(pipeline, ovam.Words("cat")))


@pytest.mark.parametrize("content", [b"", b"no network", b"\x02\x00\x00\x00\x00\x00\x00\x00{}"])
def test_a_file_that_holds_no_network_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.safetensors"
    path.write_bytes(content)
    with pytest.raises(errors.NetworkFileError, match=r"bad.safetensors holds no trained network"):
        read(path)


def test_a_block_normalises_an_image_as_a_batch_of_one_does_in_training() -> None:
    block, maps = SegBlock(6, 6), torch.randn(3, 6, 5, 5, generator=torch.Generator().manual_seed(0))
    block.fold()
    norms = [nn.BatchNorm2d(6, affine=False, track_running_stats=False, eps=1e-4) for _ in range(2)]
    for number in range(3):
        kept = norms[0](maps[number : number + 1]).relu()
        expected = kept + block.conv2(norms[1](block.conv1(kept)).relu())
        torch.testing.assert_close(block(maps)[number], expected[0], atol=1e-5, rtol=1e-4)


def test_a_spectral_norm_bounds_what_a_convolution_adds() -> None:
    block = SegBlock(8, 8)
    for _ in range(50):
        block(torch.randn(1, 8, 4, 4))
    block.fold()
    assert torch.linalg.matrix_norm(block.conv1.weight.detach().flatten(1), 2).item() == pytest.approx(1, abs=0.02)


def attended(attention: nn.MultiheadAttention, queries: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
    weights, biases = attention.in_proj_weight.chunk(3), attention.in_proj_bias.chunk(3)
    parts = [linear(each, *own) for each, *own in zip((queries, keys, keys), weights, biases, strict=True)]
    query, key, value = (each.unflatten(-1, (attention.num_heads, -1)).transpose(1, 2) for each in parts)
    scores = (query @ key.mT / query.shape[-1] ** 0.5).softmax(dim=-1)
    return attention.out_proj((scores @ value).transpose(1, 2).flatten(2))


def test_a_class_attends_to_patches_and_then_weighs_the_features() -> None:
    torch.manual_seed(2)
    module = GroundedDiffusion(GroundedDiffusionSizes((5, 3), 6, widths=(2, 3), embedding=8, heads=2, layers=2, feed_forward=7))
    module.eval()
    levels, classes = [torch.randn(1, 5, 4, 3), torch.randn(1, 3, 8, 6)], torch.randn(1, 2, 6)
    with torch.no_grad():
        coarse, fine = (reduce(level) for reduce, level in zip(module.fusion.reduce, levels, strict=True))
        fused = module.fusion.mix[0](torch.cat([resized(coarse, (8, 6)), fine], dim=1))
        patches = [fused[0, :, 2 * down : 2 * down + 2, 2 * right : 2 * right + 2] for down in range(4) for right in range(3)]
        memory = torch.stack([patch.flatten() for patch in patches])[None] @ module.to_k.weight.T
        query = classes @ module.to_q.weight.T
        for layer in module.layers:
            query = query + attended(layer.self_attn, layer.norm1(query), layer.norm1(query))
            query = query + attended(layer.multihead_attn, layer.norm2(query), memory)
            query = query + layer.linear2(layer.linear1(layer.norm3(query)).relu())
        one, two, three = (each for each in module.mlp if isinstance(each, nn.Linear))
        weights = three(two(one(query).relu()).relu())
        torch.testing.assert_close(module(levels, classes, (8, 6)), torch.einsum("bqc,bchw->bqhw", weights, fused))


def test_maps_are_resized_by_the_middles_of_their_pixels() -> None:
    found = resized(torch.tensor([0.0, 4.0])[None, None, None], (1, 4))
    assert found.flatten().tolist() == [0, 1, 3, 4]


def test_datasetdm_has_its_layers_and_reads_the_three_finest_grids() -> None:
    module = DatasetDM(DatasetDMSizes((3, 3, 3, 3), text_width=4, width=8, heads=2, layers=2, feed_forward=8, queries=2))
    assert len(module.decoder.layers) == 2
    seen: list[Any] = []
    module.decoder.register_forward_hook(lambda *told: seen.extend(told[2:]), with_kwargs=True)
    module.eval()
    levels = [torch.randn(1, 3, side, 2 * side) for side in (2, 4, 8, 16)]
    with torch.no_grad():
        _, masks = module(levels, torch.zeros(1, 4))
        fused = module.fusion(levels)[1:]
    given, found = seen
    assert masks.shape == (1, 2, 40, 80)
    assert torch.equal(masks, found.masks_queries_logits[-1])
    assert [tuple(size) for size in given["feature_size_list"]] == [(8, 16), (16, 32), (16, 32)]
    for rows, maps, marked in zip(given["encoder_hidden_states"], fused, module.level_embed.weight, strict=True):
        torch.testing.assert_close(rows[:, 0], maps[0].flatten(1).T + marked)


def test_the_published_sizes_are_the_published_modules() -> None:
    with torch.device("meta"):
        grounded = GroundedDiffusion(
            GroundedDiffusionSizes((15360, 14080, 8320, 5120), 768, (16, 32, 64, 128), 4, 512, 8, 3, 2048)
        )
        perceiving = DatasetDM(DatasetDMSizes((18536, 19720, 12680, 8200), 768, 256, 8, 10, 2048, 20))
    assert sum(each.numel() for each in grounded.parameters()) == pytest.approx(18.8e6, rel=0.03)
    assert sum(each.numel() for each in perceiving.parameters()) == pytest.approx(37e6, rel=0.1)


def test_the_mask_is_that_of_the_query_that_is_surest_of_class_and_mask() -> None:
    module = DatasetDM(DatasetDMSizes((2, 2, 2), text_width=4, width=8, heads=2, layers=1, feed_forward=8, queries=4))
    half = torch.tensor([[4.0, 4.0], [-4.0, -4.0]])
    masks = torch.stack([torch.full((2, 2), 4.0), half, torch.full((2, 2), 0.1), torch.full((2, 2), -4.0)])
    labels = torch.tensor([[1.0, 1.5, -9.0], [-9.0, 3.0, 0.0], [-9.0, 5.0, -9.0], [-9.0, 5.0, -9.0]])  # background, class, none
    module.forward = lambda *_: (labels[None], masks[None])
    assert torch.equal(module.probability([], torch.zeros(4), (2, 2)), half.sigmoid())


def test_features_are_those_of_the_evaluation_that_is_asked_for() -> None:
    maps = torch.tensor([1.0, 2.0])[:, None, None, None, None].expand(2, 2, 1, 1, 1)
    features = Features((Feature("conv_in", maps),), (3, 7), torch.zeros(1, 4))
    assert [features.at(evaluation, "conv_in").unique().tolist() for evaluation in (3, 7)] == [[1.0], [2.0]]
    assert features.nbytes == 4 * (2 * 2 + 4)
    exact = features.to(dtype=torch.float64)
    assert {exact.prompt.dtype, exact.blocks[0].maps.dtype} == {torch.float64}
    assert torch.equal(output_of((maps[0], maps[1])), maps[0])
    with pytest.raises(errors.FeaturesNotKeptError, match=r"of evaluation 4 were not kept; there are those of \(3, 7\)"):
        features.at(4, "conv_in")
