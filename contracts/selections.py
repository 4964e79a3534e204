"""Choices of blocks, evaluations and heads, held against what is there."""

from collections.abc import Iterable, Sequence

from contracts.errors import Code, ServiceError
from contracts.fields import Blocks, Evaluations, Indices, Span
from contracts.generation import BlockInfo


def native(choice: Evaluations | Indices | None) -> float | list[int] | slice | None:
    """A choice as Python indexes with it: a range becomes a slice."""
    return slice(choice.start, choice.stop, choice.step) if isinstance(choice, Span) else choice


def positions(choice: Evaluations | Indices | None, count: int, *, field: str) -> list[int]:
    """The chosen of `count` things, rising and without repeats; selection-invalid for one outside, or for none."""
    picked: Sequence[int]
    match native(choice):
        case None:
            picked = range(count)
        case slice() as part:
            picked = range(count)[part]
        case int() as index:
            picked = [index]
        case float() as share:
            picked = [int(share * count)]
        case several:
            picked = several
    if outside := [index for index in picked if not -count <= index < count]:
        raise invalid(f"`{field}` names {outside}; allowed: {-count} to {count - 1}", choice, field)
    if not picked:
        raise invalid(f"`{field}` selects none of {count}", choice, field)
    return sorted({index % count for index in picked})


def chosen_blocks(choice: Blocks | None, blocks: Sequence[BlockInfo], *, field: str) -> list[BlockInfo]:
    """The chosen blocks, in their own order; selection-invalid when a part of the choice selects none."""
    if choice is None:
        return [*blocks]
    for part in choice:
        if not any(selects(part, block) for block in blocks):
            resolutions = sorted({max(block.grid) for block in blocks}, reverse=True)
            places = dict.fromkeys(".".join(block.name.split(".")[:2]) for block in blocks)
            detail = (
                f"`{field}` {part!r} selects no block; resolutions: {listed(resolutions)}; names begin with: {listed(places)}"
            )
            raise invalid(detail, part, field)
    return [block for block in blocks if any(selects(part, block) for part in choice)]


def selects(part: str | int, block: BlockInfo) -> bool:
    """Whether this is a part of the block's name, or the longer side of its grid."""
    return part in block.name if isinstance(part, str) else part == max(block.grid)


def listed(values: Iterable[object]) -> str:
    """Values in a sentence."""
    return ", ".join(map(str, values))


def invalid(detail: str, choice: Evaluations | Indices | str | None, field: str) -> ServiceError:
    """The refusal of a choice."""
    plain = choice.model_dump() if isinstance(choice, Span) else choice
    return ServiceError(Code.SELECTION_INVALID, detail, field=field, value=[*plain] if isinstance(plain, list) else plain)
