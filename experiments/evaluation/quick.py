"""The rows of the quick evaluation."""

from typing import Any

from experiments.evaluation.lines import by_dataset, counts_of
from experiments.evaluation.recipes import PUBLISHED_RECIPE
from experiments.evaluation.scores import mean_iou
from experiments.evaluation.settings import key
from experiments.evaluation.stages import Plan


def quick_rows(plan: Plan) -> list[dict[str, Any]]:
    """The mIoU of every method with words and with tokens, on every set, in %."""
    rows = []
    for name, lines in by_dataset(plan.lines()).items():
        for method in dict.fromkeys(setting.name for setting in plan.settings["generated"]):
            row: dict[str, Any] = {"method": method, "set": name}
            for column, asked in (("words", "words"), ("tokens", PUBLISHED_RECIPE)):
                counts, kinds = counts_of(key(method, asked), lines)
                row[column] = round(100 * mean_iou(counts[:, 0], kinds)[0], 2)
            rows.append(row)
    return rows
