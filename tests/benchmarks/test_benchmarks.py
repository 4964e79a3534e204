import json
import os
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import ovam
from benchmarks import crf, growth, joint, kernels, library, plain, speed, stored, stored_jobs, variants
from benchmarks.__main__ import MEASURES, options
from benchmarks.exports import exports
from benchmarks.gateway import gateway_import
from benchmarks.over_http import memory
from benchmarks.plot import Curve, log_plot
from benchmarks.report import file_of, summarise, write
from benchmarks.result import Result, Setup, circumstances, percentile
from benchmarks.shapes import SD15, SDXL, Shapes, disc, random_rows, random_trace
from benchmarks.timing import in_turn, peak_bytes
from ovam.core.export import FORMS
from tests.diffusion_transformers import tiny_transformer
from tests.pipelines import tiny_pipeline

TINY = Shapes("tiny", ((8, 2, 8, 2), (4, 2, 8, 1)), 16, 64)


@pytest.fixture(scope="session")
def setup(tmp_path_factory: pytest.TempPathFactory) -> Setup:
    folder = tmp_path_factory.mktemp("model")
    tiny_pipeline().save_pretrained(folder)
    return Setup(model=folder, repeats=1, seconds=60, threads=None)


def test_the_plain_reference_and_the_library_agree() -> None:
    pipeline = tiny_pipeline()
    with ovam.capture(pipeline) as traces:
        pipeline("a cat", height=64, width=96, num_inference_steps=2, generator=torch.Generator().manual_seed(0))
    embedding, _ = ovam.encode(pipeline, "a photograph of a dog")
    with torch.inference_mode():
        expected = plain.heatmaps(traces[0].blocks, embedding)
    torch.testing.assert_close(ovam.heatmaps(traces[0], embedding, reduction="sum"), expected, rtol=1e-4, atol=1e-5)


def test_a_step_of_the_plain_reference_is_the_library_s() -> None:
    trace, mask, init = random_trace(TINY, 3), disc(TINY), random_rows(TINY, 2)
    fit = ovam.optimize_tokens([(trace, mask)], init, epochs=2, learning_rate=0.5)
    assert fit.best_epoch == 1
    step = plain.epoch(trace.blocks, init, torch.stack([~mask, mask]).float(), 0.5)
    torch.testing.assert_close(fit.embedding, step, rtol=1e-4, atol=1e-5)


def test_the_shapes_have_as_many_numbers_as_the_models_they_are_named_for() -> None:
    assert SD15.values() == pytest.approx(11.5e6, rel=0.01)
    assert 2 * SDXL.values() == pytest.approx(210e6, rel=0.01)
    assert sum(block.queries[0].numel() for block in random_trace(TINY, 1).blocks) == TINY.values()


def test_a_transformer_s_drawing_and_its_questions_are_measured(setup: Setup) -> None:
    tiny = joint.Wide("tiny", lambda _: tiny_transformer("sd3"), rows=12, pooled=64, width=64, side=64)
    found = [*joint.joint(setup, (tiny,))]
    assert [result.name.rpartition(", ")[2] for result in found] == ["drawing", "concept", "joint", "text", "memory"]
    assert found[0].details["step_mb"] == pytest.approx(8 * 8 * 4 * 4 / 1e6)


def test_rows_are_measured_beside_the_plain_reference(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "EVALUATIONS", (2,))
    found = [*speed.attribution(setup, [TINY]), *speed.refinement(setup, [TINY]), *speed.learning(setup, [TINY])]
    assert len(found) == 8
    assert all(result.value > 0 for result in found)
    assert all(result.details["relative_error"] < 1e-5 for result in found[:7])


def test_only_the_rows_that_are_asked_for_are_measured(setup: Setup) -> None:
    some = Setup(setup.model, 1, 60, None, rows="20 tokens/10 evaluations/1 targets")
    assert [result.name for result in speed.attribution(some, [TINY])] == ["attribute/tiny/20 tokens/10 evaluations/1 targets"]


def test_crfs_agree(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crf, "SIZES", (64,))
    assert [result.details["agreeing_pixels"] >= 0.99 for result in crf.crf(setup)] == [True, True]


def test_growth_is_measured_and_drawn(tmp_path: Path, setup: Setup, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growth, "measure", lambda work, _: (len(str(work())) + 1.0, 1))
    monkeypatch.setattr(growth, "SMALL", Shapes("", ((64, 1, 2, 1),), 16, 64))
    monkeypatch.setattr(growth, "valkey", lambda: nullcontext(redis_url))
    monkeypatch.setattr(growth, "COUNTS", (2, 4))
    monkeypatch.setattr(stored_jobs, "COUNTS", (2, 4))
    found = [*growth.growth(Setup(setup.model, 1, 60, None, results=tmp_path))]
    things = ["targets", "tokens", "evaluations", "side", "classes", "stored jobs"]
    assert [result.name.partition("/")[2] for result in found] == things
    assert found[-1].details["peak_bytes"] > 1000
    assert "<svg" in (tmp_path / growth.PLOT).read_text()


def test_a_plot_shows_every_count() -> None:
    plot = log_plot([Curve("targets", (1, 2, 4), (0.01, 0.02, 0.5)), Curve("side", (16, 32), (0.1, 0.3))], "seconds")
    assert all(f">{text}</text>" in plot for text in ("1", "2", "4", "16", "32", "targets", "side"))


def test_the_kernels_rows_run_where_there_is_no_kernel_too(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"EPOCHS": 2, "LEARNED_EVALUATIONS": 1, "TOKENS": (4,), "TEXTS": (1, 2)}.items():
        monkeypatch.setattr(kernels, name, value)
    found = [*kernels.kernels(setup, TINY, 2)]
    assert [result.name for result in found] == [
        "kernels/attribute/4 tokens/1 texts", "kernels/attribute/4 tokens/2 texts", "kernels/learn/2 epochs",
    ]  # fmt: skip
    assert found[0].details["relative_error"] < 1e-2


def test_memory_at_most_is_what_work_took() -> None:
    taken, result = peak_bytes(lambda: torch.ones(1 << 24).sum())
    assert float(result) == 1 << 24
    assert 0.9 * (1 << 26) < taken < 1.5 * (1 << 26)


@pytest.mark.parametrize("measure", [library.capture, library.self_attention])
def test_capture_is_measured_in_turn(measure: Callable[[Setup], Result], setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "STEPS", 2)
    result = measure(setup)
    assert len(result.samples) == 1
    assert result.value > 0


def test_every_stored_form_is_compared_with_exact_queries(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "STEPS", 2)
    monkeypatch.setattr(stored, "SD15", TINY)
    found = {result.name.removeprefix(f"stored/{setup.model.name}/"): result for result in stored.stored(setup)}
    assert len(found) == 3 * (1 + len(stored.FORMS)) + 1
    assert found["replay error"].met
    assert found["int8 error"].value > found["float16 error"].value > 0
    assert found["float16 masks"].value > 0.9
    assert found["float16 bytes"].value == 1 > found["int8 bytes"].value > 0.4


def test_what_may_make_a_generation_faster_is_measured_on_and_off(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "STEPS", 1)
    names = ("channels last", "plain attention", "math kernel")  # to compile takes a minute
    found = [row for name in names for row in variants.variants(replace(setup, rows=f"variant/{name}"))]
    assert [row.name.partition("/")[2] for row in found] == [*names]
    assert all(row.value > 0 for row in found)


def test_masks_of_nothing_agree() -> None:
    nothing, half = np.zeros(4, dtype=bool), np.array([True, True, False, False])
    assert (stored.iou(nothing, nothing), stored.iou(half, half), stored.iou(half, ~half)) == (1, 1, 0)
    assert stored.iou(half, np.array([True, False, False, False])) == 0.5


def test_one_target_and_many_are_measured_in_turn(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "STEPS", 2)
    ((one, many),) = library.targets_pairs(setup, ["cat", "dog", "tree"])
    assert one > 0
    assert many > 0


def test_two_ways_take_turns_in_being_first() -> None:
    order: list[str] = []
    pairs = in_turn(lambda: order.append("a"), lambda: order.append("b"), repeats=3, limit=60)
    assert "".join(order) == "ab" + "ab" + "ba" + "ab"
    assert len(pairs) == 3


def test_no_further_repeat_begins_when_the_time_is_over() -> None:
    assert len(in_turn(lambda: None, lambda: None, repeats=1000, limit=0)) == 1


def test_the_gateway_s_import_is_measured_without_torch(setup: Setup) -> None:
    assert gateway_import(setup).details["torch_imported"] is False


def test_every_form_of_export_is_measured(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.exports.IMAGES", 3)
    assert [result.name for result in exports(setup)] == [f"export_{form}" for form in FORMS]


def test_memory_is_read_from_the_system() -> None:
    now, most = memory(os.getpid())
    assert 2**20 < now <= most


def test_a_result_is_written_with_its_circumstances_and_shown_on_the_page(setup: Setup, tmp_path: Path) -> None:
    late = Result(name="a", says="waiting", value=200.0, unit="ms", goal=150.0, samples=[200.0])
    early = Result(name="b", says="more waiting", value=1.0, unit="ms", goal=150.0, samples=[1.0])
    without = Result(name="c", says="a comparison", value=2.0, unit="x")
    slow = Result(name="d", says="a ratio", value=2.0, unit="x", least=3.0)
    around = circumstances(setup)
    paths = {write(tmp_path, result, around) for result in (late, early, without, slow, early)}
    assert paths == {file_of(tmp_path, around)}
    written = json.loads(paths.pop().read_text())
    assert {name: row["met"] for name, row in written["rows"].items()} == {"a": False, "b": True, "c": None, "d": False}
    assert {"command", "commit", "cores", "packages"} <= set(written["runs"][written["rows"]["a"]["run"]])
    page = summarise(tmp_path)
    assert "| waiting | 200 ms" in page
    assert "| **no** |" in page
    assert "| yes |" in page
    assert (tmp_path / "README.md").read_text() == page


def test_the_goals_are_those_of_the_service() -> None:
    assert set(MEASURES) == {
        "attribution", "refinement", "learning", "crf", "growth", "capture", "self_attention", "attribute", "targets",
        "variants", "stored", "batches", "tiers", "crf_over_http", "busy", "submitting", "worker_memory", "gateway_import",
        "exports", "joint", "optimisation",
    }  # fmt: skip


@pytest.mark.parametrize("words", [["nothing"], ["--model", "nowhere"], ["--repeats", "0"]])
def test_a_wrong_option_is_named(words: list[str], setup: Setup, capsys: pytest.CaptureFixture[str]) -> None:
    model = [] if "--model" in words else ["--model", str(setup.model)]
    with pytest.raises(SystemExit) as stop:
        options([*model, *words])
    assert stop.value.code == 2
    assert words[0].removeprefix("--") in capsys.readouterr().err


def test_a_percentile_is_one_of_the_samples() -> None:
    samples = [float(number) for number in range(1, 41)]
    assert percentile(samples, 0.95) == 39.0
    assert percentile([7.0], 0.95) == 7.0
