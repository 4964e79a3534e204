"""How a setting is declared: a frozen dataclass whose fields carry their range and, below them, their description.

A declaration is read twice: `Checked` refuses values outside the range when Python code constructs the dataclass, and
pydantic, which takes such dataclasses as they are, validates requests and writes the API's schema from it. `checked` does the
same for the arguments of a function.
"""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import fields
from functools import lru_cache, wraps
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Annotated, Any, ClassVar, Literal, ParamSpec, TypeVar, Union, get_args, get_origin, get_type_hints

from annotated_types import Interval

from ovam.errors import InvalidArgumentError


def require_tag(schema: dict[str, Any]) -> None:
    """Declare a union's tag `kind` as required: it has a default in Python alone."""
    if "kind" in schema.get("properties", {}):
        schema["required"] = ["kind", *(name for name in schema.get("required", []) if name != "kind")]


class Checked:
    """Base of settings: every field is of the type and in the range that its annotation names."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {
        "extra": "forbid",
        "use_attribute_docstrings": True,
        "json_schema_extra": require_tag,
    }

    def __post_init__(self) -> None:
        """Raise `InvalidArgumentError` for the first field whose value is not allowed."""
        hints = hints_of(type(self))
        for field in fields(self):  # type: ignore[arg-type]  # subclasses are dataclasses
            check(field.name, getattr(self, field.name), hints[field.name])


P = ParamSpec("P")
R = TypeVar("R")


def checked(function: Callable[P, R]) -> Callable[P, R]:
    """Let a function refuse settings that its annotations do not allow; tensors, traces and pipelines are its own to look at.

    NumPy's numbers and arrays, and tensors, become Python's where settings are expected.
    """
    signature = inspect.signature(function)
    hints = {name: each.annotation for name, each in signature.parameters.items() if is_setting(each.annotation)}

    @wraps(function)
    def called(*args: P.args, **kwargs: P.kwargs) -> R:
        bound = signature.bind(*args, **kwargs)
        for name in hints.keys() & bound.arguments.keys():
            value = bound.arguments[name]
            bound.arguments[name] = value.tolist() if hasattr(value, "tolist") else value
            check(name, bound.arguments[name], hints[name])
        return function(*bound.args, **bound.kwargs)

    return called


def is_setting(hint: Any) -> bool:  # noqa: ANN401 - an annotation
    """Whether an annotation is made of numbers, texts, choices and settings alone."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Literal:
        return True
    if origin is Annotated:
        return is_setting(parts[0])
    if origin in (Union, UnionType) or origin in (tuple, Sequence):
        return all(part is Ellipsis or is_setting(part) for part in parts)
    return hint in (int, float, bool, str, NoneType) or (isinstance(hint, type) and issubclass(hint, Checked))


@lru_cache
def hints_of(kind: type) -> dict[str, Any]:
    """Return the annotations of a dataclass."""
    return get_type_hints(kind, include_extras=True)


def check(name: str, value: object, hint: Any) -> None:  # noqa: ANN401 - an annotation
    """Raise `InvalidArgumentError` unless a value suits an annotation.

    >>> check("tau", 0.4, Annotated[float, Interval(gt=0, le=1)])
    >>> check("tau", 1.4, Annotated[float, Interval(gt=0, le=1)])
    Traceback (most recent call last):
    ovam.errors.InvalidArgumentError: tau is 1.4; allowed: a number above 0, at most 1
    """
    if not suits(value, hint):
        raise InvalidArgumentError(name, value, described(hint))


def suits(value: object, hint: Any) -> bool:  # noqa: ANN401 - an annotation
    """Whether a value is of the type, and in the range, that an annotation names; a truth value is no number."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Literal:
        return any(value == part and type(value) is type(part) for part in parts)
    if origin is Annotated:
        return suits(value, parts[0]) and all(within(value, part) for part in parts[1:] if isinstance(part, Interval))
    if origin in (Union, UnionType):
        return any(suits(value, part) for part in parts)
    if origin is not None and issubclass(origin, Sequence):
        several = value if isinstance(value, Sequence) and not isinstance(value, str | bytes) else None
        each = parts if origin is tuple and Ellipsis not in parts else parts[:1] * len(several or ())
        return several is not None and len(each) == len(several) and all(map(suits, several, each))
    if hint in (int, float):
        return isinstance(value, Integral if hint is int else Real) and not isinstance(value, bool)
    return isinstance(value, hint)


def described(hint: Any) -> str:  # noqa: ANN401 - an annotation
    """Say in words what an annotation allows."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Literal:
        return f"one of {', '.join(map(repr, parts))}" if len(parts) > 1 else repr(parts[0])
    if origin is Annotated:
        limits = [text for part in parts[1:] if isinstance(part, Interval) for text in limits_of(part)]
        return " ".join([described(parts[0]), ", ".join(limits)]).strip()
    if origin in (Union, UnionType):
        return " or ".join(described(part) for part in parts)
    if origin is tuple and Ellipsis not in parts:
        return f"({', '.join(map(described, parts))})"
    if origin is not None and issubclass(origin, Sequence):
        return f"a sequence of these: {described(parts[0])}"
    names = {int: "a whole number", float: "a number", bool: "True or False", str: "text", NoneType: "None"}
    return names.get(hint, getattr(hint, "__name__", str(hint)))


def limits_of(bounds: Interval) -> list[str]:
    """Say a range in words."""
    parts = {"above": bounds.gt, "at least": bounds.ge, "below": bounds.lt, "at most": bounds.le}
    return [f"{word} {limit}" for word, limit in parts.items() if limit is not None]


def within(value: Any, bounds: Interval) -> bool:  # noqa: ANN401 - a number
    """Whether a number lies within bounds; NaN is in no range."""
    return (
        (bounds.gt is None or value > bounds.gt)
        and (bounds.ge is None or value >= bounds.ge)
        and (bounds.lt is None or value < bounds.lt)
        and (bounds.le is None or value <= bounds.le)
    )


def check_bounds(name: str, value: object, bounds: Interval) -> None:
    """Raise `InvalidArgumentError` unless a value is a number within bounds."""
    check(name, value, Annotated[float, bounds])
