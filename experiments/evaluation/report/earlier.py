"""What the model before gave, so that the page can say what another training changed."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.evaluation.choices import WHOLE
from experiments.evaluation.claims import BOTH, SETS
from experiments.evaluation.report.markdown import figure, named, table
from experiments.evaluation.settings import METHODS, key

Results = Mapping[str, Any]
FILE = "earlier.json"
KEYS = tuple(key(name, asked) for name in (*METHODS, WHOLE) for asked in BOTH)


def keep(results: Path, model_hash: str) -> None:
    """Keep the main figures of the results that are there, if they are of another model than the one of this hash."""
    path = results / "scores.json"
    if not path.is_file():
        return
    scores = json.loads(path.read_text())
    if scores["provenance"]["model sha256"] == model_hash:
        return
    kept = {
        name: {one: of_set[one] for one in KEYS if one in of_set} for name, of_set in scores["scores"].items() if name in SETS
    }
    content = {"provenance": scores["provenance"], "scores": kept, "selectivity": scores["selectivity"]}
    (results / FILE).write_text(json.dumps(content, indent=1) + "\n")


def compared(earlier: Results, scores: Results) -> str:
    """The main figures of the model before and of this one, and how hot other objects got."""
    head = ["", *(f"{name}, {which}" for name in SETS for which in ("before", "now"))]
    rows = [
        [named(one.replace(" | ", ", ")), *(figure(which, name, one) for name in SETS for which in (earlier, scores))]
        for one in KEYS
    ]
    for asked in BOTH:
        cells = [
            f"{value:.2f}" if (value := which["selectivity"].get(name, {}).get(asked)) is not None else ""
            for name in SETS
            for which in (earlier, scores)
        ]
        rows.append([f"heat of other objects, {asked}", *cells])
    return f"Before: the model of SHA-256 `{earlier['provenance']['model sha256']}`.\n\n{table(head, rows)}"
