"""What holds an aim back is measured on tuning images, and told on a page of its own."""

from pathlib import Path

import numpy as np
import pytest

from experiments import remedies
from experiments.evaluation import paper
from experiments.evaluation.backends.library import LibraryBackend
from experiments.evaluation.report import page
from experiments.evaluation.report.remedies import GRID_CEILING, LATE_WORDS, REMEDIES, SECOND
from experiments.evaluation.settings import GRID, key
from experiments.evaluation.subjects import Subject, overlap
from experiments.evaluation.targets import WORDS, photograph
from experiments.evaluation.work import Place
from ovam import Method
from ovam.attention.targets import rows_of


def test_the_best_map_of_a_grid_is_exact_for_whole_cells_and_not_for_finer_shapes() -> None:
    mask = np.zeros((32, 32), bool)
    mask[8:24, 8:24] = True
    assert overlap(remedies.best_map(mask, 8) > 0.5, mask) > 0.95
    stripes = np.arange(32)[None].repeat(32, axis=0) % 2 == 0
    assert overlap(remedies.best_map(stripes, 8) > 0.5, stripes) < 0.7


def test_an_image_is_measured_at_every_threshold_beside_its_ceilings(backend: LibraryBackend, scene: Subject) -> None:
    (word,) = rows_of(backend.pipeline, [photograph(scene.case.word)], [Method()])
    line = remedies.measured(scene, {WORDS: word, LATE_WORDS: word}, 16)
    ways = {key(way, target) for way in remedies.WAYS for target in (WORDS, LATE_WORDS)}
    assert set(line["counts"]) == ways | {GRID_CEILING, SECOND}
    assert all(len(counts) == len(GRID) for counts in line["counts"].values())
    found = remedies.summed_up([line])[scene.case.dataset]
    assert found["miou"][GRID_CEILING]["value"] > found["miou"][key("min-max", WORDS)]["value"]


def test_the_classes_of_table_2_are_measured(tmp_path: Path) -> None:
    place = Place(Path("models/world"), (("cat", "cat"), ("sofa", "sofa"), ("dog", "dog")))
    names = [task.path.name.partition("-")[0] for task in remedies.tasks(place, tmp_path)]
    assert names == ["cat", "dog"]
    assert "sofa" not in paper.CLASSES


@pytest.mark.parametrize("remedy", REMEDIES, ids=lambda remedy: remedy.what)
def test_every_remedy_was_measured_by_the_evaluation(remedy: object) -> None:
    settings = page.read(Path("experiments/results"))["scores"]["settings"]["generated"]
    assert {remedy.before, remedy.after} <= settings.keys()
