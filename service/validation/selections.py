"""Is there what a request selects? The method's own rules, on what the record of an image's job says of its trace."""

import re
from collections.abc import Mapping, Sequence

from contracts.errors import Code, ServiceError
from contracts.fields import Span
from contracts.generation import BlockInfo, GenerateResult

Choice = int | float | list[int] | Span | None


def check_selection(
    result: GenerateResult, blocks: Sequence[int | str] | None, evaluations: Choice, heads: Choice, fields: Mapping[str, str]
) -> None:
    """Raise selection-invalid for a choice outside of what was kept; `fields` tells where each was made."""
    if not result.blocks:
        return  # an old record, which does not tell
    chosen = chosen_blocks(blocks, result.blocks, field=fields.get("blocks"))
    check_indices(evaluations, result.evaluations, "evaluations", field=fields.get("evaluations"))
    for block in chosen:
        check_indices(heads, block.heads, f"heads of {block.name}", field=fields.get("heads"))


def chosen_blocks(blocks: Sequence[int | str] | None, kept: Sequence[BlockInfo], *, field: str | None) -> list[BlockInfo]:
    """The blocks that are chosen; selection-invalid if a part of the choice is none of them."""
    if blocks is None:
        return list(kept)
    for part in blocks:
        if not any(selects(part, block) for block in kept):
            known = ", ".join(f"{block.name} ({max(block.grid)})" for block in kept)
            detail = f"blocks {part!r} selects none of those that were kept: {known}"
            raise ServiceError(Code.SELECTION_INVALID, detail, field=field, value=part)
    return [block for block in kept if any(selects(part, block) for part in blocks)]


def selects(part: int | str, block: BlockInfo) -> bool:
    """Whether a part of a choice takes a block: by its resolution, or by a part of its name."""
    return max(block.grid) == part if isinstance(part, int) else re.search(part, block.name) is not None


def check_indices(choice: Choice, count: int, what: str, *, field: str | None) -> None:
    """Raise selection-invalid for indices outside of `count` things, or a range without any."""
    match choice:
        case None | float():
            return  # a share of the way is always there
        case Span():
            if range(count)[choice.start : choice.stop : choice.step]:
                return
            wrong = f"{what} {choice.model_dump(exclude_none=True)} selects none of {count}"
        case _:
            outside = [index for index in ([choice] if isinstance(choice, int) else choice) if not -count <= index < count]
            if not outside:
                return
            wrong = f"there are no {what} {outside}; allowed: {-count} to {count - 1}"
    raise ServiceError(Code.SELECTION_INVALID, wrong, field=field, value=str(choice))
