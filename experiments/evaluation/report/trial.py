"""What another model gave that was tried, so that the page can set it beside this one."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.evaluation.choices import WHOLE
from experiments.evaluation.claims import BOTH, SETS
from experiments.evaluation.report.markdown import figure, named, table
from experiments.evaluation.settings import METHODS, key

Results = Mapping[str, Any]
FILE = "trial.json"
KEYS = tuple(key(name, asked) for name in (*METHODS, WHOLE) for asked in BOTH)


def keep(other: Path, results: Path) -> None:
    """Write the main figures of another model's results, a folder of JSON, to those of this one."""
    scores = json.loads((other / "scores.json").read_text())
    measured = {name: scores["scores"][name] for name in SETS if name in scores["scores"]}
    content = {
        "provenance": scores["provenance"],
        "scores": {name: {one: of_set[one] for one in KEYS if one in of_set} for name, of_set in measured.items()},
        "left out": left_out(scores),
        "selectivity": scores["selectivity"],
    }
    (results / FILE).write_text(json.dumps(content, indent=1) + "\n")


def left_out(scores: Results) -> dict[str, int]:
    """How many images of the sets show no clear object."""
    return {name: len(scores["sets"][name]["excluded"]) for name in SETS if name in scores["sets"]}


def compared(trial: Results, scores: Results) -> str:
    """The main figures of this model and of the one that was tried, images left out, and how hot other objects got."""
    both = (scores, trial)
    missing = (left_out(scores), trial["left out"])
    rows = [[named(one.replace(" | ", ", ")), *(figure(which, name, one) for name in SETS for which in both)] for one in KEYS]
    rows.append(["images left out", *(str(which.get(name, "")) for name in SETS for which in missing)])
    for asked in BOTH:
        told = [which["selectivity"].get(name, {}).get(asked) for name in SETS for which in both]
        rows.append([f"heat of other objects, {asked}", *("" if one is None else f"{one:.2f}" for one in told)])
    source = trial["provenance"]
    return (
        f"The weights of SHA-256 `{source['model sha256']}`, measured at commit `{source['commit']}`; how they were made, and "
        "why they were not taken over, is on the model's [card](../models/tiny/README.md#limits).\n\n"
        + table(["", *(f"{name}, {which}" for name in SETS for which in ("this model", "tried"))], rows)
    )
