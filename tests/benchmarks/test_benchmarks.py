import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import ovam
from benchmarks import library
from benchmarks.__main__ import MEASURES, options
from benchmarks.gateway import gateway_import
from benchmarks.over_http import memory
from benchmarks.report import summarise, write
from benchmarks.result import Result, Setup, circumstances, percentile
from tests.pipelines import tiny_pipeline


@pytest.fixture(scope="session")
def setup(tmp_path_factory: pytest.TempPathFactory) -> Setup:
    folder = tmp_path_factory.mktemp("model")
    tiny_pipeline().save_pretrained(folder)
    return Setup(model=folder, repeats=1, seconds=60, threads=None)


def test_the_plain_equations_and_the_library_agree() -> None:
    pipeline = tiny_pipeline()
    with ovam.capture(pipeline) as traces:
        pipeline("a cat", height=64, width=96, num_inference_steps=2, generator=torch.Generator().manual_seed(0))
    embedding, _ = ovam.encode(pipeline, "a photograph of a dog")
    with torch.inference_mode():
        plain = library.plain_heatmaps(traces[0], embedding)
    torch.testing.assert_close(ovam.heatmaps(traces[0], embedding, reduction="sum"), plain, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("measure", [library.capture, library.self_attention])
def test_capture_is_measured_in_turn(measure: Callable[[Setup], Result], setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "STEPS", 2)
    result = measure(setup)
    assert len(result.samples) == 1
    assert result.value > 0


def test_one_target_and_many_are_measured_in_turn(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "STEPS", 2)
    ((one, many),) = library.targets_pairs(setup, ["cat", "dog", "tree"])
    assert one > 0
    assert many > 0


def test_two_ways_take_turns_in_being_first() -> None:
    order: list[str] = []
    pairs = library.in_turn(lambda: order.append("a"), lambda: order.append("b"), repeats=3, limit=60)
    assert "".join(order) == "ab" + "ab" + "ba" + "ab"
    assert len(pairs) == 3


def test_no_further_repeat_begins_when_the_time_is_over() -> None:
    assert len(library.in_turn(lambda: None, lambda: None, repeats=1000, limit=0)) == 1


def test_the_gateway_s_import_is_measured_without_torch(setup: Setup) -> None:
    assert gateway_import(setup).details["torch_imported"] is False


def test_memory_is_read_from_the_system() -> None:
    now, most = memory(os.getpid())
    assert 2**20 < now <= most


def test_a_result_is_written_with_its_circumstances_and_shown_on_the_page(setup: Setup, tmp_path: Path) -> None:
    late = Result(name="a", says="waiting", value=200.0, unit="ms", goal=150.0, samples=[200.0])
    early = Result(name="b", says="more waiting", value=1.0, unit="ms", goal=150.0, samples=[1.0])
    without = Result(name="c", says="a comparison", value=2.0, unit="x")
    for result in (late, early, without):
        path = write(tmp_path, result, circumstances(setup))
        assert {"command", "commit", "cores", "packages"} <= set(json.loads(path.read_text())["circumstances"])
    page = summarise(tmp_path)
    assert "| waiting | 200 ms" in page
    assert "| **no** |" in page
    assert "| yes |" in page
    assert (tmp_path / "README.md").read_text() == page


def test_the_goals_are_those_of_the_service() -> None:
    assert set(MEASURES) == {
        "capture", "self_attention", "attribute", "targets", "optimisation", "worker_memory", "gateway_import", "heatmaps",
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
