"""Where results go: a JSON file for each, and one page for all of them."""

import json
from dataclasses import asdict
from pathlib import Path

from benchmarks.result import Result

PAGE = "README.md"


def write(folder: Path, result: Result, circumstances: dict[str, object]) -> Path:
    """Write one result, with what is needed to judge it; an older one of the same name is replaced."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{result.name}.json"
    record = {**asdict(result), "met": result.met, "circumstances": circumstances}
    beside = path.with_suffix(".new")
    beside.write_text(json.dumps(record, indent=2) + "\n")
    beside.replace(path)
    return path


def summarise(folder: Path) -> str:
    """Put all results of a folder on one page, whenever they were measured."""
    records = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    lines = [
        "# Measured",
        "",
        "Written by `make bench`; the JSON files beside this page hold every sample, the versions and the command.",
        "",
        "| what | measured | goal | met | samples | when, commit |",
        "|---|---|---|---|---|---|",
        *(row(record) for record in records),
        "",
        *sorted({machine(record["circumstances"]) for record in records}),
        "",
    ]
    page = "\n".join(lines)
    (folder / PAGE).write_text(page)
    return page


def row(record: dict) -> str:
    """One result as a row of the table."""
    met = {True: "yes", False: "**no**", None: ""}[record["met"]]
    goal = "" if record["goal"] is None else f"{record['goal']:.4g} {record['unit']}"
    around = record["circumstances"]
    busy = " (busy machine)" if around["busy"] else ""
    return (
        f"| {record['says']} | {record['value']:.3g} {record['unit']}{busy} | {goal} | {met} "
        f"| {len(record['samples'])} | {around['when'][:10]}, {around['commit']} |"
    )


def machine(around: dict) -> str:
    """The machine of a result, as a line."""
    packages = ", ".join(f"{name} {version}" for name, version in around["packages"].items())
    return (
        f"- {around['cores']} cores of {around['cpu']}, {around['memory_gib']} GiB; {around['system']}, "
        f"Python {around['python']}, {packages}; threads: {around['threads']}, OMP_NUM_THREADS {around['omp_num_threads']}; "
        f"model {around['model']}"
    )
