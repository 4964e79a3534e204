"""Figures and tables in Markdown."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Results = Mapping[str, Any]
NAMES = {"daam": "DAAM", "attn2mask": "Attn2Mask", "ovam": "OVAM"}


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of Markdown."""
    lines = [head, ["---", *["--:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in lines) + "\n"


def named(name: str) -> str:
    """A row's name with the methods' own spelling."""
    first, *rest = name.split(", ")
    return ", ".join((NAMES.get(first, first), *rest))


def percent(value: float) -> str:
    """A share in percent."""
    return f"{100 * value:.1f}"


def figure(scores: Results, dataset: str, name: str) -> str:
    """The mIoU of a setting on a set with its interval, or nothing."""
    found = scores["scores"].get(dataset, {}).get(name)
    if found is None:
        return ""
    miou = found["miou"]
    return f"{percent(miou['value'])} <sub>{percent(miou['low'])} to {percent(miou['high'])}</sub>"


def difference(ours: Results) -> str:
    """By how many points something is better, with the interval."""
    return f"{100 * ours['value']:+.1f} <sub>{100 * ours['low']:+.1f} to {100 * ours['high']:+.1f}</sub>"
