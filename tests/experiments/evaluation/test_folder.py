"""Images that somebody else annotated are measured by their own masks."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from experiments.cli import conclude
from experiments.evaluation.asking import VOCABULARY, plainly
from experiments.evaluation.datasets import DATASETS, GUIDANCE_SCALE
from experiments.evaluation.folder import BadDataSetError, contents_hash, read
from experiments.evaluation.images import Made, annotation
from experiments.evaluation.quick import quick_rows
from experiments.evaluation.recipes import COUNTS, UNCONDITIONAL
from experiments.evaluation.run import everything
from experiments.evaluation.scales import scale_of
from experiments.evaluation.settings import answered, of_any_model
from experiments.evaluation.stages import Plan
from experiments.evaluation.studios.in_process import LocalStudio
from tests.experiments.evaluation.conftest import MODEL

SETS = ("tokens", "voc-sim-tuning", "voc-sim")


@pytest.fixture(scope="module")
def made(artist: LocalStudio) -> list[Made]:
    """A clear image of every set."""
    return [next(made for case in DATASETS[name].of_kind("sun") if (made := artist.make([case])[0]).clear) for name in SETS]


@pytest.fixture
def annotated(made: list[Made], tmp_path: Path) -> Path:
    lines = []
    for one in made:
        case, mask = one.case, f"{one.case.dataset}.png"
        Image.fromarray(one.truth).save(tmp_path / mask)
        lines.append(
            {"set": case.dataset, "class": "star of the day", "word": "sun", "prompt": case.prompt, "seed": case.seed}
            | {"mask": mask, "guidance_scale": GUIDANCE_SCALE}
        )
    write(tmp_path, lines)
    return tmp_path


def write(folder: Path, lines: list[dict[str, object]]) -> None:
    (folder / "images.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))


def lines_of(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "images.jsonl").read_text().splitlines()]


def test_classes_come_from_the_folder_and_are_looked_for_by_their_words(annotated: Path) -> None:
    (case,) = read(annotated)["voc-sim"].of_kind("star of the day")
    assert plainly(case) == ("a photograph of a sun", "sun")


def test_the_masks_of_the_folder_are_the_truth(annotated: Path, made: list[Made]) -> None:
    (case,) = read(annotated)["voc-sim"].of_kind("star of the day")
    one = next(one for one in made if one.case.dataset == "voc-sim")
    assert np.array_equal(annotation(case, one.image)[1], one.truth)
    Image.fromarray(~one.truth).resize((128, 128), Image.Resampling.NEAREST).save(case.mask)
    assert np.array_equal(annotation(case, one.image)[1], ~one.truth)


def test_the_whole_chain_runs_on_a_folder(annotated: Path, tmp_path: Path) -> None:
    plan = Plan(MODEL, tmp_path / "work", scale_of(read(annotated)), annotated=annotated)
    everything(plan)
    rows = {row["method"]: row for row in quick_rows(plan)}
    assert rows["ovam"]["set"] == "voc-sim"
    assert rows["daam"]["tokens"] > 50


def test_the_whole_evaluation_runs_on_a_folder_and_leaves_the_bundled_models_results(annotated: Path, tmp_path: Path) -> None:
    sets = read(annotated)
    plan = Plan(MODEL, tmp_path / "work", replace(scale_of(sets, everything=True), epochs=2), annotated=annotated)
    everything(plan)
    conclude(plan, plan.report / "json", plan.report)
    text = (plan.report / "results.md").read_text()
    assert f"masks of `{annotated}`" in text
    assert "star of the day" in text
    measured = json.loads((plan.report / "json" / "scores.json").read_text())
    assert measured["scores"].keys() == {"voc-sim"}
    asked = {row["asked"] for row in measured["settings"]["generated"].values()}
    assert asked == {
        "words",
        "words, padded",
        "word alone",
        "unseen sentence",
        "own prompt",
        *("tokens", "tokens of the unconditional half", "tokens, Adam"),
    }
    assert {path.name for path in (plan.report / "results").iterdir()} == {
        "evaluations.png",
        "images.png",
        "methods.png",
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
    assert scale.kinds == ("star of the day", "moon")
    assert VOCABULARY in scale.asked
    assert COUNTS[2] in scale.asked
    assert COUNTS[4] not in scale.asked
    write(annotated, [first, second, third | {"steps": 50, "prompt": "nothing of the kind", "guidance_scale": 1.0}])
    scale = scale_of(read(annotated), everything=True)
    assert (scale.steps, "own prompt" in scale.asked, UNCONDITIONAL in scale.asked) == (None, False, False)
    halves = {one.half for one in answered(of_any_model((16, 8, 4), scale.steps), scale.asked)}
    assert halves == {"conditional"}


def test_a_class_without_a_clear_object_to_learn_from_is_refused(annotated: Path) -> None:
    Image.fromarray(np.zeros((8, 8), bool)).save(annotated / "tokens.png")
    with pytest.raises(BadDataSetError, match="is annotated with over 3 % and less than all of it for star of the day"):
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
        ({"class": "moon"}, r"no image of the set tokens for star of the day"),
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
