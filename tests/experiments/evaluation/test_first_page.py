"""What the first page says: verdicts that follow from the figures, and what a user should choose."""

from pathlib import Path

import pytest

from experiments.evaluation import paper
from experiments.evaluation.choices import QUESTIONS, Question, answer
from experiments.evaluation.claims import beyond, of_blocks
from experiments.evaluation.report import first_page, glance
from experiments.evaluation.report.first_page import advice, aims, apart, signs, truth
from experiments.evaluation.report.page import FURTHER, all_tables, read
from experiments.evaluation.settings import generated, key

QUESTION = Question("`crf`", "on", "off", "a | words", "b | words")
RESOLUTIONS = [(16, 8), (16, 8, 4)]


@pytest.mark.parametrize(
    ("differences", "chosen"),
    [
        ({"voc-sim": 0.1, "coco-cap": 0.2}, "on"),
        ({"voc-sim": -0.1, "coco-cap": -0.2}, "off"),
        ({"voc-sim": 0.0, "coco-cap": -0.2}, "off"),
        ({"voc-sim": 0.0, "coco-cap": 0.0}, "either"),
        ({"voc-sim": 0.1, "coco-cap": -0.2}, "on for voc-sim; off for coco-cap"),
    ],
)
def test_the_better_answer_is_chosen_and_none_where_the_interval_decides_nothing(
    differences: dict[str, float], chosen: str
) -> None:
    assert answer(QUESTION, differences) == chosen


@pytest.mark.parametrize("resolutions", RESOLUTIONS)
def test_every_question_is_about_settings_that_are_measured_and_is_answered(resolutions: tuple[int, ...]) -> None:
    measured = {one.key for one in generated(resolutions)}
    pairs = {(claim.better, claim.worse) for claim in beyond()}
    for question in QUESTIONS:
        assert {question.better, question.worse} <= measured
        assert (question.better, question.worse) in pairs


@pytest.mark.parametrize("resolutions", RESOLUTIONS)
def test_every_claim_is_about_settings_that_are_measured(resolutions: tuple[int, ...]) -> None:
    measured = {one.key for one in generated(resolutions)}
    assert {name for claim in (*beyond(), *of_blocks(resolutions)) for name in (claim.better, claim.worse)} <= measured


def test_two_resolutions_are_set_beside_the_papers_finest_coarsest_and_both() -> None:
    assert paper.blocks((16, 8)) == {
        "blocks 16": (40.2, 43.5, 26.2, 24.4),
        "blocks 8": (71.5, 78.9, 57.0, 68.2),
        "ovam": (70.5, 82.2, 60.3, 70.3),
    }
    assert list(of_blocks((16,))) == []
    assert {(claim.better, claim.worse) for claim in of_blocks((16, 8)) if claim.better.endswith("words")} == {
        (key("ovam", "words"), key("blocks 16", "words")),
        (key("ovam", "words"), key("blocks 8", "words")),
        (key("blocks 8", "words"), key("blocks 16", "words")),
    }


def test_the_papers_classes_have_its_figures() -> None:
    assert paper.of_class("ovam", "tokens", "person") == 60.9
    assert paper.of_class("ovam", "words", "sofa") is None


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


def scores(leakage: float, found: dict[str, float]) -> dict[str, object]:
    source = {"data set": "", "annotators": {"annotator": 0.95, "second annotator": 0.93}}
    return {
        "provenance": source,
        "scores": {},
        "leakage": {"coco-cap": {"words": leakage, "tokens": leakage + 0.1}},
        "sets": {"voc-sim": {"found": found}},
    }


def test_an_aim_is_reached_or_missed_by_its_least() -> None:
    held = [claim("holds", 0.05, "voc-sim", table) for table in ("4", "5")]
    text = aims(scores(0.5, {"cat": 0.9, "dog": 0.5}), {"claims": [*held, claim("opposite", -0.1, "voc-sim", "4")]})
    assert "| prompted class found on voc-sim | at least 0.85 | 0.70 | missed |" in text
    assert "| the same, every class | at least 0.60 | 0.50 (dog) | missed |" in text
    assert "| leakage of a word alone (0 told apart, 1 as hot) | at most 0.45 | 0.50 | missed |" in text
    assert "| signs of Tables 1, 2, 4 and 5 that hold | at least 80 % | 67 % | missed |" in text
    assert "| at most 0.45 | 0.30 | reached |" in aims(scores(0.3, {}), {"claims": []})


def test_leakage_in_the_second_half_of_the_evaluations_is_an_aim_of_its_own() -> None:
    found = scores(0.5, {})
    found["leakage"] = {"coco-cap": {"words": 0.5, "words, late": 0.4}}
    verdicts = [line.rsplit(" | ", 2)[1:] for line in aims(found, {"claims": []}).splitlines() if "leakage" in line]
    assert verdicts == [["0.50", "missed |"], ["0.40", "reached |"]]


def test_targets_are_ordered_by_their_leakage() -> None:
    rows = apart(scores(0.4, {})).splitlines()[4:]
    assert [row.split(" | ")[1] for row in rows] == ["0.40", "0.50"]


def test_the_truth_has_the_annotators_own_errors_and_the_second_ones_agreement() -> None:
    one = scores(0.4, {})
    assert "annotator: 95.0; second annotator: 93.0" in truth(one)
    assert "agrees" not in truth(one)
    one["scores"] = {"voc-sim": {"second annotator": {"miou": {"value": 0.9, "low": 0.88, "high": 0.92}}}}
    assert "agrees with it to 90.0 <sub>88.0 to 92.0</sub> on voc-sim" in truth(one)


def test_the_committed_pages_are_those_of_the_committed_results() -> None:
    found = read(Path("experiments/results"))
    assert first_page.page(found) == Path("docs/results.md").read_text()
    assert all_tables(found) == Path("docs/results/tables.md").read_text()
    for name, page in FURTHER.items():
        if name in found:
            assert page(found) == Path(f"docs/results/{name}.md").read_text()


def test_the_first_page_is_short_and_links_to_all_tables() -> None:
    text = Path("docs/results.md").read_text()
    assert len(text.splitlines()) < 130
    assert "(results/tables.md)" in text


def test_the_paper_at_a_glance_says_what_was_not_measured_and_what_its_signs_come_to() -> None:
    found = {name: one for name, one in read(Path("experiments/results")).items() if name in ("scores", "findings")}
    of_set = found["scores"]["scores"]
    untrained = {name: {row: one for row, one in rows.items() if not row.startswith("grounded")} for name, rows in of_set.items()}
    for scores, missing in ((found["scores"], 3), (found["scores"] | {"scores": untrained}, 4)):
        page = glance.glance(found | {"scores": scores})
        rows = [line.split(" | ") for line in page.splitlines() if " | " in line][2:]
        assert all(len(row) == len(glance.HEAD) for row in rows)
        assert sum(row[2] == "not measured" for row in rows) == missing
    signs_of = [{"verdict": verdict} for verdict in ("holds", "holds", "opposite", "not decided")]
    assert glance.verdict(signs_of) == "**in part**: 2 of 4 signs hold, 1 opposite"
    assert glance.verdict(signs_of[:2]) == "**yes**"
    assert glance.verdict(signs_of[2:]) == "**no**: 0 of 2 signs hold, 1 opposite"
    assert glance.verdict(signs_of[3:]) == "undecided: 0 of 1 signs hold, 0 opposite"
