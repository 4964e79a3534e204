"""Features of a UNet's blocks, and the networks that are trained on them."""

from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import ovam
from ovam import errors
from ovam.core.methods import ByAffinity, Method
from ovam.core.selection import FeatureChoice
from ovam.core.thresholds import Absolute
from ovam.tracing.features import Feature, Features, feature_blocks
from ovam.tracing.model import cross_attentions
from ovam.trained.datasetdm import DatasetDM, DatasetDMSizes
from ovam.trained.grounded_diffusion import GroundedDiffusion, GroundedDiffusionSizes
from ovam.trained.layers import SegBlock
from ovam.trained.networks import FOLDER, Card, Network, read
from ovam.trained.pyramid import pyramid
from tests.pipelines import TEXT_WIDTH, tiny_pipeline

PROMPTS = ["a cat on the tree", "a dog"]
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
    assert len(given) == 15
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


def test_a_real_image_has_features_of_both_halves_and_the_same_queries(pipeline: Any) -> None:
    image = np.arange(64 * 96 * 3, dtype=np.uint8).reshape(64, 96, 3)
    options = {"prompt": "a cat", "timesteps": [500, 100]}
    plain, full = (
        ovam.trace_image(pipeline, image, **options),
        ovam.trace_image(pipeline, image, **options, features=FeatureChoice()),
    )
    assert [block.maps.shape[1] for block in full.features.blocks] == [2] * 15
    assert full.features.blocks[0].grid == (8, 12)
    for one, other in zip(plain.blocks, full.blocks, strict=True):
        torch.testing.assert_close(one.queries, other.queries, atol=1e-4, rtol=1e-3)


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
    found.save(Path(pipeline.name_or_path) / FOLDER / f"{request.param}.safetensors")
    return found


def test_a_network_is_the_same_after_a_file_but_for_half_precision(pipeline: Any, trace: ovam.Trace, network: Network) -> None:
    again = read(Path(pipeline.name_or_path) / FOLDER / f"{network.card.kind}.safetensors")
    assert again.card == network.card
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
    with pytest.raises(errors.FeaturesNotKeptError, match=r"of evaluation 4 were not kept; there are those of \(3, 7\)"):
        features.at(4, "conv_in")
