"""What the doctor reports."""

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["ok", "warning", "broken"]


@dataclass(frozen=True)
class Finding:
    """One thing that was examined, and how to repair it unless it is ok."""

    verdict: Verdict
    thing: str
    detail: str
    remedy: str = ""
