"""Heatmaps of any text over an image's pixels, from its trace (Eq. 3 to 5)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

import torch
from jaxtyping import Float
from torch import Tensor

from ovam.attention.aggregation import require_aggregation
from ovam.attention.joint import JointSelected, JointSplit, encode_for, joint_sums, select_joint
from ovam.attention.scores import Selected, Size, Split, largest_grid, parted, resize, select, summed, terms_of
from ovam.attention.sums import attention_sum
from ovam.attention.text import word_tokens
from ovam.core.methods import Aggregation, Attention, Method, Padding, Reduction
from ovam.core.selection import Blocks, Positions
from ovam.core.settings import checked
from ovam.errors import InvalidArgumentError
from ovam.tracing.families import family_named
from ovam.tracing.model import Pipeline
from ovam.tracing.trace import Trace, require_trace


@checked
def heatmaps(  # noqa: PLR0913 - every choice of the method is one keyword
    trace: Trace,
    embedding: Float[Tensor, "tokens text_width"],
    *,
    reduction: Reduction = "mean",
    size: Size | None = None,
    blocks: Blocks = "all",
    evaluations: Positions | slice = "all",
    heads: Positions | slice = "all",
    attention: Attention | None = None,
    aggregation: Aggregation = "equal",
) -> Float[Tensor, "tokens height width"]:
    """Compute the attention of every pixel to every row of a text embedding (Eq. 5).

    `reduction="sum"` adds up blocks, evaluations and heads, as in Eq. 5; `"mean"` divides by their number, so that values
    lie in [0, 1] and sum to 1 over the tokens. The maps have the largest grid among the selected blocks, or `size`
    (height, width), resized bilinearly. `evaluations` and `heads` are positions in the trace. Differentiable with respect
    to `embedding`; single precision (double for a trace in double precision), on the trace's device.

    `attention` is one of those that the model's family has, see `ovam.core.methods.Attention`; by default its first.
    `aggregation="automatic"` weighs blocks and heads by their part in the image's own generation, if the trace holds it; their
    weights are 1 on average.

    Raises `SelectionError`, `AttentionError`, `ContributionsNotKeptError`, and `InvalidArgumentError` for an embedding of another
    width.

    >>> embedding, tokens = ovam.encode(pipeline, "a cat")
    >>> maps = ovam.heatmaps(trace, embedding, size=(64, 96))
    >>> maps.shape, bool(torch.allclose(maps.sum(dim=0), torch.tensor(1.0)))
    (torch.Size([4, 64, 96]), True)
    """
    require_fitting(trace, embedding)
    require_aggregation(aggregation, trace)
    if trace.joint is not None:
        chosen = select_joint(trace, attention, blocks, evaluations, heads)
        return joint_reduced(chosen, embedding, reduction, size)
    family_named(trace.family).attention(attention)
    selected = select(trace, blocks, evaluations, heads, aggregation)
    return reduced(selected, embedding, reduction, size)


LEAST = 1e-30  # what the sum of maps that weigh nothing is divided by


@dataclass(frozen=True, eq=False)
class SplitHeatmaps:
    """Heatmaps part by part: of single blocks, evaluations or heads."""

    names: tuple[str, ...]
    """The parts: blocks by name, evaluations and heads by their position in the trace."""
    terms: tuple[float, ...]
    """How many attention maps each part sums up, each as often as it counts."""
    maps: Float[Tensor, "parts tokens height width"]
    """On the largest grid of all parts; the mean weighted by `terms`, for `reduction="sum"` the sum, is the heatmap."""


@checked
def split_heatmaps(  # noqa: PLR0913 - every choice of the method is one keyword
    trace: Trace,
    embedding: Float[Tensor, "tokens text_width"],
    by: Split,
    *,
    reduction: Reduction = "mean",
    blocks: Blocks = "all",
    evaluations: Positions | slice = "all",
    heads: Positions | slice = "all",
    attention: Attention | None = None,
    aggregation: Aggregation = "equal",
) -> SplitHeatmaps:
    """Compute `heatmaps` of every single block, evaluation or head that is selected.

    The n-th heads of all blocks form one part, to which a block with fewer heads adds nothing.
    """
    require_fitting(trace, embedding)
    require_aggregation(aggregation, trace)
    if trace.joint is not None:
        return _joint_split(select_joint(trace, attention, blocks, evaluations, heads), embedding, by, reduction)
    family_named(trace.family).attention(attention)
    selected = select(trace, blocks, evaluations, heads, aggregation)
    parts = parted(selected, by)
    maps = torch.stack([reduced(part, embedding, reduction, grid=largest_grid(selected)) for part in parts.values()])
    return SplitHeatmaps(tuple(parts), tuple(terms_of(part) for part in parts.values()), maps)


@checked
def word_heatmap(  # noqa: PLR0913 - every choice of the method is one keyword
    trace: Trace,
    pipeline: Pipeline,
    prompt: str,
    word: str,
    *,
    padding: Padding = "none",
    occurrence: int | None = None,
    reduction: Reduction = "mean",
    size: Size | None = None,
    blocks: Blocks = "all",
    evaluations: Positions | slice = "all",
    heads: Positions | slice = "all",
    attention: Attention | None = None,
    aggregation: Aggregation = "equal",
) -> Float[Tensor, "height width"]:
    """Compute the heatmap of a word or phrase of an attribution prompt: the mean of its tokens' maps.

    All occurrences of the word count, or with `occurrence` the n-th, from 0. The other arguments are those of `heatmaps`.

    Raises what `encode` and `heatmaps` raise, and `WordNotInPromptError`.

    >>> heat = ovam.word_heatmap(trace, pipeline, "a photograph of a cat", "cat", blocks="up")
    >>> heat.shape
    torch.Size([8, 12])
    """
    require_trace(trace)
    embedding, tokens = encode_for(trace, pipeline, [prompt], padding, attention)[0]
    rows = [token.index for token in word_tokens(tokens, prompt, word, occurrence=occurrence)]
    maps = heatmaps(
        trace,
        embedding,
        reduction=reduction,
        blocks=blocks,
        evaluations=evaluations,
        heads=heads,
        attention=attention,
        aggregation=aggregation,
    )
    mean = maps[rows].mean(dim=0, keepdim=True)
    return (mean if size is None else resize(mean, size))[0]


def _joint_split(
    selected: JointSelected, embedding: Float[Tensor, "tokens text_width"], by: Split, reduction: Reduction
) -> SplitHeatmaps:
    """Compute the heatmap of every part of a selection."""
    terms = selected.parts(by)
    (sums,) = joint_sums(selected, [embedding], by)
    maps = [sums[name] if reduction == "sum" else sums[name] / count for name, count in terms.items()]
    return SplitHeatmaps(tuple(terms), tuple(map(float, terms.values())), torch.stack(maps).unflatten(-1, selected.grid))


def joint_target_heatmaps(
    trace: Trace, targets: Sequence[tuple[Tensor, tuple[int, ...]]], methods: Sequence[Method], by: JointSplit | None = None
) -> list[SplitHeatmaps]:
    """Compute heatmaps of rows of embeddings, all with the selection of the first method, part by part; without `by` in one."""
    first = methods[0]
    selected = select_joint(trace, first.attention, first.blocks, first.evaluations, first.heads)
    texts = {id(embedding): embedding for embedding, _ in targets}
    sums = dict(zip(texts, joint_sums(selected, [*texts.values()], by), strict=True))
    terms, found = selected.parts(by), []
    for (embedding, rows), method in zip(targets, methods, strict=True):
        own = sums[id(embedding)]
        parts = [own[name][list(rows)].mean(dim=0) / (1 if method.reduction == "sum" else count) for name, count in terms.items()]
        maps = torch.stack(parts)[:, None].unflatten(-1, selected.grid)
        found.append(SplitHeatmaps(tuple(terms), tuple(map(float, terms.values())), maps))
    return found


def joint_reduced(
    selected: JointSelected,
    embedding: Float[Tensor, "tokens text_width"],
    reduction: Reduction,
    size: Size | None = None,
) -> Float[Tensor, "tokens height width"]:
    """Do as `reduced` does for a model whose pixels and text attend together."""
    if reduction not in get_args(Reduction):
        raise InvalidArgumentError("reduction", reduction, "'mean' or 'sum'")
    total = joint_sums(selected, [embedding])[0][""].unflatten(-1, selected.grid)
    maps = total if reduction == "sum" else total / selected.terms
    return maps if size is None else resize(maps, size)


def reduced(
    selected: Sequence[Selected],
    embedding: Float[Tensor, "tokens text_width"],
    reduction: Reduction,
    size: tuple[int, int] | None = None,
    grid: tuple[int, int] | None = None,
) -> Float[Tensor, "tokens height width"]:
    """Compute the sum or the mean of selected attention maps on `grid` (the largest without it), then resize them to `size`.

    A graph is kept only where the embedding asks for it.
    """
    if reduction not in get_args(Reduction):
        raise InvalidArgumentError("reduction", reduction, "'mean' or 'sum'")
    with torch.set_grad_enabled(torch.is_grad_enabled() and embedding.requires_grad):
        total = summed(selected, embedding, grid or largest_grid(selected), attention_sum)
        maps = total if reduction == "sum" else total / max(terms_of(selected), LEAST)
        return maps if size is None else resize(maps, size)


def require_fitting(trace: Trace, *embeddings: Tensor) -> None:
    """Raise `InvalidArgumentError` for embeddings of another width than the trace's, `TraceMismatchError` for other keys."""
    require_trace(trace)
    trace.require_same_keys()
    for embedding in embeddings:
        if embedding.ndim != 2 or embedding.shape[0] < 1 or embedding.shape[1] != trace.width:
            raise InvalidArgumentError("embedding", tuple(embedding.shape), f"(1 or more tokens, {trace.width})")
