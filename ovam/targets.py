"""What is looked for in an image, and the heatmap of each target by its own method."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from jaxtyping import Float
from torch import Tensor

from ovam.attention import Split
from ovam.errors import EmbeddingNotFiniteError, InvalidArgumentError
from ovam.heatmaps import SplitHeatmaps, heatmaps_of_each, split_heatmaps_of_each
from ovam.methods import Method
from ovam.model import Pipeline
from ovam.text import Encoded, Padding, encode_each, word_tokens
from ovam.trace import Trace

T = TypeVar("T")


@dataclass(frozen=True)
class Words:
    """A word or phrase of an attribution prompt; without one all words of it."""

    prompt: str
    word: str | None = None
    occurrence: int | None = None
    """The n-th occurrence of the word, from 0; ``None`` for all."""


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows of an embedding, such as a learned token's, whose maps are averaged; without a choice all but the first."""

    embedding: Float[Tensor, "tokens text_width"]
    rows: tuple[int, ...] | None = None

    @property
    def chosen(self) -> tuple[int, ...]:
        """The rows. InvalidArgumentError for none, or one that is not there."""
        count = self.embedding.shape[0]
        rows = tuple(range(1, count)) if self.rows is None else self.rows
        if not rows or not all(0 <= row < count for row in rows):
            raise InvalidArgumentError("rows", rows, f"one or more of 0 to {count - 1}")
        return rows


Target = Words | Rows


def rows_of(pipeline: Pipeline, targets: Sequence[Target], paddings: Sequence[Padding]) -> list[Rows]:
    """Find each target's rows; prompts are encoded together, and one that several targets share is encoded once.

    Raises what `ovam.encode` and `ovam.word_tokens` raise.
    """
    asked = {(target.prompt, padding) for target, padding in zip(targets, paddings, strict=True) if isinstance(target, Words)}
    encoded: dict[tuple[str, Padding], Encoded] = {}
    for padding in sorted({padding for _, padding in asked}):
        prompts = sorted(prompt for prompt, other in asked if other == padding)
        encoded |= {
            (prompt, padding): each for prompt, each in zip(prompts, encode_each(pipeline, prompts, padding=padding), strict=True)
        }
    return [
        _rows_of_words(target, *encoded[target.prompt, padding]) if isinstance(target, Words) else target
        for target, padding in zip(targets, paddings, strict=True)
    ]


def target_heatmaps(trace: Trace, targets: Sequence[Rows], methods: Sequence[Method]) -> list[Float[Tensor, "_ _"]]:
    """Compute each target's heatmap by its own method, on the largest grid of the method's blocks.

    Of every selection the queries are read once, and an embedding that several targets share is attended to
    once.

    Raises `EmbeddingNotFiniteError` for rows that are no numbers or too large for a softmax, and what
    `heatmaps` raises.
    """
    for target in targets:
        if not bool(target.embedding.isfinite().all()):
            raise EmbeddingNotFiniteError("the embedding holds values that are no numbers or infinite")
    found = _shared(targets, methods, lambda embeddings, choice: heatmaps_of_each(trace, embeddings, **choice))
    means = [maps[list(target.chosen)].mean(dim=0) for maps, target in zip(found, targets, strict=True)]
    if not all(bool(mean.isfinite().all()) for mean in means):
        raise EmbeddingNotFiniteError("the embedding holds values too large for the model: its attention is no number")
    return means


def split_target_heatmaps(trace: Trace, targets: Sequence[Rows], methods: Sequence[Method], by: Split) -> list[SplitHeatmaps]:
    """Compute the parts of each target's heatmap, see `ovam.split_heatmaps`: maps of (parts, 1, height, width)."""
    found = _shared(targets, methods, lambda embeddings, choice: split_heatmaps_of_each(trace, embeddings, by, **choice))
    return [
        replace(split, maps=split.maps[:, list(target.chosen)].mean(dim=1, keepdim=True))
        for split, target in zip(found, targets, strict=True)
    ]


def _shared(
    targets: Sequence[Rows], methods: Sequence[Method], compute: Callable[[list[Tensor], dict[str, Any]], list[T]]
) -> list[T]:
    """Compute something of each target's embedding, once for all targets of one embedding, together for one selection."""
    choices = [{name: getattr(method, name) for name in ("reduction", "blocks", "evaluations", "heads")} for method in methods]
    found: dict[tuple[str, int], T] = {}
    for key, choice in {str(choice): choice for choice in choices}.items():
        chosen = [target.embedding for target, other in zip(targets, choices, strict=True) if str(other) == key]
        embeddings = {id(embedding): embedding for embedding in chosen}
        for place, each in zip(embeddings, compute([*embeddings.values()], choice), strict=True):
            found[key, place] = each
    return [found[str(choice), id(target.embedding)] for target, choice in zip(targets, choices, strict=True)]


def _rows_of_words(target: Words, embedding: Float[Tensor, "tokens text_width"], tokens: tuple[Any, ...]) -> Rows:
    """Find a target's words in its prompt."""
    if target.word is None:
        return Rows(embedding, tuple(token.index for token in tokens if token.span is not None))
    found = word_tokens(tokens, target.prompt, target.word, occurrence=target.occurrence)
    return Rows(embedding, tuple(token.index for token in found))
