"""How a setting is declared: a frozen dataclass whose fields carry their range and, below them, their description.

A declaration is read twice: `Checked` refuses values outside the range when Python code constructs the dataclass, and
pydantic, which takes such dataclasses as they are, validates requests and writes the API's schema from it.
"""

from dataclasses import fields
from types import NoneType, UnionType
from typing import Annotated, Any, ClassVar, Literal, Union, get_args, get_origin, get_type_hints

from annotated_types import Ge, Gt, Interval, Le, Lt

from ovam.errors import InvalidArgumentError


def require_tag(schema: dict[str, Any]) -> None:
    """Declare a union's tag `kind` as required: it has a default in Python alone."""
    if "kind" in schema.get("properties", {}):
        schema["required"] = ["kind", *(name for name in schema.get("required", []) if name != "kind")]


class Checked:
    """Base of settings: every field lies in the range that its annotation names."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {
        "extra": "forbid",
        "use_attribute_docstrings": True,
        "json_schema_extra": require_tag,
    }

    def __post_init__(self) -> None:
        """Raise `InvalidArgumentError` for the first field whose value is not allowed."""
        hints = get_type_hints(type(self), include_extras=True)
        for field in fields(self):  # type: ignore[arg-type]  # subclasses are dataclasses
            check(field.name, getattr(self, field.name), hints[field.name])


def check(name: str, value: object, hint: Any) -> None:  # noqa: ANN401 - an annotation
    """Raise `InvalidArgumentError` unless a value suits an annotation: `Literal`, or a number with bounds."""
    origin = get_origin(hint)
    if origin is Literal and value not in get_args(hint):
        raise InvalidArgumentError(name, value, f"one of {', '.join(map(repr, get_args(hint)))}")
    if origin in (Union, UnionType) and NoneType in get_args(hint):
        inner = [each for each in get_args(hint) if each is not NoneType]
        if value is not None and len(inner) == 1:
            check(name, value, inner[0])
    if origin is Annotated:
        kind, *constraints = get_args(hint)
        check(name, value, kind)
        for constraint in constraints:
            if isinstance(constraint, Interval | Ge | Gt | Le | Lt):
                check_bounds(name, value, Interval(**vars(constraint)) if not isinstance(constraint, Interval) else constraint)


def check_bounds(name: str, value: object, bounds: Interval) -> None:
    """Raise `InvalidArgumentError` unless a value is a number within bounds; NaN is in no range."""
    parts = {"above": bounds.gt, "at least": bounds.ge, "below": bounds.lt, "at most": bounds.le}
    allowed = ", ".join(f"{word} {limit}" for word, limit in parts.items() if limit is not None)
    inside = isinstance(value, int | float) and not isinstance(value, bool)
    if inside:
        number: Any = value
        inside = (
            (bounds.gt is None or number > bounds.gt)
            and (bounds.ge is None or number >= bounds.ge)
            and (bounds.lt is None or number < bounds.lt)
            and (bounds.le is None or number <= bounds.le)
        )
    if not inside:
        raise InvalidArgumentError(name, value, f"a number {allowed}")
