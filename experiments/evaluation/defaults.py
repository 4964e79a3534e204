"""The best settings of an evaluation as a model's own, where they are better than the paper's in tuning and in reporting."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from contracts.schema.models import BestMethod
from experiments.evaluation.backends.models import CARD, weights_hash
from experiments.evaluation.claims import SETS
from experiments.evaluation.recipes import PUBLISHED_RECIPE
from experiments.evaluation.settings import OVAM, as_json, key
from experiments.evaluation.targets import WORDS
from ovam import METHODS, Method
from ovam.core.methods import TargetKind

Json = dict[str, Any]
METHOD = "ovam"
"""The published method whose settings a card changes."""


class NotMeasuredError(Exception):
    """There are no results, or they lack what is needed, or are of other weights."""


@dataclass(frozen=True)
class Default:
    """The setting that did best in tuning, for one kind of target, beside the paper's method."""

    field: str
    """Of the card."""
    best: str
    """The key of the setting."""
    settings: Json
    """What it changes of the method's."""
    gains: dict[str, float]
    """Of mIoU in [0, 1] over the paper's: "tuning", the mean of its sets, and every reporting set."""

    @property
    def better(self) -> bool:
        """Whether it is better everywhere."""
        return all(gain > 0 for gain in self.gains.values())


KINDS: dict[str, tuple[TargetKind, str]] = {"word_defaults": ("words", WORDS), "token_defaults": ("tokens", PUBLISHED_RECIPE)}
"""The fields of a card: a kind of target, and what results call it."""


def defaults(scores: Mapping[str, Any]) -> Iterator[Default]:
    """What did best in tuning, of the settings that have a meaning for any image. NotMeasuredError without the paper's method."""
    settings = scores["settings"]["generated"]
    for field, (kind, target) in KINDS.items():
        rows = {name: row for name, row in settings.items() if row["target"] == target and fits_any_image(row["method"])}
        paper = key(METHOD, target)
        if paper not in settings:
            raise NotMeasuredError(f"{paper} was not measured: no image of the tuning sets shows a clear object")
        best = max(rows, key=lambda name: rows[name]["tuning"]["mean"])
        gains = {"tuning": rows[best]["tuning"]["mean"] - rows[paper]["tuning"]["mean"]}
        gains |= {name: miou(scores, name, best) - miou(scores, name, paper) for name in SETS if name in scores["scores"]}
        yield Default(field, best, changed(rows[best]["method"], OVAM.of(kind)), gains)


def method_of(model: Path, kind: TargetKind) -> Method:
    """How the service looks for a kind of target in a model's images when a request names no method."""
    path, field = model / CARD, next(field for field, (one, _) in KINDS.items() if one == kind)
    card = json.loads(path.read_text()) if path.is_file() else {}
    best = BestMethod.model_validate(card.get(field, {}))
    return replace(METHODS[best.method].of(kind), **best.settings.changes())


def fits_any_image(method: Json) -> bool:
    """Whether a method has a meaning whatever was kept of an image, at any size and number of steps."""
    evaluations = method["evaluations"]
    ends = [evaluations["start"], evaluations["stop"]] if isinstance(evaluations, dict) else [evaluations]
    return method["blocks"] == "all" and all(end in ("all", None) or isinstance(end, float) for end in ends)


def changed(written: Json, published: Method) -> Json:
    """The settings in which a method differs from a published one."""
    before = as_json(published)
    return {field.name: written[field.name] for field in fields(Method) if written[field.name] != before[field.name]}


def miou(scores: Mapping[str, Any], dataset: str, name: str) -> float:
    """The mIoU of a setting on a set."""
    return scores["scores"][dataset][name]["miou"]["value"]


def adopt(results: Path, model: Path) -> list[Default]:
    """Write what is better to the model's card, and what was compared to the results. NotMeasuredError without results."""
    scores = scores_of(results, model)
    path, found = model / CARD, list(defaults(scores))
    card = json.loads(path.read_text()) if path.is_file() else {}
    kept = {name: value for name, value in card.items() if name not in KINDS}
    adopted = {one.field: {"method": METHOD, "settings": one.settings} for one in found if one.better}
    path.write_text(as_text(kept | adopted | {"default_self_attention": True}))
    record = {"provenance": scores["provenance"], "defaults": [asdict(one) for one in found], "card": adopted}
    (results / "defaults.json").write_text(json.dumps(record, indent=1) + "\n")
    return found


def scores_of(results: Path, model: Path) -> Json:
    """The scores of a model's evaluation. NotMeasuredError where there are none, or those of other weights."""
    measured = results / "scores.json"
    if not measured.is_file():
        raise NotMeasuredError(f"{measured} is not there; `python -m experiments evaluate` writes it")
    scores = json.loads(measured.read_text())
    theirs, ours = scores["provenance"]["model sha256"], weights_hash(model)
    if theirs != ours:
        raise NotMeasuredError(f"{measured} is of weights {theirs[:12]}..., those of {model} are {ours[:12]}... (SHA-256)")
    return scores


def as_text(card: Mapping[str, Any]) -> str:
    """A card as its file has it: a line each."""
    lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(value)}" for name, value in card.items())
    return f"{{\n{lines}\n}}\n"
