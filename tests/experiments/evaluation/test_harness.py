"""The whole chain on a handful of images with the bundled model."""

import json

import pytest

import ovam
from experiments.evaluation import work
from experiments.evaluation.datasets import DATASETS, RENDERS, renders, said
from experiments.evaluation.images import Made
from experiments.evaluation.quick import quick_rows
from experiments.evaluation.recipes import RECIPES
from experiments.evaluation.run import everything
from experiments.evaluation.scales import Scale
from experiments.evaluation.settings import generated
from experiments.evaluation.stages import Plan
from experiments.evaluation.studios.in_process import LocalStudio
from experiments.tinyworld.shapes import CLASS_NAMES
from tests.experiments.evaluation.conftest import MODEL

KINDS = ("car",)
SMALL = Scale({"voc-sim-tuning": 1, "coco-cap-tuning": 1, "voc-sim": 1, "coco-cap": 1}, {}, everything=False, kinds=KINDS)


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    plan = Plan(MODEL, tmp_path_factory.mktemp("work"), SMALL)
    everything(plan)
    return plan


def test_every_method_has_a_figure_with_words_and_with_tokens_on_both_sets(plan: Plan) -> None:
    rows = quick_rows(plan)
    assert {row["set"] for row in rows} == {"voc-sim", "coco-cap"}
    assert {"daam", "attn2mask", "ovam", "affinity 1 + dCRF"} <= {row["method"] for row in rows}
    assert all(0 <= row[asked] <= 100 for row in rows for asked in ("words", "tokens"))
    assert max(row["tokens"] for row in rows if row["set"] == "voc-sim") > 50


def test_a_second_run_makes_nothing_new(plan: Plan) -> None:
    before = {path: path.stat().st_mtime_ns for path in plan.work.rglob("*.jsonl")}
    everything(Plan(plan.model, plan.work, plan.scale))
    assert {path: path.stat().st_mtime_ns for path in plan.work.rglob("*.jsonl")} == before


def test_every_image_has_a_line_with_its_prompt_seed_and_counts(plan: Plan) -> None:
    lines = plan.lines()
    assert len(lines) == 2
    for line in lines:
        assert DATASETS[line["dataset"]].case(line["kind"], line["number"]).seed == line["seed"]
        assert (set(line["counts"]) == {one.key for one in plan.settings["generated"]}) == line["clear"]
        json.dumps(line)


def test_every_setting_of_the_full_evaluation_can_be_measured(artist: LocalStudio, scene: Made) -> None:
    settings = generated((16, 8, 4))
    assert len({one.key for one in settings}) == len(settings)
    rows = ovam.initial_tokens(artist.pipeline, *CLASS_NAMES)
    fit = {"rows": rows.tolist(), "kinds": list(CLASS_NAMES)}
    learned = {(name, kind): fit for name in RECIPES for kind in CLASS_NAMES}
    line = work.line(artist, scene, settings, learned, sweep=False)
    assert set(line["counts"]) == {one.key for one in settings}
    assert line["heat"]


def test_seeds_of_tuning_learning_and_reporting_never_meet() -> None:
    seeds: dict[int, set[str]] = {}
    for data in DATASETS.values():
        for case in data.cases(data.images):
            seeds.setdefault(case.seed, set()).add(case.dataset.removesuffix("-100"))
    assert all(len(sets) == 1 for sets in seeds.values())
    drawn = {purpose: {case.seed for case in renders(purpose, 20)} for purpose in RENDERS}
    assert not drawn["tuning"] & drawn["reporting"]
    assert not drawn["tokens"] & (drawn["tuning"] | drawn["reporting"])


def test_half_of_the_rich_prompts_call_the_class_by_a_synonym_alone() -> None:
    cases = DATASETS["coco-cap"].cases(10)
    words = [said(case.kind, case.prompt) for case in cases]
    assert None not in words
    assert sum(word == case.kind for word, case in zip(words, cases, strict=True)) == len(cases) // 2


def test_masks_of_renders_are_exact_and_need_no_annotator(artist: LocalStudio) -> None:
    cases = [case for case in renders("tuning", 1) if case.seed == RENDERS["tuning"] + CLASS_NAMES.index("car")]
    made = artist.make(cases)
    assert {one.case.group for one in made} == {"things", "parts", "grounds"}
    thing, wheel = (next(one for one in made if one.case.kind == kind) for kind in ("car", "car/wheel"))
    assert not (wheel.truth & ~thing.truth).any()
    assert made[0].traces["conditional"] is made[-1].traces["conditional"]
