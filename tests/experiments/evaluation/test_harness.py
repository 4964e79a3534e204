"""The whole chain on a handful of images with the bundled model."""

import json
from dataclasses import replace
from itertools import pairwise

import pytest

from experiments.evaluation import learning, work
from experiments.evaluation.backends.library import LibraryBackend
from experiments.evaluation.datasets import SETS as SEEDS
from experiments.evaluation.learning import TooFewImagesError, clear_images
from experiments.evaluation.lines import leakage, line_of
from experiments.evaluation.measure import SECOND_ANNOTATOR, measured
from experiments.evaluation.quick import quick_rows
from experiments.evaluation.recipes import ONE_IMAGE, REAL_RECIPES, RECIPES
from experiments.evaluation.run import everything
from experiments.evaluation.scales import Scale
from experiments.evaluation.settings import PLAIN, Setting, generated, on_real_images
from experiments.evaluation.stages import Plan
from experiments.evaluation.subjects import Subject
from experiments.evaluation.targets import WORDS
from ovam.learning.initial import initial_tokens
from tests.experiments.evaluation.conftest import CLASSES, CLEAR, MODEL, SETS, WORLD

SMALL = Scale(
    {"voc-sim-tuning": 1, "coco-cap-tuning": 1, "voc-sim": 1, "coco-cap": 1}, everything=False, classes=(CLEAR,), epochs=60
)


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    plan = Plan(MODEL, tmp_path_factory.mktemp("work"), SMALL)
    everything(plan)
    return plan


def test_every_method_has_a_figure_with_words_and_with_tokens_on_both_sets(plan: Plan) -> None:
    rows = [row for row in quick_rows(plan) if "method" in row]
    assert {row["set"] for row in rows} == {"voc-sim", "coco-cap"}
    assert {"daam", "attn2mask", "ovam", "affinity 1 + dCRF"} <= {row["method"] for row in rows}
    assert all(0 <= row[target] <= 100 for row in rows for target in ("words", "tokens"))
    assert max(row["tokens"] for row in rows if row["set"] == "voc-sim") > 50


def test_leakage_is_a_figure_of_the_quick_evaluation(plan: Plan) -> None:
    (row,) = [row for row in quick_rows(plan) if "leakage" in row]
    assert row["set"] == "coco-cap"
    assert row["leakage"].keys() == {"words", "words, late", "together", "tokens"}


def test_a_second_run_makes_nothing_new(plan: Plan) -> None:
    before = {path: path.stat().st_mtime_ns for path in plan.work.rglob("*.jsonl")}
    everything(Plan(plan.model, plan.work, plan.scale))
    assert {path: path.stat().st_mtime_ns for path in plan.work.rglob("*.jsonl")} == before


def test_every_image_has_a_line_with_its_prompt_seed_and_counts(plan: Plan) -> None:
    lines = plan.lines()
    assert len(lines) == 2
    for line in lines:
        assert SETS[line["dataset"]].case(line["class_name"], line["number"]).seed == line["seed"]
        assert (set(line["counts"]) == {one.key for one in plan.settings["generated"]} | {SECOND_ANNOTATOR}) == line["clear"]
        json.dumps(line)


@pytest.fixture(scope="module")
def learned(backend: LibraryBackend) -> dict[tuple[str, str], dict[str, object]]:
    """The words of all classes as every recipe's tokens."""
    rows = initial_tokens(backend.pipeline, *backend.words.values())
    fit = {"rows": rows.tolist(), "classes": list(CLASSES)}
    return {(name, class_name): fit for name in (*RECIPES, *REAL_RECIPES) for class_name in CLASSES}


def test_every_setting_of_the_full_evaluation_can_be_measured(
    backend: LibraryBackend, scene: Subject, learned: dict[tuple[str, str], dict[str, object]]
) -> None:
    settings = generated(backend.resolutions)
    assert len({one.key for one in settings}) == len(settings)
    line = work.line(backend, scene, settings, learned, sweep=False)
    assert set(line["counts"]) == {one.key for one in settings} | {SECOND_ANNOTATOR}
    assert line["heat"]


@pytest.mark.parametrize("name", ["real", "real-scenes"])
def test_real_images_are_measured_by_exact_masks(
    backend: LibraryBackend, learned: dict[tuple[str, str], dict[str, object]], name: str
) -> None:
    (subject,) = backend.generate([SETS[name].case(CLEAR, 0)])
    assert subject.truth.mask.any()
    assert subject.clear
    assert bool(subject.case.others) == (name == "real-scenes")
    line = work.line(backend, subject, on_real_images(), learned, sweep=False)
    assert set(line["counts"]) == {one.key for one in on_real_images()}
    assert bool(line["heat"]) == (name == "real-scenes")


def test_settings_whose_tokens_were_not_learned_are_left_out(backend: LibraryBackend, scene: Subject) -> None:
    settings = [Setting("plain", WORDS, PLAIN), Setting("plain", ONE_IMAGE, PLAIN)]
    line = work.line(backend, scene, settings, {}, sweep=False)
    assert list(line["counts"]) == [settings[0].key, SECOND_ANNOTATOR]


def test_a_second_annotator_is_counted_as_a_setting_is(backend: LibraryBackend, scene: Subject) -> None:
    judged = replace(scene, truth=replace(scene.truth, second=scene.truth.mask))
    found = measured(backend, judged, [Setting("plain", WORDS, PLAIN)], {}, sweep=False)
    area = int(scene.truth.mask.sum())
    assert found.counts[SECOND_ANNOTATOR].tolist() == [[area, area]]


def test_leakage_is_the_heat_of_others_above_the_ground_over_that_of_the_class() -> None:
    lines = [{"heat": {"words": [0.6, 0.3, 0.1]}}, {"heat": {"words": [0.8, 0.2, 0.1]}}]
    assert leakage(lines)["words"] == pytest.approx((0.5 - 0.2) / (1.4 - 0.2))


class NothingClear:
    """A backend whose images show nothing."""

    def __init__(self, scene: Subject) -> None:
        self.scene = replace(scene, truth=replace(scene.truth, mask=scene.truth.mask & False))

    def generate(self, cases: list[object]) -> list[Subject]:
        return [self.scene for _ in cases]


def test_without_clear_images_no_token_is_learned_and_the_rest_goes_on(scene: Subject) -> None:
    cases = SETS["tokens"].of_class(CLEAR)
    with pytest.raises(TooFewImagesError, match=f"no image of {len(cases)} shows a clear"):
        clear_images(NothingClear(scene), cases, 1)
    assert list(learning.read_learned([])) == []
    assert line_of(NothingClear(scene).scene)["counts"] == {}


def test_seeds_of_tuning_learning_and_reporting_never_meet() -> None:
    seeds: dict[int, set[str]] = {}
    for name, one in SETS.items():
        for case in one.cases(one.images, CLASSES):
            seeds.setdefault(case.seed, set()).add(name.removesuffix("-100"))
    assert all(len(names) == 1 for names in seeds.values())


def test_the_seeds_have_room_for_twenty_classes() -> None:
    starts = sorted({(one.first_seed, one.name.removesuffix("-100")) for one in SEEDS})
    assert all(later[0] - earlier[0] >= 20_000 for earlier, later in pairwise(starts))


def test_a_prompt_of_several_things_knows_the_words_of_the_others() -> None:
    case = SETS["coco-cap"].case(CLEAR, 0)
    assert case.others
    assert all(word in case.prompt and word != case.mention for word in case.others)


def test_labels_of_the_world_are_its_annotators(scene: Subject) -> None:
    assert (scene.truth.mask == (scene.truth.labels == WORLD.label(scene.case.class_name))).all()
