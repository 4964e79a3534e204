"""The rows of the quick evaluation."""

from typing import Any

from experiments.evaluation.lines import Line, by_dataset, counts_of, leakage
from experiments.evaluation.measure import SECOND_ANNOTATOR
from experiments.evaluation.recipes import PUBLISHED_RECIPE
from experiments.evaluation.scores import mean_iou
from experiments.evaluation.settings import key
from experiments.evaluation.stages import Plan
from experiments.evaluation.targets import AGAINST_SCENE, WORDS, WORDS_LATE

COLUMNS = {"words": WORDS, "words, late": WORDS_LATE, "together": AGAINST_SCENE, "tokens": PUBLISHED_RECIPE}


def quick_rows(plan: Plan) -> list[dict[str, Any]]:
    """The mIoU of every method in % and the leakage, by target, and how many images show a clear object, on every set."""
    lines = plan.lines()
    clear, rows = by_dataset(lines), []
    for name in dict.fromkeys(line["dataset"] for line in lines):
        of_set = clear.get(name, [])
        for method in dict.fromkeys(setting.name for setting in plan.settings["generated"]):
            values = {column: miou(key(method, target), of_set) for column, target in COLUMNS.items()}
            measured = {column: value for column, value in values.items() if value is not None}
            rows += [{"method": method, "set": name, **measured}] if measured else []
        found = leakage(of_set)
        if found:
            rows.append({"leakage": {column: round(found[t], 3) for column, t in COLUMNS.items() if t in found}, "set": name})
        agreement = miou(SECOND_ANNOTATOR, of_set)
        if agreement is not None:
            rows.append({SECOND_ANNOTATOR: agreement, "set": name})
        rows.append({"clear": len(of_set), "of": sum(line["dataset"] == name for line in lines), "set": name})
    return rows


def miou(name: str, lines: list[Line]) -> float | None:
    """The mIoU of a setting in %, if it was measured."""
    counts, classes = counts_of(name, lines)
    return round(100 * mean_iou(counts[:, 0], classes)[0], 2) if classes else None
