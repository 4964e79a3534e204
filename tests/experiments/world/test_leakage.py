"""Leakage and hit rates."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from typer.testing import CliRunner

from experiments.world import atlas, found, leakage
from experiments.world.annotator import FIRST, NETS, Annotator
from experiments.world.leakage import Heat
from experiments.world.scene import START
from tests.pipelines import tiny_pipeline


def halves() -> tuple[np.ndarray, np.ndarray]:
    own, other = np.zeros((4, 6), bool), np.zeros((4, 6), bool)
    own[:, :2], other[:, 4:] = True, True
    return own, other


@pytest.mark.parametrize("ground", [0.0, 0.3])
def test_leakage_is_the_heat_on_the_other_thing_over_that_on_its_own_above_the_ground(ground: float) -> None:
    own, other = halves()
    values = np.full((4, 6), ground)
    values[own] += 0.8
    values[other] += 0.2
    heat = leakage.heat(torch.from_numpy(values), own, other)
    assert leakage.ratio([heat]) == pytest.approx(0.25)


def test_hot_words_count_for_more_and_words_that_find_nothing_are_no_success() -> None:
    assert leakage.ratio([Heat(1.0, 0.0), Heat(1.0, 1.0)]) == 0.5
    assert leakage.ratio([Heat(3.0, 0.0), Heat(1.0, 1.0)]) == 0.25
    assert leakage.ratio([Heat(0.0, 0.0)]) == 1.0
    assert leakage.ratio([Heat(-1.0, -1.0)]) == 1.0


def test_it_is_measured_on_two_visible_things_of_pascal_vocs_classes() -> None:
    drawings = list(leakage.scenes(25))
    assert len(drawings) == 25
    for drawing in drawings:
        kinds = [thing.kind for thing in drawing.scene.things]
        assert len(set(kinds)) == 2
        assert all(atlas.load().kind(kind).voc for kind in kinds)
        assert min(mask.sum() for mask in drawing.things) >= leakage.LEAST
        assert drawing.scene.relation is None


def test_a_pipeline_has_a_leakage_alone_on_each_grid_and_together() -> None:
    pipeline = tiny_pipeline()
    once = leakage.leakage(pipeline, 2)
    assert {"alone", "together"} < set(once)
    assert [label for label in once if label.startswith("alone, grid ")]
    assert all(np.isfinite(value) for value in once.values())
    assert leakage.leakage(pipeline, 2) == once
    assert leakage.leakage(pipeline, 2, START) == once


def test_the_command_line_measures_a_folder(tmp_path: Path) -> None:
    tiny_pipeline().save_pretrained(tmp_path)
    answer = CliRunner().invoke(leakage_app(), [str(tmp_path), "--count", "1"])
    assert answer.exit_code == 0, answer.output
    assert "alone" in json.loads(answer.stdout.splitlines()[-1])
    refused = CliRunner().invoke(leakage_app(), [str(tmp_path), "--recipe", "other"])
    assert refused.exit_code == 2
    assert "start, world" in refused.output


def leakage_app() -> typer.Typer:
    app = typer.Typer()
    app.command()(leakage.main)
    return app


def test_a_hit_needs_more_than_three_hundredths_of_the_image() -> None:
    class Judge(Annotator):
        def __init__(self) -> None:
            pass

        def labels(self, images: np.ndarray) -> np.ndarray:
            return images[..., 0]

    images = np.zeros((2, 100, 100, 3), np.uint8)
    label = atlas.load().classes.index("cat") + 1
    images[0, :3, :, 0] = label
    images[1, :4, :, 0] = label
    assert found.hits(Judge(), images, "cat").tolist() == [False, True]
    assert found.hits(Judge(), images, "dog").tolist() == [False, False]


def test_hit_rates_and_sheets_of_a_pipeline_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_pipeline().save_pretrained(tmp_path / "model")
    for kind, net in NETS.items():
        Annotator(net(61)).save(tmp_path / "judges" / f"{kind}.safetensors", kind)
    monkeypatch.setattr(found, "voc", lambda: ("cat", "dog", "car"))
    found.main(tmp_path / "model", tmp_path / "out", tmp_path / "judges", 1, 1, 2, 2.0, 1)
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert set(report["by class"]) == {"cat", "dog", "car"}
    assert report["annotators"] == [FIRST, *(kind for kind in NETS if kind != FIRST)]
    assert report["images of pairs"] == 2
    assert (tmp_path / "out" / "sheet.png").exists()
    assert (tmp_path / "out" / "pairs.png").exists()
