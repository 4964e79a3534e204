"""Questions to a model whose pixels and text attend together: which rows, blocks and heads each kind of attention has."""

from collections.abc import Callable, Sequence

from contracts.rules.selections import selected_blocks, selected_positions
from contracts.schema.attribute import Question
from contracts.schema.errors import Code, ServiceError
from contracts.schema.images import BlockInfo
from contracts.schema.models import ModelCard
from contracts.schema.targets import Target, WordsTarget
from ovam.core.methods import Attention, Method
from ovam.core.selection import Blocks, Positions
from ovam.errors import shown

TWO_STREAMS = "transformer_blocks."
"""How the names of blocks begin that keep pixels and text apart, with weights for each."""


def reads_own_words(method: Method) -> bool:
    """Whether heat is the attention to the words of the image's own prompt."""
    return method.attention in ("joint", "text")


def with_own_prompt(target: Target, method: Method, prompt: str | None, *, field: str) -> Target:
    """A target as an attention to the image's own words takes it: of words without a prompt, that is the image's.

    Raises settings-contradict for anything but words of the image's prompt.
    """
    if not reads_own_words(method):
        return target
    if not isinstance(target, WordsTarget):
        detail = f"`{field}` is no word; allowed with `attention` {method.attention!r}: words of the image's own prompt"
        raise ServiceError(Code.SETTINGS_CONTRADICT, detail, field=field, value=target.label)
    if prompt is None or target.prompt not in (None, prompt):
        own = "it is not known here" if prompt is None else shown(prompt)
        detail = (
            f"`{field}.prompt` is {shown(target.prompt)}; allowed with `attention` {method.attention!r}: the image's own prompt "
            f"({own}); with 'concept' any"
        )
        raise ServiceError(Code.SETTINGS_CONTRADICT, detail, field=f"{field}.prompt", value=target.prompt)
    return target.model_copy(update={"prompt": prompt})


def check_own_words(request: Question, methods: Sequence[Method], field: Callable[[int], str]) -> None:
    """Raise settings-contradict for targets that compete by their attention to the image's own words, which all share."""
    if request.softmax == "together":
        for number, method in enumerate(methods):
            if reads_own_words(method):
                detail = (
                    f"`{field(number)}` is {method.attention!r}, by which all words of the prompt share a softmax anyway; "
                    "allowed with `softmax` 'together': 'concept'"
                )
                raise ServiceError(Code.SETTINGS_CONTRADICT, detail, field=field(number), value=method.attention)


def check_stream(
    card: ModelCard,
    kept: Sequence[BlockInfo],
    *,
    attention: Attention | None,
    blocks: Blocks,
    heads: Positions,
    field: Callable[[str], str] = str,
) -> None:
    """Raise selection-invalid for what a concept stream has not: heads, which it has side by side, and blocks of one stream."""
    if not card.joint or attention not in (None, "concept"):
        return
    double = [block for block in kept if block.name.startswith(TWO_STREAMS)]
    if not double:
        names = ", ".join(block.name for block in kept)
        detail = f"a concept stream runs through blocks of two streams, of which the image keeps none; kept: {names}"
        raise ServiceError(Code.SELECTION_INVALID, detail, field=field("blocks"))
    selected_blocks(blocks, double, field=field("blocks"))
    selected_positions(heads, 1, field=field("heads"))
