"""What the page says first: verdicts that follow from the figures, and what a user should choose."""

import json
from pathlib import Path

import pytest

from experiments.evaluation.choices import QUESTIONS, Question, answer
from experiments.evaluation.claims import SETS, beyond
from experiments.evaluation.report import trial
from experiments.evaluation.report.page import page, read
from experiments.evaluation.report.reading import advice, signs, why
from experiments.evaluation.settings import generated

RESULTS = Path("experiments/results")
QUESTION = Question("`crf`", "on", "off", "a | words", "b | words")


@pytest.mark.parametrize(
    ("verdicts", "chosen"),
    [
        ({"voc-sim": 0.1, "coco-cap": 0.2}, "on"),
        ({"voc-sim": -0.1, "coco-cap": -0.2}, "off"),
        ({"voc-sim": 0.0, "coco-cap": -0.2}, "off"),
        ({"voc-sim": 0.0, "coco-cap": 0.0}, "either"),
        ({"voc-sim": 0.1, "coco-cap": -0.2}, "on for voc-sim; off for coco-cap"),
    ],
)
def test_the_better_answer_is_chosen_and_none_where_the_interval_decides_nothing(verdicts: dict[str, float], chosen: str) -> None:
    assert answer(QUESTION, verdicts) == chosen


def test_every_question_is_about_settings_that_are_measured_and_is_answered() -> None:
    measured = {one.key for one in generated((16, 8, 4))}
    pairs = {(claim.better, claim.worse) for claim in beyond()}
    for question in QUESTIONS:
        assert {question.better, question.worse} <= measured
        assert (question.better, question.worse) in pairs


def claim(verdict: str, value: float, dataset: str, table: str = "beyond") -> dict[str, object]:
    ours = {"value": value, "low": value - 0.01, "high": value + 0.01}
    first = QUESTIONS[0]
    return {"table": table, "better": first.better, "worse": first.worse, "dataset": dataset, "ours": ours, "verdict": verdict}


def test_advice_tells_the_difference_on_every_set() -> None:
    text = advice({"claims": [claim("holds", 0.05, "voc-sim"), claim("not decided", -0.001, "coco-cap")]})
    assert "| a learned token | a learned token over the word | +5.0 <sub>+4.0 to +6.0</sub> | -0.1" in text
    assert len(text.splitlines()) == 3


def test_signs_are_counted_by_table() -> None:
    text = signs({"claims": [claim("holds", 0.05, "voc-sim", "4"), claim("opposite", -0.05, "coco-cap", "4")]})
    assert "| Table 4: post-processing | 2 | 1 | 0 | 1 |" in text


def test_why_follows_the_heat_of_other_objects() -> None:
    told_apart = why({"words": 0.2, "tokens": 0.1, "own prompt": 0.2, "vocabulary": 0.2})
    confused = why({"words": 0.8, "tokens": 0.9, "own prompt": 0.3, "vocabulary": 0.4})
    assert "Most of the heat is where it belongs" in told_apart
    assert "does not part them better" in told_apart
    assert "No threshold can part" in confused
    assert "the very same queries part the objects better" in confused


def test_another_model_that_was_tried_is_set_beside_this_one(tmp_path: Path) -> None:
    found = read(RESULTS)
    trial.keep(RESULTS, tmp_path)
    kept = json.loads((tmp_path / trial.FILE).read_text())
    assert set(kept["scores"]) == set(SETS)
    text = trial.compared(kept, found["scores"])
    assert "| voc-sim, this model | voc-sim, tried |" in text
    assert page({**found, "trial": kept}, "results").count(text) == 1


def test_every_part_of_the_page_that_the_annotator_judged_quotes_the_annotators_own_error() -> None:
    text = page(read(RESULTS), "results")
    quoted, without = "The annotator's own mIoU", ("How it was made", "Real images", "Time", "Images", "Beyond the paper")
    for part in text.split("\n## ")[1:]:
        for section in part.split("\n### ")[1:] if part.startswith("Beyond") else [part]:
            assert (quoted in section) != section.startswith(without), section[:60]
