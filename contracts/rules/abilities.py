"""What a model can do by its card: what it cannot is refused, with the card's reason."""

from pydantic import JsonValue

from contracts.schema.errors import Code, ServiceError
from contracts.schema.images import CaptureOptions, GenerateRequest
from contracts.schema.models import Ability, ModelCard
from ovam.errors import shown


def check_able(request: GenerateRequest, card: ModelCard) -> None:
    """Raise settings-contradict for what of a generation a model cannot do."""
    asked: dict[Ability, bool] = {
        "image": request.image is not None,
        "mask": request.mask is not None,
        "negative_prompt": bool(request.negative_prompt),
        "emphasis": bool(request.emphasis),
        "clip_skip": request.clip_skip is not None,
    }
    for ability, is_asked in asked.items():
        if is_asked:
            check_ability(ability, card, field=ability, value=None)


def check_capture(options: CaptureOptions, card: ModelCard) -> None:
    """Raise settings-contradict for queries of a model whose attention is computed from replays, selection-invalid for heads."""
    if options.keep == "queries":
        check_ability("queries", card, field="capture.keep", value=options.keep, allowed="'replay'")
    if card.joint and options.heads != "all":
        detail = (
            f"`capture.heads` is {shown(options.heads)}; allowed for model {card.name!r}, whose attention is computed when it is "
            "asked for: 'all' (select heads in a question's settings)"
        )
        raise ServiceError(Code.SELECTION_INVALID, detail, field="capture.heads", value=shown(options.heads))


def check_ability(ability: Ability, card: ModelCard, *, field: str, value: JsonValue, allowed: str = "none") -> None:
    """Raise settings-contradict for something that a model cannot do."""
    if ability in card.cannot:
        detail = f"`{field}` is not for model {card.name!r}: {card.cannot[ability]}; allowed: {allowed}"
        raise ServiceError(Code.SETTINGS_CONTRADICT, detail, field=field, value=value)
