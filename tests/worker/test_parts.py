"""Parts of a worker, each by itself: sizes of models, pictures and masks as files, gates, metrics, what is kept of an image."""

import base64
from dataclasses import replace
from io import BytesIO
from typing import Any, cast

import numpy as np
import pytest
import torch
from PIL import Image

import ovam
from contracts.rules.capabilities import kept_blocks
from contracts.schema.errors import Code
from contracts.schema.images import FilledCapture, ImagesResult
from contracts.schema.previews import Gate
from contracts.state import keys
from ovam.core.methods import METHODS, NoRefinement
from ovam.errors import NotReplayableError
from service import examples
from tests.families import generate, tiny_family
from tests.worker.jobs import CAT, attribution, generation
from tests.worker.test_cards import saved
from tests.worker.test_timing import filed
from worker.cards import read_card, read_index
from worker.keeping import Taken, in_either_form, queries_bytes, stored_as
from worker.metrics import Memory, Metrics, installed, resident
from worker.previews import decoded, mask_url, picture_url, preview_size
from worker.questions import wanted_by
from worker.redrawing import Redrawn
from worker.rendering import grey, png
from worker.scenes import Tiers
from worker.sizes import level_of, memory_of, sizes_of, text_parameters
from worker.timing import Timing
from worker.traces import Wanted
from worker.watching import NonePasses, Watcher

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("name", "level"),
    [("down_blocks.0.x", 0), ("down_blocks.2.x", 2), ("mid_block.x", 3), ("up_blocks.0.x", 3), ("up_blocks.3.x", 0)],
)
def test_a_block_s_latent_is_halved_on_the_way_down(name: str, level: int) -> None:
    assert level_of(f"{name}.attn1", 4) == level


def test_self_attention_is_that_of_all_evaluations_whichever_a_question_selects() -> None:
    images = ImagesResult.model_validate(examples.SUCCEEDED["result"])
    selections = [(["up"], (0,)), (["up"], (3, 4))]
    assert Wanted(selections).part(images).positions == {0, 3, 4}
    plain, refined = replace(METHODS["daam"].words, refine=NoRefinement()), METHODS["ovam"].words
    assert [wanted_by(each).self_attention for each in ([plain], [refined], [plain, refined])] == [False, True, True]
    assert Wanted(selections, self_attention=True).part(images).positions == {*range(images.evaluations)}


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_sizes_of_a_model_are_those_of_its_trace_and_its_weights(family: str, tmp_path: Any) -> None:
    pipeline = tiny_family(family)
    encoders = [getattr(pipeline, part) for part in ("text_encoder", "text_encoder_2") if hasattr(pipeline, part)]
    found = sizes_of(pipeline.unet, pipeline.vae, 7)
    with ovam.capture(pipeline, mid_block=True, self_attention=True) as traces:
        generate(pipeline, family, size=(64, 64))
    (trace,) = traces
    assert {trace.latent_size[0] >> found.self_attention_level} == {layer.grid[0] for layer in trace.self_attention}
    assert found.self_attention == {layer.name: layer.queries.shape[1] * layer.queries.shape[3] for layer in trace.self_attention}
    assert found.channels == {block.name: block.queries.shape[1] * block.queries.shape[3] for block in trace.blocks}
    parts = [sum(weight.numel() for weight in part.parameters()) for part in (pipeline.unet, pipeline.vae, *encoders)]
    assert found.parameters == sum(parts[:2]) + 7
    assert (found.latent_factor, found.scheduler_evaluations["PNDMScheduler"]) == (pipeline.vae_scale_factor, (1, 1))
    source = saved(family, tmp_path)
    projections = sum(part.text_projection.weight.numel() for part in encoders if hasattr(part, "text_projection"))
    assert text_parameters(source, read_index(source)) == sum(parts[2:]) - projections
    assert memory_of(CPU) == installed()


def shown(url: str) -> tuple[str, Image.Image]:
    head, _, data = url.partition(",")
    return head, Image.open(BytesIO(base64.b64decode(data)))


def test_previews_are_small_and_as_wide_as_their_images() -> None:
    assert [preview_size(size) for size in ((512, 256), (64, 96), (1, 1000))] == [(128, 64), (64, 96), (1, 128)]
    pixels: Any = np.random.default_rng(0).integers(0, 255, (16, 24, 3), np.uint8)
    head, picture = shown(picture_url(pixels, (8, 12)))
    assert (head, picture.size, picture.mode) == ("data:image/jpeg;base64", (12, 8), "RGB")
    assert picture.quantization[0][0] == 6  # type: ignore[missing-attribute]  # of quality 80
    mask = np.zeros((16, 24), np.bool_)
    mask[:8, :6] = True
    head, picture = shown(mask_url(mask, (8, 12)))
    assert (head, picture.size, picture.mode) == ("data:image/png;base64", (12, 8), "1")
    assert np.array_equal(np.asarray(picture), mask[::2, ::2])


def test_latents_are_scaled_as_the_model_s_decoder_needs_them() -> None:
    pipeline, latents = tiny_family("sd1"), torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    plain = decoded(pipeline, latents)[0]
    pipeline.vae.register_to_config(latents_mean=[0.0] * 4)
    assert np.array_equal(decoded(pipeline, latents)[0], plain)
    pipeline.vae.register_to_config(latents_std=[2.0] * 4)
    assert np.array_equal(decoded(pipeline, latents / 2)[0], plain)
    pipeline.vae.register_to_config(latents_mean=[1.0] * 4, latents_std=[1.0] * 4, shift_factor=-1.0)
    assert np.abs(decoded(pipeline, latents)[0].astype(int) - plain).max() <= 1


def test_a_change_is_that_from_the_image_drawn_again_inside_a_mask_and_outside() -> None:
    black, grey_left = np.zeros((2, 4, 3), np.uint8), np.zeros((2, 4, 3), np.uint8)
    grey_left[:, :2] = 51
    found = Redrawn(black, [("a", grey_left)], start=1, evaluations=3)
    causal = found.causal(grey_left)
    assert (causal.from_evaluation, causal.evaluations, causal.redrawn) == (1, 3, pytest.approx(0.1))
    (change,) = found.changes([grey_left[..., 0] > 0])
    assert (change.inside, change.outside) == (pytest.approx(0.2), 0.0)
    assert [file.name for file in found.files(0, change)] == ["without-0.png", "change-0.png"]


def test_heat_is_rounded_to_grey_and_notes_are_unicode() -> None:
    assert grey(np.array([[0.0, 0.5], [0.998, 1.0]], np.float32)).tolist() == [[0, 128], [254, 255]]
    assert grey(np.full((1, 2), -1.0, np.float32)).tolist() == [[0, 0]]
    with Image.open(BytesIO(png(np.zeros((2, 2), np.uint8), {"prompt": "ein Käfer 甲虫"}))) as picture:
        assert picture.info["prompt"] == "ein Käfer 甲虫"


def test_an_attempt_is_counted_by_the_phases_that_it_had() -> None:
    metrics, early, late = Metrics(), Timing(filed()), Timing(filed())
    with early.measured("store"):
        pass
    metrics.ended("probe", early)  # it had no turn
    late.begin()
    metrics.ended("probe", late)

    def count(phase: str) -> float | None:
        return metrics.registry.get_sample_value(f"ovam_job_{phase}_seconds_count", {"kind": "probe"})

    assert [count(phase) for phase in ("wait", "load", "device", "store")] == [1, 1, 1, 2]
    assert (metrics.registry.get_sample_value("process_resident_memory_bytes") or 0) > 1e6
    assert 1e7 < resident() < (installed() or 0)


def test_memory_without_a_gpu_is_the_host_s() -> None:
    memory = Memory(Tiers(CPU, hot=9, warm=5), CPU)
    assert list(memory.used()) == ["host"]
    samples = {sample.name: sample.value for metric in memory.collect() for sample in metric.samples}
    assert samples["ovam_trace_cache_limit_bytes"] == 5
    assert not [name for name in samples if name.startswith("ovam_device")]


@pytest.fixture(scope="module")
def card(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return read_card("tiny", saved("sd1", tmp_path_factory.mktemp("tiny")), default=True)


def watcher(card: Any, gate: Gate | None, **fields: Any) -> Watcher:
    targets = attribution(card, None, "0" * 26, CAT).targets
    job = generation(card, **fields).model_copy(update={"targets": targets, "gate": gate})
    return Watcher(cast("Any", None), cast("Any", None), job, [])


def covering(share: float) -> list[Any]:
    mask = np.zeros((10, 10), np.bool_)
    mask.reshape(-1)[: round(share * 100)] = True
    return [mask]


def test_a_gate_gives_up_what_is_too_small_or_too_large_and_ends_when_none_is_left(card: Any) -> None:
    gate = Gate(target="cat", min_area=0.2, max_area=0.5)
    looking = watcher(card, gate, num_images=4)
    planned = [(number, number + 1) for number in range(5)]
    looking.judge(gate, dict(zip(planned, [*map(covering, (0.19, 0.2, 0.5, 0.51)), [None]], strict=True)), 3)
    assert [(each.image, each.reason) for each in looking.rejected] == [(0, "too-small"), (3, "too-large")]
    assert [looking.passes(each) for each in planned] == [False, True, True, False, True]
    with pytest.raises(NonePasses):
        looking.judge(gate, {(4, 5): covering(0)}, 4)
    error = looking.nothing_passed()
    assert (error.code, error.field, len(error.value or ())) == (Code.GATE_NOT_PASSED, "gate", 3)  # type: ignore[bad-argument-type]
    assert "20.0% to 50.0% of the image by 'cat': seed 1: 19.0% after 3 evaluations; seed 4: 51.0%" in error.detail


def test_a_rejected_image_is_drawn_again_with_the_seeds_that_no_other_image_has(card: Any) -> None:
    gate = Gate(target="cat", min_area=0.2, seeds=3)
    looking = watcher(card, gate, seed=10, num_images=2)
    assert [looking.next_seed(planned) for planned in ((0, 10), (1, 11), (0, 12), (1, 13), (0, 14), (1, 15))] == [
        (0, 12), (1, 13), (0, 14), (1, 15), None, None,
    ]  # fmt: skip
    assert watcher(card, None).next_seed((0, 1)) is None
    assert watcher(card, gate.model_copy(update={"on_fail": "stop"})).next_seed((0, 1)) is None


def test_what_is_stored_of_an_image_is_its_replay_if_there_is_one(card: Any) -> None:
    pipeline = tiny_family("sd1")
    with ovam.capture(pipeline, self_attention=True) as traces, ovam.capture_replay(pipeline) as replays:
        generate(pipeline, "sd1", size=(64, 64))
    image: Any = np.zeros((64, 64, 3), np.uint8)
    both, queries, replay = Taken(image, traces[0], replays[0]), Taken(image, traces[0], None), Taken(image, None, replays[0])
    assert [each.keep for each in (both, queries, replay)] == ["replay", "queries", "replay"]
    assert [each.file(2, None).name for each in (both, queries)] == [keys.replay(2), keys.trace(2)]
    assert [stored_as(each.kept, 2) for each in (both, queries)] == [keys.replay(2), keys.trace(2)]
    assert both.scene("int8").trace is traces[0]
    assert replay.scene(None) is queries.scene("int8") is None
    for precision, dtype in ((None, torch.float16), ("bfloat16", torch.bfloat16)):
        assert {block.queries.dtype for block in queries.scene(precision).trace.blocks} == {dtype}
    capture = FilledCapture(keep="queries", self_attention=False)
    widths = {block.name: block.queries.shape[1] * block.queries.shape[3] for block in traces[0].blocks}
    values = sum(block.grid[0] * block.grid[1] * widths[block.name] for block in kept_blocks(capture, card, (64, 64)))
    plain = card.model_copy(update={"word_defaults": card.word_defaults.model_copy(update={"method": "daam"})})
    assert queries_bytes(pipeline, capture, plain, (64, 64), 3) == 3 * values * 4
    assert queries_bytes(pipeline, capture, card, (64, 64), 3) == 2 * 3 * values * 4


def test_a_replay_that_is_refused_gives_way_to_queries(caplog: pytest.LogCaptureFixture) -> None:
    asked = []

    def take(replay: bool) -> str:  # noqa: FBT001  # as it is told
        asked.append(replay)
        if replay and len(asked) == 1:
            raise NotReplayableError("a ControlNet")
        return "taken"

    assert in_either_form(take, replay=True, label="model 'tiny'") == "taken"
    assert in_either_form(take, replay=True, label="x") == in_either_form(take, replay=False, label="x") == "taken"
    assert asked == [True, False, True, False]
    assert "model 'tiny': queries are stored instead of a replay: " in caplog.text
