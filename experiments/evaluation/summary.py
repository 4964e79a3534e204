"""All results as JSON: scores, findings, tokens, images and the time that they took."""

import json
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import Any

from experiments.evaluation import claims
from experiments.evaluation.best import improvements, leaders
from experiments.evaluation.datasets import FIRST_SEEDS
from experiments.evaluation.lines import Line, by_dataset, counts_of, leakage, read_lines
from experiments.evaluation.scales import LONG, SHORT
from experiments.evaluation.scores import score
from experiments.evaluation.settings import Setting, as_json
from experiments.evaluation.stages import Plan
from experiments.world import atlas

Json = dict[str, Any]
ROOT = Path(__file__).parents[2]
STAGES = ("generation", "annotation", "optimisation", "attribution", "masks")


def summarise(plan: Plan, command: str) -> dict[str, Json]:
    """The contents of all results, by file; every one says where it comes from."""
    lines = plan.lines()
    sets = with_short(by_dataset(lines))
    stated = chain(
        claims.of_methods(),
        claims.of_post_processing(),
        claims.of_blocks(plan.resolutions),
        claims.of_evaluations(),
        claims.beyond(),
    )
    contents: dict[str, Json] = {
        "scores": {
            "sets": {name: described(name, lines) for name in dict.fromkeys(line["dataset"] for line in lines)},
            "settings": {
                group: {one.key: recorded(plan, group, one) for one in several} for group, several in plan.chosen.items()
            },
            "scores": {name: scores(of_set) for name, of_set in sets.items()},
            "leakage": {name: found for name, of_set in sets.items() if (found := leakage(of_set))},
        },
        "findings": {
            "claims": [finding.as_json() for finding in claims.findings(stated, sets)],
            "best": leaders(plan.choices["generated"]),
            "improvements": improvements(plan.choices["generated"], sets),
        },
        "tokens": {"recipes": learned(plan)},
        "profile": profile(plan, lines),
    }
    source = provenance(plan, command)
    return {name: {"provenance": source, **content} for name, content in contents.items()}


def with_short(sets: dict[str, list[Line]]) -> dict[str, list[Line]]:
    """Add to the sets the images of 30 steps that were also generated in 100."""
    long = {(line["class_name"], line["number"]) for line in sets.get(LONG, ())}
    if not long:
        return sets
    return sets | {SHORT: [line for line in sets.get("voc-sim", ()) if (line["class_name"], line["number"]) in long]}


def scores(lines: list[Line]) -> Json:
    """The score of every setting on a set's images, and of the second annotator's masks."""
    found = {}
    for key in dict.fromkeys(key for line in lines for key in line["counts"]):
        counts, classes = counts_of(key, lines)
        found[key] = asdict(score(counts[:, 0], classes))
    return found


def recorded(plan: Plan, group: str, setting: Setting) -> Json:
    """A setting, its threshold and what it gave in tuning."""
    choice = plan.choices["generated" if group == LONG else group][setting.key]
    tuning = {"mean": choice.miou, **choice.by_set}
    return {"name": setting.name, "target": setting.target, "method": as_json(setting.method), "tuning": tuning}


def described(name: str, lines: Iterable[Line]) -> Json:
    """How many images a set has, which were left out, and what fraction of every class's shows it clearly."""
    mine = [line for line in lines if line["dataset"] == name]
    excluded = [f"{line['class_name']} {line['number']} (seed {line['seed']})" for line in mine if not line["clear"]]
    clear: dict[str, list[bool]] = {}
    for line in mine:
        clear.setdefault(line["class_name"], []).append(line["clear"])
    found = {class_name: round(sum(each) / len(each), 3) for class_name, each in clear.items()}
    return {"images": len(mine), "classes": len(clear), "excluded": excluded, "found": found}


def learned(plan: Plan) -> Json:
    """How every token was learned, without its rows."""
    found: Json = {}
    for line in read_lines(task.path for task in plan.learning()):
        fit = {name: line[name] for name in ("examples", "loss", "best epoch", "ended", "seconds")}
        found.setdefault(line["recipe"], {})[line["classes"][0] if len(line["classes"]) == 1 else "all classes"] = fit
    return found


def profile(plan: Plan, lines: Iterable[Line]) -> Json:
    """CPU seconds by stage of the evaluation and kind of work."""
    found = {
        "tokens": summed(read_lines(task.path for task in plan.learning())),
        "tuning": summed(read_lines(task.path for task in plan.tuning())),
        "reporting": summed(lines),
    }
    whole = {what: sum(stage[what] for stage in found.values()) for what in STAGES}
    method = sum(whole[what] for what in ("optimisation", "attribution", "masks"))
    return {"seconds": {**found, "all": whole}, "share of the method": method / sum(whole.values())}


def summed(lines: Iterable[Line]) -> dict[str, float]:
    """CPU seconds by kind of work."""
    several = list(lines)
    return {what: round(sum(line["seconds"].get(what, 0.0) for line in several), 1) for what in STAGES}


def provenance(plan: Plan, command: str) -> Json:
    """Where numbers come from."""
    ours = {"annotators sha256": plan.world.annotator_hashes(), "annotators": plan.world.annotator_errors()}
    return {
        "command": command,
        "commit": commit(),
        "model": plan.source or str(plan.model),
        "world": "" if plan.annotated else f"{plan.world.recipe.name}, atlas {atlas.load().version}",
        "service": plan.service,
        "data set": str(plan.annotated or ""),
        "model sha256": plan.model_hash,
        **({} if plan.annotated else ours),
        "guidance scale": plan.guidance_scale,
        "resolutions": plan.resolutions,
        "first seeds": FIRST_SEEDS,
        "scale": asdict(plan.scale),
    }


def commit() -> str:
    """The commit that was run, and whether files of the program differed from it."""

    def git(*arguments: str) -> str:
        run = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S603, S607
        return run.stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no", "--", "ovam", "experiments/*.py", "experiments/*/*.py")
    return (git("rev-parse", "HEAD") or "unknown") + (" with changes" if changed else "")


def write(contents: Mapping[str, Json], folder: Path) -> None:
    """Write results as files."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        beside = folder / f"{name}.partial"
        beside.write_text(json.dumps(rounded(content), indent=1) + "\n")
        beside.replace(folder / f"{name}.json")


def write_images(lines: Iterable[Line], path: Path) -> None:
    """Write the metadata of every image, a line each."""
    names = ("dataset", "class_name", "number", "prompt", "seed", "steps", "area", "clear")
    path.write_text("".join(json.dumps({name: line[name] for name in names}) + "\n" for line in lines))


def rounded(value: Any) -> Any:  # noqa: ANN401 - JSON
    """Figures with as many digits as mean something."""
    match value:
        case float():
            return round(value, 5)
        case dict():
            return {key: rounded(one) for key, one in value.items()}
        case list() | tuple():
            return [rounded(one) for one in value]
        case _:
            return value
