"""The best settings as a model's defaults, where they are better in tuning and in reporting than those it has."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import ovam
from contracts.attribution import NEEDS_SELF_ATTENTION, Settings
from contracts.models import Choice
from contracts.targets import counting, said
from experiments.evaluation.claims import SETS
from experiments.evaluation.images import weights_hash
from experiments.evaluation.recipes import PUBLISHED_RECIPE
from ovam.methods import ALL_BLOCKS

Json = dict[str, Any]
CARD_FILE = "ovam.json"  # in the model's folder
FIELDS = {"word_defaults": ("words", "words"), "token_defaults": (PUBLISHED_RECIPE, "optimized")}
"""The defaults of a model, what results ask for, and the library's kind of methods."""


class NotMeasuredError(Exception):
    """Results that say nothing of the model's defaults."""


@dataclass(frozen=True)
class Change:
    """A default and the setting that did best in tuning."""

    field: str
    now: str
    """The key of the setting that is the default."""
    best: str
    gains: dict[str, float]
    """Of mIoU in [0, 1]: "tuning", the mean of its sets, and every reporting set."""

    @property
    def better(self) -> bool:
        """Whether it is better everywhere."""
        return all(gain > 0 for gain in self.gains.values())


def changes(scores: Mapping[str, Any], card: Mapping[str, Any]) -> Iterator[Change]:
    """What did best, beside what a model's card has. NotMeasuredError if what it has was not measured."""
    for field, (asked, _) in FIELDS.items():
        rows = {key: row for key, row in scores["settings"]["generated"].items() if row["asked"] == asked and fits_any_image(row)}
        has = effective(card, field)
        now = next((key for key, row in rows.items() if as_settings(row["method"]) == has), None)
        if now is None:
            raise NotMeasuredError(f"`{field}` of {CARD_FILE}, {json.dumps(has)}, is none of the settings that were measured")
        best = max(rows, key=lambda key: (rows[key]["tuning"]["mean"], key == now))
        gains = {"tuning": rows[best]["tuning"]["mean"] - rows[now]["tuning"]["mean"]}
        gains |= {name: miou(scores, name, best) - miou(scores, name, now) for name in SETS if name in scores["scores"]}
        yield Change(field, now, best, gains)


def fits_any_image(row: Mapping[str, Any]) -> bool:
    """Whether a setting has a meaning whatever was kept of an image, at any size and number of steps."""
    method = row["method"]
    return row["half"] == "conditional" and method["blocks"] == ALL_BLOCKS and method["evaluations"] in ({}, 0.5)


def effective(card: Mapping[str, Any], field: str) -> Json:
    """The settings that a card's default comes to; refinement is left out where self-attention is not kept."""
    choice = Choice.model_validate(card.get(field, {}))
    settings = said(choice)
    method = ovam.method(f"{choice.method}-{FIELDS[field][1]}", settings)
    written = method.settings()
    if not card.get("default_self_attention", False):
        written["refine"] = "none"
    return as_settings(written)


def as_settings(written: Mapping[str, Any]) -> Json:
    """The settings of a method that count."""
    return counting({name: written[name] for name in Settings.model_fields})


def miou(scores: Mapping[str, Any], dataset: str, key: str) -> float:
    """The mIoU of a setting on a set."""
    return scores["scores"][dataset][key]["miou"]["value"]


def adopted(scores: Mapping[str, Any], card: Mapping[str, Any], found: list[Change]) -> Json:
    """The card with what is better."""
    made = dict(card)
    for change in found:
        if change.better:
            best = as_settings(scores["settings"]["generated"][change.best]["method"])
            published = ovam.method(f"ovam-{FIELDS[change.field][1]}").settings()
            other = {name: value for name, value in best.items() if value != published[name]}
            made[change.field] = Choice(method="ovam", **other).model_dump(mode="json", exclude_none=True)
            if best["refine"] in NEEDS_SELF_ATTENTION:
                made["default_self_attention"] = True
    return made


def adopt(results: Path, model: Path) -> list[Change]:
    """Write what is better to the model's folder, and what was compared to the results. NotMeasuredError without results."""
    measured = results / "scores.json"
    if not measured.is_file():
        raise NotMeasuredError(f"{measured} is not there; `python -m experiments evaluate` writes it")
    scores = json.loads(measured.read_text())
    theirs, ours = scores["provenance"]["model sha256"], weights_hash(model)
    if theirs != ours:
        raise NotMeasuredError(f"{measured} is of weights {theirs[:12]}..., those of {model} are {ours[:12]}... (SHA-256)")
    path = model / CARD_FILE
    card = json.loads(path.read_text()) if path.is_file() else {}
    found = list(changes(scores, card))
    made = adopted(scores, card, found)
    if made != card:
        path.write_text(as_text(made))
        told = {"provenance": scores["provenance"], "before": card, "after": made, "changes": [asdict(one) for one in found]}
        (results / "defaults.json").write_text(json.dumps(told, indent=1) + "\n")
    return found


def as_text(card: Mapping[str, Any]) -> str:
    """A card as its file has it: a line each."""
    lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(value)}" for name, value in card.items())
    return f"{{\n{lines}\n}}\n"
