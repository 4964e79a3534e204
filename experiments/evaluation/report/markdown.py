"""Figures and tables in Markdown."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Results = Mapping[str, Any]
NAMES = {"daam": "DAAM", "attn2mask": "Attn2Mask", "ovam": "OVAM"}
NAMES |= {"datasetdm-published": "DatasetDM, as published", "datasetdm": "DatasetDM", "grounded-diffusion": "Grounded Diffusion"}


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of Markdown."""
    lines = [head, ["---", *["--:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in lines) + "\n"


def listed(lines: Iterable[str]) -> str:
    """A list of Markdown."""
    return "".join(f"- {line}\n" for line in lines)


def named(key: str) -> str:
    """A setting's key, or a row's name, in words, with the methods' own spelling."""
    first, *rest = key.replace(" | ", ", ").split(", ")
    return ", ".join((NAMES.get(first, first), *rest))


def percent(value: float) -> str:
    """A fraction in percent."""
    return f"{100 * value:.1f}"


def bounds(interval: Results) -> str:
    """An interval in percent, small."""
    return f"<sub>{percent(interval['low'])} to {percent(interval['high'])}</sub>"


def figure(scores: Results, dataset: str, name: str) -> str:
    """The mIoU of a setting on a set with its interval, or nothing."""
    found = scores["scores"].get(dataset, {}).get(name)
    return "" if found is None else f"{percent(found['miou']['value'])} {bounds(found['miou'])}"


def difference(ours: Results) -> str:
    """By how many points something is better, with the interval."""
    return f"{100 * ours['value']:+.1f} <sub>{100 * ours['low']:+.1f} to {100 * ours['high']:+.1f}</sub>"


def picture(folder: str, name: str, text: str) -> str:
    """A picture of a folder."""
    return f"\n![{text}]({folder}{name}.png)\n"
