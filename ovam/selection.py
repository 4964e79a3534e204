"""Choosing some of the blocks, evaluations or heads: one meaning for every function that takes a choice."""

import re
from collections.abc import Sequence

from ovam.errors import InvalidArgumentError, SelectionError

Indices = int | float | slice | Sequence[int] | None
"""``None`` (all), one index, the index at a share of the way (0.5: the middle one), a slice or several indices;
negative ones count from the end.
"""

Blocks = str | int | Sequence[str | int] | None
"""All (``None``), or by a regular expression searched in the name (``"down"``, ``"mid"``, ``"up"`` for a position,
``"up_blocks.1"``, an exact name); an integer, which takes the blocks whose grid is that long on its longer side (64, 32, 16); or
several of these.
"""


def chosen_indices(choice: Indices, count: int, what: str) -> tuple[int, ...]:
    """Turn a choice among ``count`` things into rising indices without repeats.

    Raises `SelectionError`, which says ``what`` was chosen from, for an index outside or an empty choice.
    """
    everything = range(count)
    match choice:
        case None:
            picked: Sequence[int] = everything
        case slice():
            picked = everything[choice]
        case int():
            picked = [choice]
        case float():
            if not 0 <= choice < 1:
                raise SelectionError(f"{what} {choice} chosen; allowed: a share from 0 to below 1")
            picked = [int(choice * count)]
        case _:
            picked = list(choice)
    outside = [index for index in picked if not -count <= index < count]
    if outside:
        raise SelectionError(f"{what} {outside} chosen; allowed: {-count} to {count - 1}")
    if not picked:
        raise SelectionError(f"no {what} chosen: {choice!r} selects none of {count}")
    return tuple(sorted({index % count for index in picked}))


def chosen_blocks(choice: Blocks, grids: dict[str, tuple[int, int] | None]) -> tuple[str, ...]:
    """Name the chosen blocks in the order of ``grids``: every block's (height, width).

    A block whose grid is ``None``, not known yet, passes for one of any resolution.

    Raises `SelectionError` when a part of the choice selects no block, `InvalidArgumentError` for a bad
    expression.
    """
    if choice is None:
        return tuple(grids)
    wanted = [choice] if isinstance(choice, str | int) else list(choice)
    names: set[str] = set()
    for part in wanted:
        found = [name for name, grid in grids.items() if _selects(part, name, grid)]
        if not found:
            raise SelectionError(f"blocks {part!r} selects none of: {', '.join(grids)}")
        names.update(found)
    if not names:
        raise SelectionError("no blocks chosen: the list is empty")
    return tuple(name for name in grids if name in names)


def _selects(part: str | int, name: str, grid: tuple[int, int] | None) -> bool:
    """Whether one part of a choice takes this block."""
    if isinstance(part, int):
        return grid is None or max(grid) == part
    try:
        return re.search(part, name) is not None
    except re.error as error:
        raise InvalidArgumentError("blocks", part, f"a regular expression ({error})") from error
