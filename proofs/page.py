"""docs/reliability.md, from the summaries of the last full runs."""

import json
from pathlib import Path
from typing import Any

from benchmarks.result import ROOT
from proofs.claims import RESULTS, Claim, told
from proofs.restore import BACK_UP, RESTORE

PAGE = ROOT / "docs" / "reliability.md"
Json = dict[str, Any]

HEAD = """\
# Reliability

What the service withstands, measured. Each table is what one command measured on the commit that it names; `make chaos`,
`make fuzz`, `make load`, `make datasets` and `make restore` run everything again, and this page is generated from their summaries
(`proofs/results/`). The processes are real: Valkey, gateways and workers as `ovam up` starts them, and an S3 server (moto). The
worker's model is a tiny one with random weights, since nothing here is about pictures.
"""

ABOUT = {
    "chaos": (
        "Chaos: `make chaos`",
        """\
Several tenants submit jobs of all kinds and insist: a request that gets no answer is sent again with its `Idempotency-Key`, to
another gateway. Meanwhile processes are killed (`kill -9`) and paused (`SIGSTOP`), the network between them is cut, hangs or is
slow, the disk is full, or S3 answers 503, hangs or is slow. One half runs on a small disk, which is filled up, the other on S3.
Then the ledger, the store and the clients' own books are compared. The faults are drawn by chance from `--seed`.
A job may start ten times (`OVAM_MAX_ATTEMPTS=10`): chance may kill its workers often. `make chaos-short` takes two minutes.
""",
    ),
    "fuzz": (
        "Fuzzing: `make fuzz`",
        """\
schemathesis sends valid and invalid requests to every operation of the OpenAPI document, alone and in sequences, and a corpus
of hostile bodies, files, headers and connections follows. It has a tenant's key and knows the other tenant's ids and names.
Another process asks for `/healthz` twenty times a second meanwhile. `FUZZ=100000 make fuzz` sends as many requests.
""",
    ),
    "load": (
        "Load: `make load`",
        """\
A real worker whose device time is a pause of fixed length, so that what is measured is everything else. Requests arrive at random
times (Poisson), whether or not earlier ones were answered.
""",
    ),
    "datasets": (
        "Data sets: `make datasets`",
        """\
A data set is made by workers whose device only takes time, while workers, gateways and Valkey are killed one after the other;
then each of its images must be there once. Its time is compared with that of clients who file the same jobs one by one, and its
memory after a tenth of the images with that at the end. `make datasets ARGS=--short` takes four minutes; [Data
sets](datasets.md) has what it measured.
""",
    ),
    "restore": (
        "Back-up and restore: `make restore`",
        f"""\
A backup is a snapshot of Valkey and then a copy of the store, in this order, while the service works. Of `ovam up`, with `DATA`
its `OVAM_DATA_DIR`, `COPY` the folder of the backup and `PYTHON` the installation's (`.venv/bin/python`):

```sh
{BACK_UP}```

To restore, into an empty `DATA`, before `ovam up` is started on it:

```sh
{RESTORE}```

The snapshot becomes the base of the append-only file: Valkey ignores a `dump.rdb` alone when it keeps one. While Valkey writes
the snapshot, requests wait. Jobs that waited or ran at that moment run after the restore; what was filed later is unknown. API
keys are in the snapshot as digests. For a Redis or a bucket of your own, use their own means, in the same order.
""",
    ),
}

MISSING = "No full run is recorded yet.\n"


def write(results: Path = RESULTS, path: Path = PAGE) -> Path:
    """Write the page."""
    path.write_text(text(results))
    return path


def text(results: Path = RESULTS) -> str:
    """The page."""
    parts = [HEAD]
    for name, (title, about) in ABOUT.items():
        summary = results / f"{name}.json"
        measured = section(json.loads(summary.read_text())) if summary.exists() else MISSING
        parts += [f"## {title}\n", about, measured]
    return "\n".join(parts)


def section(result: Json) -> str:
    """The table of one proof, and what was done."""
    around = result["circumstances"]
    rows = [row(each) for each in result["claims"]]
    done = f"Done: {told(result['done'])}."
    faults = f" Faults: {told(result['faults'])}." if result["faults"] else ""
    load = f" (load {around['load']} afterwards)" if "load" in around else ""
    machine = f"{around['cores']} cores of {around['cpu']}{load}, Python {around['python']}"
    when = f"Measured {around['when'][:10]} on commit {around['commit']}, {machine}."
    return "\n".join(["| what | measured | bound | holds |", "|---|---|---|---|", *rows, "", f"{done}{faults} {when}", ""])


def row(record: Json) -> str:
    """A claim as a row."""
    claim = Claim(**{name: record[name] for name in ("says", "measured", "unit", "at_most", "at_least")})
    bounded = claim.at_most is not None or claim.at_least is not None
    holds = ("yes" if claim.holds else "**no**") if bounded else ""
    return f"| {claim.says} | {claim.measured:.4g} {claim.unit} | {claim.bound} | {holds} |"
