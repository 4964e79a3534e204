"""What the targets of a request come to: the gateway asks to refuse early, the worker to do the work.

A target's settings are its method's own, the request's over them, and the target's over those.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from contracts.attribution import COUNTS_BESIDE, NEEDS_SELF_ATTENTION, AttributeRequest, MethodCard, Settings
from contracts.errors import Code, ServiceError
from contracts.generation import BlockInfo
from contracts.models import ModelCard
from contracts.selections import chosen_blocks, positions

Json = dict[str, Any]

REFINEMENT = ("refine", "alpha", "sign", "affinity_steps")
SCALE = ("tau", "normalize")  # in the unit of a threshold
RETRY_AFTER = 10  # seconds, while no worker has published its methods
LARGEST = 3.4028234e38  # in single precision


@dataclass(frozen=True)
class Layer:
    """Some settings, and where in the request they were made."""

    settings: Json
    place: str = ""
    """What goes before the name of a field."""
    by_client: bool = True


@dataclass(frozen=True)
class Effective:
    """A target's settings, as they are used."""

    method: str
    settings: Json
    """Without those that have no effect beside the others."""
    fields: Mapping[str, str]
    """Where in the request a setting was made, for those that were."""


def effective(
    request: AttributeRequest, number: int, model: ModelCard, methods: Mapping[str, MethodCard], *, self_attention: bool
) -> Effective:
    """The settings of target `number`, given whether the self-attention of its image was kept.

    A refinement that nobody asked for is left out where it cannot be had. ServiceError: settings-contradict,
    no-self-attention, no-worker.
    """
    target = request.targets[number]
    defaults = model.word_defaults if target.kind == "words" else model.token_defaults
    name = request.method or defaults.method
    if name not in methods:
        raise ServiceError(
            Code.NO_WORKER, f"no worker has published method {name!r} yet", field="method", retry_after=RETRY_AFTER
        )
    own = methods[name].words if target.kind == "words" else methods[name].tokens
    layers = [Layer(own, by_client=False), Layer({} if request.method else said(defaults), by_client=False), Layer(said(request))]
    if target.settings is not None:
        layers.append(Layer(said(target.settings), f"targets.{number}.settings."))
    settings, made = laid_over(layers)
    fields = {field: layers[at].place + field for field, at in made.items() if layers[at].by_client}
    check_all_count(settings, made, fields)
    if not self_attention and settings["refine"] in NEEDS_SELF_ATTENTION:
        asked = next((fields[field] for field in REFINEMENT if field in fields), "method" if request.method else None)
        if asked:
            raise no_self_attention(request.job_id, settings["refine"], asked)
        settings["refine"] = "none"
    return Effective(name, counting(settings), fields)


def said(settings: Settings) -> Json:
    """What settings say, without what they leave to others."""
    return settings.model_dump(include=set(Settings.model_fields), exclude_none=True)


def laid_over(layers: Sequence[Layer]) -> tuple[Json, dict[str, int]]:
    """Lay settings over each other, and tell which layer made each; no share is taken for a level, nor a level for a share."""
    settings: Json = {}
    made: dict[str, int] = {}
    unit = None
    for number, layer in enumerate(layers):
        threshold = layer.settings.get("threshold", unit)
        if threshold in ("share", "absolute") and threshold != unit:
            unit = threshold
            settings = {field: value for field, value in settings.items() if field not in SCALE}
        settings |= layer.settings
        made |= dict.fromkeys(layer.settings, number)
    return settings, made


def counting(settings: Json) -> Json:
    """Settings without those that have no effect beside the others."""
    idle = {field for field, (other, values) in COUNTS_BESIDE.items() if settings[other] not in values}
    return {field: value for field, value in settings.items() if field not in idle}


def check_all_count(settings: Json, made: Mapping[str, int], fields: Mapping[str, str]) -> None:
    """Raise settings-contradict for what a client asked for later than for what excludes it, and for a level left out."""
    for field in sorted(settings.keys() - counting(settings).keys()):
        other, values = COUNTS_BESIDE[field]
        if field in fields and made[field] > made[other]:
            detail = f"`{field}` belongs to {other} {' or '.join(map(repr, values))}, which here is {settings[other]!r}"
            raise ServiceError(Code.SETTINGS_CONTRADICT, detail, field=fields[field], value=settings[field])
    if settings["threshold"] != "otsu" and "tau" not in settings:
        detail = f"threshold {settings['threshold']!r} needs a `tau` of its own: the method's is of another kind"
        raise ServiceError(Code.SETTINGS_CONTRADICT, detail, field=fields.get("threshold"), value=settings["threshold"])


def selected(chosen: Effective, blocks: Sequence[BlockInfo], evaluations: int) -> list[BlockInfo]:
    """The blocks that are looked at; selection-invalid for blocks, evaluations or heads that are not there."""
    settings = Settings.model_validate(chosen.settings)

    def field(name: str) -> str:
        return chosen.fields.get(name, name)

    positions(settings.evaluations, evaluations, field=field("evaluations"))
    found = chosen_blocks(settings.blocks, blocks, field=field("blocks"))
    for block in found:
        positions(settings.heads, block.heads, field=field("heads"))
    return found


def no_self_attention(job_id: str, refine: str, field: str) -> ServiceError:
    """The problem of a refinement by what was not kept."""
    detail = (
        f"refine {refine!r} needs the image's self-attention, which job {job_id} did not keep; make the image again with "
        '`"capture": {"self_attention": true}`, or ask with `"refine": "none"`'
    )
    return ServiceError(Code.NO_SELF_ATTENTION, detail, field=field, value=refine)


def check_embedding(rows: Sequence[Sequence[float]], model: ModelCard, *, field: str) -> None:
    """Raise embedding-of-other-width or embedding-not-finite for rows that the model's attention cannot take."""
    if len(rows[0]) != model.text_width:
        detail = f"`{field}` has rows of {len(rows[0])} numbers; allowed for model {model.name!r}: {model.text_width}"
        raise ServiceError(Code.EMBEDDING_OF_OTHER_WIDTH, detail, field=field, value=len(rows[0]))
    wrong = next((value for row in rows for value in row if not math.isfinite(value) or abs(value) > LARGEST), None)
    if wrong is not None:
        detail = f"`{field}` has the value {wrong}; allowed: numbers of single precision"
        raise ServiceError(Code.EMBEDDING_NOT_FINITE, detail, field=field, value=str(wrong))
