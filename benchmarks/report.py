"""Where results go: one JSON file for each device, and one page for all of them."""

import json
import re
from dataclasses import asdict
from pathlib import Path

from benchmarks.result import Result

PAGE = "README.md"


def file_of(folder: Path, circumstances: dict) -> Path:
    """The file of a device's results."""
    name = f"{circumstances['device']} {circumstances['cores']} cores"
    return folder / f"{re.sub(r'[^a-z0-9]+', '-', name.lower()).strip('-')}.json"


def write(folder: Path, result: Result, circumstances: dict) -> Path:
    """Put one result into its device's file, with what is needed to judge it; an older one of the same name is replaced."""
    folder.mkdir(parents=True, exist_ok=True)
    path = file_of(folder, circumstances)
    known = json.loads(path.read_text()) if path.is_file() else {"runs": {}, "rows": {}}
    rows = known["rows"] | {result.name: {**asdict(result), "met": result.met, "run": circumstances["when"]}}
    runs = known["runs"] | {circumstances["when"]: circumstances}
    used = {row["run"] for row in rows.values()}
    record = {"runs": {when: run for when, run in sorted(runs.items()) if when in used}, "rows": dict(sorted(rows.items()))}
    beside = path.with_suffix(".new")
    beside.write_text(json.dumps(record, indent=1) + "\n")
    beside.replace(path)
    return path


def summarise(folder: Path) -> str:
    """Put all results of a folder on one page, whenever they were measured."""
    files = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    lines = ["# Measured", "", "Written by `make bench`; the JSON files beside this page hold samples, versions and commands."]
    for file in files:
        lines += ["", f"## {next(iter(file['runs'].values()))['device']}", ""]
        lines += ["| what | measured | goal | met | samples | when, commit |", "|---|---|---|---|---|---|"]
        lines += [row(record, file["runs"][record["run"]]) for record in file["rows"].values()]
        lines += ["", *sorted({machine(run) for run in file["runs"].values()})]
    page = "\n".join([*lines, ""])
    (folder / PAGE).write_text(page)
    return page


def row(record: dict, run: dict) -> str:
    """One result as a row of the table."""
    met = {True: "yes", False: "**no**", None: ""}[record["met"]]
    bounds = [("at most", record["goal"]), ("at least", record["least"])]
    goal = ", ".join(f"{word} {bound:.4g} {record['unit']}" for word, bound in bounds if bound is not None)
    busy = " (busy machine)" if run["busy"] else ""
    return (
        f"| {record['says']} | {record['value']:.3g} {record['unit']}{busy} | {goal} | {met} "
        f"| {len(record['samples'])} | {run['when'][:10]}, {run['commit']} |"
    )


def machine(run: dict) -> str:
    """The machine of a run, as a line."""
    packages = ", ".join(f"{name} {version}" for name, version in run["packages"].items())
    return (
        f"- {run['cores']} cores, {run['memory_gib']} GiB; {run['system']}, Python {run['python']}, {packages}; "
        f"threads: {run['threads']}, OMP_NUM_THREADS {run['omp_num_threads']}; model {run['model']}"
    )
