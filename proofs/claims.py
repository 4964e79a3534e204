"""What a proof claims, what it measured, and under which circumstances."""

import json
import math
import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.result import ROOT, commit, cpu, percentile

RESULTS = ROOT / "proofs" / "results"
RAW = ROOT / "runs" / "proofs"


@dataclass(frozen=True)
class Claim:
    """One sentence with a figure, and the bound that the figure must keep; without a bound it only informs."""

    says: str
    measured: float
    unit: str = ""
    at_most: float | None = None
    at_least: float | None = None

    @property
    def holds(self) -> bool:
        """Whether the figure keeps its bounds."""
        low = -float("inf") if self.at_least is None else self.at_least
        return low <= self.measured <= (float("inf") if self.at_most is None else self.at_most)

    @property
    def bound(self) -> str:
        """The bound in words; empty without one."""
        parts = [("at most", self.at_most), ("at least", self.at_least)]
        return ", ".join(f"{words} {number:g} {self.unit}".rstrip() for words, number in parts if number is not None)

    def __str__(self) -> str:
        mark = "ok    " if self.holds else "BROKEN"
        bound = f" ({self.bound})" if self.bound else ""
        return f"{mark} {self.says}: {self.measured:.4g} {self.unit}".rstrip() + bound


def none(says: str, measured: float) -> Claim:
    """Claim that something did not happen once."""
    return Claim(says, measured, at_most=0)


@dataclass(frozen=True)
class Proof:
    """The claims of one run, and what was done to support them."""

    name: str
    claims: list[Claim]
    done: dict[str, float | int | str]
    """What the run consisted of: jobs, faults, requests, seconds."""
    faults: dict[str, int] = field(default_factory=dict)
    """How many faults of each kind were injected."""

    @property
    def holds(self) -> bool:
        """Whether all claims hold."""
        return all(claim.holds for claim in self.claims)


def quantile(samples: list[float], share: float) -> float:
    """The smallest sample that a share of all does not exceed; infinite without samples, so that no bound holds of them."""
    return percentile(samples, share) if samples else math.inf


def keep(proof: Proof, folder: Path = RESULTS) -> Path:
    """Write the summary of a run, which replaces the last one's."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{proof.name}.json"
    claims = [asdict(claim) | {"holds": claim.holds} for claim in proof.claims]
    record = {"name": proof.name, "claims": claims, "done": proof.done, "faults": proof.faults, "circumstances": circumstances()}
    path.write_text(json.dumps(record, indent=2) + "\n")
    return path


def circumstances() -> dict[str, object]:
    """Commit, time and machine."""
    return {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "cpu": cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "load": round(os.getloadavg()[2], 1),
        "python": platform.python_version(),
    }


class Log:
    """Everything that happened in a run, a JSON object a line, in a folder that git ignores."""

    def __init__(self, name: str) -> None:
        RAW.mkdir(parents=True, exist_ok=True)
        self.path = RAW / f"{name}.jsonl"
        self._file = self.path.open("w")

    def write(self, what: str, **details: object) -> None:
        """Add a line."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        self._file.write(json.dumps({"at": now, "what": what, **details}, default=str) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Write no more."""
        self._file.close()


def told(details: Mapping[str, object]) -> str:
    """Some figures in a line."""
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in details.items())
