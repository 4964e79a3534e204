"""Selecting some of the blocks, evaluations or heads: one meaning for every function and every request."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Annotated, Any, Literal

from annotated_types import Interval

from ovam.core.settings import Checked
from ovam.errors import InvalidArgumentError, SelectionError

All = Literal["all"]
Grid = tuple[int, int]
Fraction = Annotated[float, Interval(ge=0, lt=1)]


@dataclass(frozen=True)
class Span(Checked):
    """A range of positions as Python's slices count them: `stop` is left out, negative numbers count from the end.

    A number from 0 to below 1 that is not whole is a fraction of the way: `Span(0.5)` is the second half.
    """

    start: int | Fraction | None = None
    """First position; 0 without it."""
    stop: int | Fraction | None = None
    """Position after the last; to the end without it."""
    step: Annotated[int, Interval(ge=1)] | None = None
    """Distance between positions; 1 without it."""


Positions = All | int | float | Span | Sequence[int]
"""`"all"`; one position; the one at a fraction of the way (0.5: the middle one); a range; or several positions. Negative
ones count from the end. Functions take a slice for a range, too."""

Blocks = str | int | Sequence[str | int]
"""`"all"`; or blocks by a part of their name (`"up"`, `"down_blocks.1"`), or by the longer side of their grid (16); or
several of these."""


@dataclass(frozen=True)
class FeatureChoice(Checked):
    """Which outputs of the UNet's blocks are kept beside the queries, of both halves of guidance."""

    blocks: Blocks = "all"
    """By a part of their name (`"up_blocks"`, `"mid_block"`), or by the longer side of their grid."""
    evaluations: Positions = -1
    """At which of all evaluations of the generation."""


def select_positions(selection: Positions | slice, count: int, what: str) -> tuple[int, ...]:
    """Resolve a selection among `count` things to rising positions without repeats.

    Raises `SelectionError`, which says `what` was selected from, for a position outside and for an empty selection.

    >>> select_positions(0.5, 31, "evaluations"), select_positions(Span(stop=2), 31, "evaluations")
    ((15,), (0, 1))
    >>> select_positions(Span(0.5), 7, "evaluations")
    (3, 4, 5, 6)
    """
    picked = picked_of(selection, count, what)
    outside = [index for index in picked if not -count <= index < count]
    if outside:
        raise SelectionError(what, outside, f"positions from {-count} to {count - 1}")
    if not picked:
        raise SelectionError(what, selection, f"at least one of {count}")
    return tuple(sorted({index % count for index in picked}))


def picked_of(selection: Positions | slice, count: int, what: str) -> Sequence[int]:
    """Return the positions that a selection names, inside of `count` or not."""
    allowed = "'all', a position, a fraction, a range (Span or slice) or a list of positions"
    try:
        selection = written(selection)
    except InvalidArgumentError as error:
        raise SelectionError(what, selection, f"{allowed}; {error}") from error
    match selection:
        case "all":
            return range(count)
        case Span(start, stop, step):
            first, last = (int(end * count) if isinstance(end, float) else end for end in (start, stop))
            return range(count)[first:last:step]
        case bool() | str() | bytes():
            raise SelectionError(what, selection, allowed)
        case Integral():
            return [int(selection)]
        case float():
            if not 0 <= selection < 1:
                raise SelectionError(what, selection, "as a fraction of the way, 0 or more and below 1")
            return [int(selection * count)]
        case _:
            if not isinstance(selection, Iterable) or isinstance(selection, Mapping):
                raise SelectionError(what, selection, allowed)
            picked = list(selection)
            if not all(isinstance(position, Integral) and not isinstance(position, bool) for position in picked):
                raise SelectionError(what, selection, "whole numbers in a list of positions")
            return [int(position) for position in picked]


def select_blocks(selection: Blocks, grids: Mapping[str, Grid | None], what: str = "blocks") -> tuple[str, ...]:
    """Name the selected blocks, in the order of `grids`: every block's (height, width).

    A block whose grid is `None`, not known yet, passes for one of any resolution. Raises `SelectionError` when a part
    of the selection selects no block.

    >>> select_blocks("up", {"down_blocks.0": (16, 16), "up_blocks.1": (16, 16)})
    ('up_blocks.1',)
    """
    selection = written(selection)
    if selection == "all":
        return tuple(grids)
    parts = [selection] if isinstance(selection, str | int) else list(selection) if isinstance(selection, Iterable) else []
    if not parts:
        allowed = "'all', a part of a block's name, a resolution, or a list of these"
        raise SelectionError(what, selection, allowed)
    for part in parts:
        if not any(selects(part, name, grid) for name, grid in grids.items()):
            sides = sorted({max(grid) for grid in grids.values() if grid}, reverse=True)
            places = dict.fromkeys(".".join(name.split(".")[:2]) for name in grids)
            known = f"a resolution of {', '.join(map(str, sides))}, or " if sides else ""
            raise SelectionError(what, part, f"{known}a part of a block's name; names begin with {', '.join(places)}")
    whole = {part for part in parts if part in grids}  # FLUX has "transformer_blocks.0" within "single_transformer_blocks.0"
    return tuple(
        name
        for name, grid in grids.items()
        if name in whole or any(part not in whole and selects(part, name, grid) for part in parts)
    )


def selects(part: str | int, name: str, grid: Grid | None) -> bool:
    """Whether this is a part of the block's name, or the longer side of its grid.

    A number at the edge of a part is a whole one: "blocks.1" is no part of "blocks.11".
    """
    if isinstance(part, bool):
        return False
    if isinstance(part, int):
        return grid is None or max(grid) == part
    before, after = r"(?<!\d)" if part[:1].isdigit() else "", r"(?!\d)" if part[-1:].isdigit() else ""
    return bool(part) and re.search(before + re.escape(part) + after, name) is not None


def written(selection: Any) -> Any:  # noqa: ANN401 - a selection, or what is none
    """Return a selection in the one form that methods keep: a `Span` for a slice, a tuple for several; the rest as it is.

    Arrays and tensors become what they hold. Raises `InvalidArgumentError` for a slice that is no range of positions.
    """
    if hasattr(selection, "tolist"):
        selection = selection.tolist()
    if isinstance(selection, slice):
        return Span(selection.start, selection.stop, selection.step)
    return tuple(selection) if isinstance(selection, Sequence) and not isinstance(selection, str | bytes) else selection
