"""How a target is looked for: the settings that a request, its targets and the model's card come to."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

from contracts.rules.abilities import check_ability
from contracts.rules.attentions import check_stream
from contracts.rules.selections import Traced, check_selections
from contracts.schema.attribute import AttributeRequest, Question
from contracts.schema.errors import Code, ServiceError
from contracts.schema.methods import PartialSettings
from contracts.schema.models import ModelCard
from ovam.core.confidence import Calibration
from ovam.core.methods import METHODS, Method, NoRefinement, TargetKind
from ovam.errors import InvalidArgumentError

CRF_KERNELS = 2  # one over position and colour, one over position
CRF_SETUP = 10  # iterations that take as long as it takes to build the kernels
MOST_CRF_UPDATES = 64 * (CRF_SETUP + 5) * 512**2 * CRF_KERNELS  # 64 targets at 512 x 512, in the paper's five iterations
LARGEST = 3.4028234e38  # in single precision


def method_of(request: Question, number: int, model: ModelCard, *, self_attention: bool) -> tuple[str, Method]:
    """The method of target `number`, by name and with all its settings.

    Settings are the named method's, or the model's best ones; the request's replace those, and the target's replace both, each
    given setting replaced whole. A refinement that was not requested is left out where the image's `self_attention` was not
    kept, and with a trained network; one that was requested is rejected: ServiceError, no-self-attention, settings-contradict.
    """
    target = request.targets[number]
    best = model.word_defaults if target.kind == "words" else model.token_defaults
    name = request.method or best.method
    changes = {} if request.method else changes_of(best.settings)
    for settings in (request.settings, target.settings):
        changes |= changes_of(settings)
    if changes.get("network") and requesting_field(request, number) is None:
        changes["refine"] = NoRefinement()
    try:
        method = replace(METHODS[name].of(target.kind), **changes)
    except InvalidArgumentError as error:
        field = setting_field(request, number, error.field) or setting_field(request, number, "network") or "settings"
        value: Any = error.value if field.endswith(error.field) else changes.get("network")
        raise ServiceError(Code.SETTINGS_CONTRADICT, f"`{field}`: {error}", field=field, value=value) from error
    if method.attention not in (None, *model.attentions):
        field = setting_field(request, number, "attention") or "settings.attention"
        detail = f"`{field}` is {method.attention!r}; allowed for model {model.name!r}: {', '.join(model.attentions)}"
        raise ServiceError(Code.ATTENTION_UNAVAILABLE, detail, field=field, value=method.attention)
    if method.needs_self_attention and not self_attention:
        field = requesting_field(request, number)
        if field is not None:
            raise no_self_attention(request, method.refine.kind, field)
        method = replace(method, refine=NoRefinement())
    return name, method


def calibration_of(
    model: ModelCard, images: Literal["generate", "image"], targets: TargetKind, settings: Method
) -> Calibration | None:
    """What IoU to expect of masks in such images that are found with these very settings, if the model's card says it."""
    asked = (images, targets, settings)
    known = (one for one in model.calibrations if (one.images, one.targets, one.settings) == asked)
    return next((one.calibration for one in known), None)


def changes_of(settings: PartialSettings | None) -> dict[str, Any]:
    """The settings that are given."""
    return {} if settings is None else settings.changes()


def check_method(request: Question, number: int, method: Method, images: Traced, model: ModelCard) -> None:
    """Raise selection-invalid for a method of target `number` that selects what the images' traces, or its attention, lack."""

    def field(name: str) -> str:
        return setting_field(request, number, name) or f"settings.{name}"

    check_selections(images, blocks=method.blocks, evaluations=method.evaluations, heads=method.heads, field=field)
    check_stream(model, images.blocks, attention=method.attention, blocks=method.blocks, heads=method.heads, field=field)


def check_network(request: Question, number: int, method: Method, images: Traced, model: ModelCard) -> None:
    """Raise for a trained network that target `number`'s method has and that cannot answer.

    no-network where the model has none of this name; no-features where the image's queries are kept alone, from which features
    cannot be computed; settings-contradict for a softmax, parts of heatmaps or a refinement, which a network has not.
    """
    if method.network is None:
        return
    field = setting_field(request, number, "network") or "method"
    if method.network not in model.networks:
        known = ", ".join(map(repr, model.networks)) or "none"
        detail = f"`{field}` needs the trained network {method.network!r}; the workers of model {model.name!r} have: {known}"
        raise ServiceError(Code.NO_NETWORK, detail, field=field, value=method.network)
    if images.keep == "queries":
        detail = (
            f"`{field}` needs features of the UNet's blocks, which stored queries lack; "
            'make the image with `"capture": {"keep": "replay"}`'
        )
        raise ServiceError(Code.NO_FEATURES, detail, field=field, value=method.network)
    contradicting: dict[str, tuple[Any, Any]] = {
        "softmax": (request.softmax, "each"),
        "maps": ([*request.maps], []),
        "confidence": (request.confidence, False),
    }
    for name, (value, allowed) in contradicting.items():
        if value != allowed:
            detail = (
                f"`{name}` is {value!r}; allowed with the network {method.network!r}, whose heat is no attention: {allowed!r}"
            )
            raise ServiceError(Code.SETTINGS_CONTRADICT, detail, field=name, value=value)


def check_aggregation(request: Question, number: int, method: Method, images: Traced, model: ModelCard) -> None:
    """Raise for automatic aggregation of target `number` by contributions that the model, or the image's trace, lacks.

    settings-contradict where pixels and text attend together; no-contributions where queries are kept alone.
    """
    if method.aggregation == "equal":
        return
    field = setting_field(request, number, "aggregation") or "settings.aggregation"
    check_ability("aggregation", model, field=field, value=method.aggregation, allowed="'equal'")
    if images.keep == "queries":
        detail = (
            f"`{field}` is 'automatic', by what heads and blocks contribute, which stored queries lack; allowed: 'equal', or "
            'an image that was made with `"capture": {"keep": "replay"}`'
        )
        raise ServiceError(Code.NO_CONTRIBUTIONS, detail, field=field, value=method.aggregation)


def check_crf(request: Question, methods: Sequence[Method], images: Traced) -> None:
    """Raise invalid-argument when the dense CRFs of all targets together would compute for too long.

    Their cost is iterations x pixels x kernels, of which there are two; to build these costs as much as ten iterations.
    """
    pixels = images.height * images.width
    costs = [0 if method.crf is None else (CRF_SETUP + method.crf.iterations) * pixels * CRF_KERNELS for method in methods]
    if sum(costs) > MOST_CRF_UPDATES:
        number = costs.index(max(costs))
        field = setting_field(request, number, "crf") or "targets"
        detail = (
            f"`{field}`: the dense CRFs of all targets take {sum(costs) / 1e6:.0f} million updates "
            f"((iterations + {CRF_SETUP}) x pixels x {CRF_KERNELS} kernels); allowed: {MOST_CRF_UPDATES / 1e6:.0f} million. "
            "Ask for fewer iterations, or for fewer targets at a time"
        )
        raise ServiceError(Code.INVALID_ARGUMENT, detail, field=field, value=sum(costs))


def requesting_field(request: Question, number: int) -> str | None:
    """The field that requests target `number`'s refinement, if there is one."""
    return setting_field(request, number, "refine") or (None if request.method is None else "method")


def setting_field(request: Question, number: int, name: str) -> str | None:
    """The field in which a setting of target `number` was given, if it was: the target's, or the request's."""
    if name in changes_of(request.targets[number].settings):
        return f"targets.{number}.settings.{name}"
    return f"settings.{name}" if name in changes_of(request.settings) else None


def no_self_attention(request: Question, refine: str, field: str) -> ServiceError:
    """The problem of a refinement by what was not kept, or would not be."""
    again = "make the image again with"
    source = "is not kept; set"
    if isinstance(request, AttributeRequest):
        other = "" if request.against is None else f", or job {request.against},"
        source = f"job {request.job_id}{other} did not keep; {again}"
    detail = (
        f"refine {refine!r} needs the image's self-attention, which {source} "
        '`"capture": {"keep": "replay"}` or `{"self_attention": true}`, or set `"refine": {"kind": "none"}`'
    )
    return ServiceError(Code.NO_SELF_ATTENTION, detail, field=field, value=refine)


def check_embedding(rows: Sequence[Sequence[float]], model: ModelCard, *, field: str) -> None:
    """Raise embedding-of-other-width or embedding-not-finite for rows that the model's attention cannot take."""
    if len(rows[0]) != model.text_width:
        detail = f"`{field}` has rows of {len(rows[0])} numbers; allowed for model {model.name!r}: {model.text_width}"
        raise ServiceError(Code.EMBEDDING_OF_OTHER_WIDTH, detail, field=field, value=len(rows[0]))
    wrong = next((value for row in rows for value in row if not math.isfinite(value) or abs(value) > LARGEST), None)
    if wrong is not None:
        detail = f"`{field}` has the value {wrong}; allowed: finite numbers of single precision"
        raise ServiceError(Code.EMBEDDING_NOT_FINITE, detail, field=field, value=str(wrong))
