"""Choices of evaluations and heads, from the request's form to the library's."""

from contracts.fields import Span
from ovam.selection import Indices


def indices_of(choice: float | list[int] | Span | None) -> Indices:
    """What a request's indices, share or span are to `ovam`."""
    return slice(choice.start, choice.stop, choice.step) if isinstance(choice, Span) else choice
