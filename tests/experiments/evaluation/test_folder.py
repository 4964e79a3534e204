"""Images that somebody else annotated are measured by their own masks."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from experiments.cli import conclude
from experiments.evaluation.backends.library import LibraryBackend
from experiments.evaluation.datasets import GUIDANCE_SCALE
from experiments.evaluation.folder import BadDataSetError, contents_hash, read
from experiments.evaluation.quick import quick_rows
from experiments.evaluation.recipes import COUNTS
from experiments.evaluation.run import everything
from experiments.evaluation.scales import scale_of
from experiments.evaluation.stages import Plan
from experiments.evaluation.subjects import Subject, annotation
from experiments.evaluation.targets import AGAINST_ALL, WORDINGS, photograph
from tests.experiments.evaluation.conftest import CLEAR, MODEL, SETS, WORLD

NAMES = ("tokens", "voc-sim-tuning", "voc-sim")


@pytest.fixture(scope="module")
def subjects(backend: LibraryBackend) -> list[Subject]:
    """A clear image of every set."""
    return [
        next(subject for case in SETS[name].of_class(CLEAR) if (subject := backend.generate([case])[0]).clear) for name in NAMES
    ]


@pytest.fixture
def annotated(subjects: list[Subject], tmp_path: Path) -> Path:
    lines = []
    for one in subjects:
        case, mask = one.case, f"{one.case.dataset}.png"
        Image.fromarray(one.truth.mask).save(tmp_path / mask)
        lines.append(
            {"set": case.dataset, "class": "coupe of the day", "word": CLEAR, "prompt": case.prompt, "seed": case.seed}
            | {"mask": mask, "guidance_scale": GUIDANCE_SCALE}
        )
    write(tmp_path, lines)
    return tmp_path


def write(folder: Path, lines: list[dict[str, object]]) -> None:
    (folder / "images.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))


def lines_of(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "images.jsonl").read_text().splitlines()]


def test_classes_come_from_the_folder_and_are_looked_for_by_their_words(annotated: Path) -> None:
    (case,) = read(annotated)["voc-sim"].of_class("coupe of the day")
    assert WORDINGS["words"](case) == photograph(CLEAR)


def test_the_masks_of_the_folder_are_the_truth(annotated: Path, subjects: list[Subject]) -> None:
    (case,) = read(annotated)["voc-sim"].of_class("coupe of the day")
    one = next(one for one in subjects if one.case.dataset == "voc-sim")
    assert np.array_equal(annotation(case, one.image, WORLD).mask, one.truth.mask)
    Image.fromarray(~one.truth.mask).resize((256, 256), Image.Resampling.NEAREST).save(case.mask)
    assert np.array_equal(annotation(case, one.image, WORLD).mask, ~one.truth.mask)


def test_the_whole_chain_runs_on_a_folder(annotated: Path, tmp_path: Path) -> None:
    plan = Plan(MODEL, tmp_path / "work", replace(scale_of(read(annotated)), epochs=60), annotated=annotated)
    everything(plan)
    rows = {row["method"]: row for row in quick_rows(plan) if "method" in row}
    assert rows["ovam"]["set"] == "voc-sim"
    assert rows["daam"]["tokens"] > 50


def test_the_whole_evaluation_runs_on_a_folder_and_leaves_the_bundled_models_results(annotated: Path, tmp_path: Path) -> None:
    sets = read(annotated)
    plan = Plan(MODEL, tmp_path / "work", replace(scale_of(sets, everything=True), epochs=2), annotated=annotated)
    everything(plan)
    conclude(plan, plan.report / "json", plan.report)
    text = (plan.report / "results" / "tables.md").read_text()
    assert f"masks of `{annotated}`" in text
    assert "coupe of the day" in text
    assert "# Results" in (plan.report / "results.md").read_text()
    measured = json.loads((plan.report / "json" / "scores.json").read_text())
    assert measured["scores"].keys() == {"voc-sim"}
    targets = {row["target"] for row in measured["settings"]["generated"].values()}
    assert targets == {"words", "words, padded", "word alone", "unseen sentence", "own prompt", "tokens", "tokens, Adam"}
    assert {path.name for path in (plan.report / "results").iterdir()} == {
        "evaluations.png",
        "images.png",
        "methods.png",
        "tables.md",
        "voc-sim.png",
    }


def test_what_a_folder_has_no_images_for_is_not_asked(annotated: Path) -> None:
    first, second, third = lines_of(annotated)
    others = [
        first | {"class": "moon", "word": "moon", "seed": 5},
        first | {"class": "moon", "word": "moon", "seed": 6},
        first | {"seed": 7},
    ]
    write(annotated, [first, second, third, *others])
    scale = scale_of(read(annotated), everything=True)
    assert scale.classes == ("coupe of the day", "moon")
    assert AGAINST_ALL in scale.targets
    assert COUNTS[2] in scale.targets
    assert COUNTS[4] not in scale.targets
    write(annotated, [first, second, third | {"steps": 50, "prompt": "nothing of the kind"}])
    scale = scale_of(read(annotated), everything=True)
    assert (scale.steps, "own prompt" in scale.targets) == (None, False)


def test_a_class_without_a_clear_object_to_learn_from_is_refused(annotated: Path) -> None:
    Image.fromarray(np.zeros((8, 8), bool)).save(annotated / "tokens.png")
    with pytest.raises(BadDataSetError, match="is annotated with over 3 % and less than all of it for coupe of the day"):
        read(annotated)


def test_another_mask_is_another_data_set(annotated: Path) -> None:
    before = contents_hash(annotated)
    Image.fromarray(np.zeros((8, 8), bool)).save(annotated / "voc-sim.png")
    assert contents_hash(annotated) != before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": -1}, r"line 1, seed: Input should be greater"),
        ({"set": "other"}, r"line 1, set: "),
        ({"mask": "none.png"}, r"line 1: the mask none\.png is not there"),
        ({"set": "voc-sim"}, r"no image of the set tokens"),
        ({"class": "moon"}, r"no image of the set tokens for coupe of the day"),
    ],
)
def test_a_folder_that_is_no_data_set_is_refused_with_the_line(annotated: Path, change: dict[str, object], message: str) -> None:
    first, *others = lines_of(annotated)
    write(annotated, [first | change, *others])
    with pytest.raises(BadDataSetError, match=message):
        read(annotated)


def test_an_image_for_two_purposes_is_refused(annotated: Path) -> None:
    first, second, third = lines_of(annotated)
    write(annotated, [first, second, third | {"seed": first["seed"], "prompt": first["prompt"]}])
    with pytest.raises(BadDataSetError, match="is for tokens and for reporting"):
        read(annotated)
