"""What pydantic says of an invalid request, in the request's own terms."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import JsonValue

from contracts.schema.errors import FieldError
from ovam.errors import quoted

SHOWN = 200  # characters of a wrong value that are repeated to the client
LONGEST_DETAIL = 1000  # characters
LONGEST_PART = 100  # of a field's path
SUBJECT = re.compile(r"`(\w+)`")  # what a sentence is about
PLACES = ("body", "query", "path", "header")


def field_error(error: Mapping[str, Any], body: object) -> FieldError:
    """One field that is wrong; `body` is the request's, to distinguish its fields from the tags of unions in pydantic's paths."""
    place, *parts = error["loc"]
    missing = error["type"] == "missing"
    names = (
        field_path(parts, body, missing=missing)
        if place == "body"
        else [str(part) for part in error["loc"] if part not in PLACES]
    )
    value, message = error.get("input"), str(error["msg"]).removeprefix("Value error, ")
    subject = SUBJECT.match(message) if error["type"] == "value_error" and not names else None
    if subject and isinstance(value, Mapping) and subject[1] in value:  # fields do not go together: the one that is spoken of
        names, value = [subject[1]], value[subject[1]]
    if error["type"] == "model_type":
        message = f"Input should be an object, {error['ctx']['class_name']} in the OpenAPI document"
    field = ".".join(map(shortened, names)) or "body"
    return FieldError(field=field, detail=printable(message[:LONGEST_DETAIL]), value=None if missing else shown(value))


def field_path(parts: Sequence[str | int], body: object, *, missing: bool) -> list[str]:
    """The parts of a path that are in the body, and the last one if it is `missing` there: the others are tags of unions."""
    names = []
    for number, part in enumerate(parts, 1):
        if inside(part, body):
            names.append(str(part))
            body = body[part]  # type: ignore[index]
        elif missing and number == len(parts):
            names.append(str(part))
    return names


def inside(part: str | int, value: object) -> bool:
    """Whether a value has this field, or this element."""
    match value:
        case Mapping():
            return part in value
        case list():
            return isinstance(part, int) and part < len(value)
        case _:
            return False


def shown(value: object) -> JsonValue:
    """A wrong value as it is repeated to the client: short, and certainly JSON."""
    match value:
        case None | bool() | int():
            return value if -(2**63) <= (value or 0) < 2**63 else shown(str(value))
        case str():
            return printable(value if len(value) <= SHOWN else f"{value[:SHOWN]}...")
        case _:
            return shown(quoted(value))


def shortened(name: str) -> str:
    """A part of a path, as it is repeated to the client: clients invent names of any length."""
    return printable(name if len(name) <= LONGEST_PART else f"{name[:LONGEST_PART]}...")


def printable(text: str) -> str:
    """Text that UTF-8 can hold."""
    return text.encode("utf-8", "replace").decode()
