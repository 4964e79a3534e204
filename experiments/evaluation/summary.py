"""Everything that came out, as JSON: scores, findings, tokens, images and the time that it took."""

import json
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import Any

from experiments.evaluation import claims
from experiments.evaluation.best import improvements, leaders
from experiments.evaluation.datasets import DATASETS, GUIDANCE_SCALE, RENDERS
from experiments.evaluation.lines import Line, by_dataset, counts_of, read_lines
from experiments.evaluation.scales import LONG, SHORT
from experiments.evaluation.scores import Counts, score
from experiments.evaluation.settings import Setting
from experiments.evaluation.stages import Plan
from experiments.tinyworld.annotator import Annotator, measured

Json = dict[str, Any]
ROOT = Path(__file__).parents[2]
STAGES = ("generation", "annotation", "optimisation", "attribution", "masks")


def summarise(plan: Plan, command: str) -> dict[str, Json]:
    """The contents of all results, by file; every one says where it comes from."""
    lines = plan.lines()
    sets = with_short(by_dataset(lines))
    counts = {name: counted(of_set) for name, of_set in sets.items()}
    kinds = {name: [line["kind"] for line in of_set] for name, of_set in sets.items()}
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
            "settings": {group: {one.key: told(plan, group, one) for one in several} for group, several in plan.chosen.items()},
            "scores": {
                name: {key: asdict(score(count, kinds[name])) for key, count in of_set.items()} for name, of_set in counts.items()
            },
            "selectivity": selectivity(sets),
        },
        "findings": {
            "claims": [finding.as_json() for finding in claims.findings(stated, counts, kinds)],
            "best": leaders(plan.choices["generated"]),
            "improvements": improvements(plan.choices["generated"], counts, kinds),
        },
        "tokens": {"recipes": learned(plan)},
        "profile": profile(plan, lines),
    }
    source = provenance(plan, command)
    return {name: {"provenance": source, **content} for name, content in contents.items()}


def with_short(sets: dict[str, list[Line]]) -> dict[str, list[Line]]:
    """Add to the sets the images of 30 steps that were also made in 100."""
    long = {(line["kind"], line["number"]) for line in sets.get(LONG, ())}
    if not long:
        return sets
    return sets | {SHORT: [line for line in sets["voc-sim"] if (line["kind"], line["number"]) in long]}


def counted(lines: list[Line]) -> dict[str, Counts]:
    """The counts of every setting on a set's images."""
    return {key: counts_of(key, lines)[0][:, 0] for key in lines[0]["counts"]}


def told(plan: Plan, group: str, setting: Setting) -> Json:
    """A setting, its threshold and what it gave in tuning."""
    choice = plan.choices["generated" if group == LONG else group][setting.key]
    tuning = {"mean": choice.miou, **choice.by_set}
    method = setting.method.settings()
    return {"name": setting.name, "asked": setting.asked, "half": setting.half, "method": method, "tuning": tuning}


def described(name: str, lines: Iterable[Line]) -> Json:
    """How many images a set has, and which were left out."""
    mine = [line for line in lines if line["dataset"] == name]
    excluded = [f"{line['kind']} {line['number']} (seed {line['seed']})" for line in mine if not line["clear"]]
    return {"images": len(mine), "kinds": len({line["kind"] for line in mine}), "excluded": excluded}


def selectivity(sets: Mapping[str, list[Line]]) -> Json:
    """How much of the class's heat other objects get, both above the ground's: 0 is none, 1 as much."""
    found: Json = {}
    for name, lines in sets.items():
        heats: dict[str, list[list[float]]] = {}
        for line in lines:
            for asked, heat in line["heat"].items():
                heats.setdefault(asked, []).append(heat)
        if heats:
            sums = {asked: [sum(column) for column in zip(*values, strict=True)] for asked, values in heats.items()}
            found[name] = {asked: (others - ground) / (own - ground) for asked, (own, others, ground) in sums.items()}
    return found


def learned(plan: Plan) -> Json:
    """How every token was learned, without its rows."""
    found: Json = {}
    for line in read_lines(task.path for task in plan.learning()):
        fit = {name: line[name] for name in ("examples", "loss", "best epoch", "ended", "seconds")}
        found.setdefault(line["recipe"], {})[" ".join(line["kinds"]) if len(line["kinds"]) == 1 else "all classes"] = fit
    return found


def profile(plan: Plan, lines: Iterable[Line]) -> Json:
    """CPU seconds by stage of the evaluation and by what was done."""
    found = {
        "tokens": summed(read_lines(task.path for task in plan.learning())),
        "tuning": summed(read_lines(task.path for task in plan.tuning())),
        "reporting": summed(lines),
    }
    whole = {what: sum(stage[what] for stage in found.values()) for what in STAGES}
    method = sum(whole[what] for what in ("optimisation", "attribution", "masks"))
    return {"seconds": {**found, "all": whole}, "share of the method": method / sum(whole.values())}


def summed(lines: Iterable[Line]) -> dict[str, float]:
    """CPU seconds by what was done."""
    several = list(lines)
    return {what: round(sum(line["seconds"].get(what, 0.0) for line in several), 1) for what in STAGES}


def provenance(plan: Plan, command: str) -> Json:
    """Where numbers come from."""
    return {
        "command": command,
        "commit": commit(),
        "model": plan.source or str(plan.model),
        "service": plan.service,
        "data set": str(plan.annotated or ""),
        "model sha256": plan.model_hash,
        "annotator sha256": plan.annotator_hash,
        "annotator on unseen renders": measured(Annotator.load()),
        "guidance scale": GUIDANCE_SCALE,
        "resolutions": plan.resolutions,
        "first seeds": {name: each.first_seed for name, each in DATASETS.items()}
        | {f"renders, {k}": v for k, v in RENDERS.items()},
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
    names = ("dataset", "kind", "number", "prompt", "seed", "steps", "share of the image", "clear")
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
