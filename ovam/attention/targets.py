"""What is looked for in an image, and the heatmap of each target by its own method."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ovam.attention.aggregation import require_aggregation
from ovam.attention.backends import exact_type, fused_for
from ovam.attention.heatmaps import LEAST, SplitHeatmaps, joint_target_heatmaps, require_fitting
from ovam.attention.joint import JointSplit, encode_for
from ovam.attention.scores import Selected, largest_grid, parted, select, summed, terms_of
from ovam.attention.sums import MapWeights, target_sums, text_sums
from ovam.attention.text import encode_each, word_tokens
from ovam.attention.tokens import Encoded, Token
from ovam.core.methods import Attention, Method, Padding
from ovam.core.settings import Checked, check
from ovam.errors import EmbeddingNotFiniteError, InvalidArgumentError, TokenFamilyError, WordNotInPromptError
from ovam.tracing.families import family_named
from ovam.tracing.model import Pipeline
from ovam.tracing.trace import Trace

Parting = Callable[[Sequence[Selected]], Mapping[str, list[Selected]]]
"""Another way to part a selection, into disjoint parts by name."""
# Rows attended to at a time: the scores of one evaluation for so many are 84 MB in SDXL's largest block.
_ROWS_AT_A_TIME = 512
NOT_FINITE = "an embedding holds values that are no numbers, or too large for the model's attention"


@dataclass(frozen=True)
class Words(Checked):
    """A word or phrase of an attribution prompt as a target; without a word, all words of the prompt.

    >>> ovam.Words("a cat and a dog", "dog")
    Words(prompt='a cat and a dog', word='dog', occurrence=None)
    """

    prompt: str
    word: str | None = None
    occurrence: int | None = None
    """The n-th occurrence of the word, from 0; `None` for all."""


def require_matrix(name: str, embedding: object) -> None:
    """Raise `InvalidArgumentError` for what is no tensor of rows."""
    if not isinstance(embedding, Tensor):
        raise InvalidArgumentError(name, embedding, "a tensor of (rows, text_width)")
    if embedding.ndim != 2:
        raise InvalidArgumentError(name, tuple(embedding.shape), "(rows, text_width)")


def photograph_of(word: str) -> Words:
    """Return the target of a plain word: that word in "a photograph of a <word>"."""
    return Words(f"a photograph of a {word}", word)


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows of an embedding as a target: their maps are averaged. Without `rows`, all but the first, the background's.

    >>> embedding, tokens = ovam.encode(pipeline, "a cat")
    >>> ovam.Rows(embedding, rows=(2,)).chosen
    (2,)
    """

    embedding: Float[Tensor, "tokens text_width"]
    rows: tuple[int, ...] | None = None
    family: str | None = None
    """The family of models that the rows were learned with; `None` where that is unknown."""

    def __post_init__(self) -> None:
        """Raise `InvalidArgumentError` for an embedding that is no matrix, and for rows that are no positions."""
        require_matrix("embedding", self.embedding)
        check("rows", self.rows, tuple[int, ...] | None)

    @property
    def chosen(self) -> tuple[int, ...]:
        """The selected rows. Raises `InvalidArgumentError` for none, or one that is not there."""
        count = self.embedding.shape[0]
        rows = tuple(range(1, count)) if self.rows is None else self.rows
        if not rows or not all(0 <= row < count for row in rows):
            raise InvalidArgumentError("rows", rows, f"one or more of 0 to {count - 1}")
        return rows


def rows_of(
    pipeline: Pipeline,
    targets: Sequence[Words | Rows],
    methods: Sequence[Method],
    clip_skip: int | None = None,
    trace: Trace | None = None,
) -> list[Rows]:
    """Find each target's rows, its prompt padded by its method; `clip_skip` is the trace's.

    `trace` is needed where pixels and text attend together: its prompt has rows of its own.

    Prompts are encoded together, and one that several targets share is encoded once.

    Raises what `encode` and `word_tokens` raise.
    """
    pairs = [*zip(targets, methods, strict=True)]
    asked = {(target.prompt, method.padding, method.attention) for target, method in pairs if isinstance(target, Words)}
    encoded: dict[tuple[str, Padding, Attention | None], Encoded] = {}
    for padding, attention in sorted({(padding, attention) for _, padding, attention in asked}, key=str):
        prompts = sorted(prompt for prompt, *other in asked if other == [padding, attention])
        if trace is None:
            found = encode_each(pipeline, prompts, padding=padding, clip_skip=clip_skip)
        else:
            found = encode_for(trace, pipeline, prompts, padding, attention)
        for prompt, each in zip(prompts, found, strict=True):
            encoded[prompt, padding, attention] = each
    return [
        _rows_of_words(target, *encoded[target.prompt, method.padding, method.attention]) if isinstance(target, Words) else target
        for target, method in pairs
    ]


def target_heatmaps(trace: Trace, targets: Sequence[Rows], methods: Sequence[Method]) -> list[Float[Tensor, "_ _"]]:
    """Compute each target's heatmap by its own method, on the largest grid of the method's blocks.

    It is the mean of the rows' `heatmaps`. Targets of one selection are done together: the queries are
    read once, and a row that several embeddings share is attended to once.

    Raises `EmbeddingNotFiniteError` for rows that are no numbers or too large for the model, and what `heatmaps` raises.
    """
    require_fitting(trace, *(target.embedding for target in targets))
    found: dict[int, Tensor] = {}
    require_family(trace, targets, methods)
    for numbers in _together(targets, methods):
        method = methods[numbers[0]]
        if trace.joint is not None:
            found |= {number: maps.maps[0, 0] for number, maps in _joint_maps(trace, numbers, targets, methods).items()}
            continue
        selected = select(trace, method.blocks, method.evaluations, method.heads, method.aggregation)
        some = [targets[number] for number in numbers]
        maps = _mean_maps(some, selected, largest_grid(selected), _weighted(some))
        for number, one in zip(numbers, maps, strict=True):
            found[number] = one if methods[number].reduction == "sum" else one / terms_of(selected)
    return [found[number] for number in range(len(targets))]


def split_target_heatmaps(
    trace: Trace, targets: Sequence[Rows], methods: Sequence[Method], by: JointSplit | Parting
) -> list[SplitHeatmaps]:
    """Compute the parts of each target's heatmap, see `split_heatmaps`: maps of (parts, 1, height, width)."""
    require_fitting(trace, *(target.embedding for target in targets))
    if network := next((method.network for method in methods if method.network is not None), None):
        raise InvalidArgumentError("by", by, f"nothing with the network {network!r}, whose heat is no attention")
    found: dict[int, SplitHeatmaps] = {}
    require_family(trace, targets, methods)
    for numbers in _together(targets, methods):
        if trace.joint is not None:
            if callable(by):
                raise InvalidArgumentError("by", by, "a name where pixels and text attend together")
            found |= _joint_maps(trace, numbers, targets, methods, by)
            continue
        if by == "halves":
            raise InvalidArgumentError("by", by, "'block', 'evaluation', 'head', or what parts a selection")
        method, some = methods[numbers[0]], [targets[number] for number in numbers]
        selected = select(trace, method.blocks, method.evaluations, method.heads, method.aggregation)
        parts = by(selected) if callable(by) else parted(selected, by)
        laid = _weighted(some)
        sums = torch.stack([_mean_maps(some, part, largest_grid(selected), laid) for part in parts.values()], dim=1)
        counts = [terms_of(part) for part in parts.values()]
        terms = torch.tensor(counts, device=sums.device)
        for number, maps in zip(numbers, sums, strict=True):
            scaled = maps if methods[number].reduction == "sum" else maps / terms[:, None, None].clamp_min(LEAST)
            found[number] = SplitHeatmaps(tuple(parts), tuple(counts), scaled[:, None])
    return [found[number] for number in range(len(targets))]


def require_family(trace: Trace, targets: Sequence[Rows], methods: Sequence[Method]) -> None:
    """Raise `AttentionError` for an attention that the model lacks, `TokenFamilyError` for tokens of another family.

    `InvalidArgumentError` for an aggregation that the model has not.
    """
    family = family_named(trace.family)
    for target, method in zip(targets, methods, strict=True):
        family.attention(method.attention)
        require_aggregation(method.aggregation, trace)
        if target.family is not None and target.family != family.name:
            raise TokenFamilyError(f"a token that was learned with {target.family} is looked for in an image of {family.name}")


def _joint_maps(
    trace: Trace, numbers: Sequence[int], targets: Sequence[Rows], methods: Sequence[Method], by: JointSplit | None = None
) -> dict[int, SplitHeatmaps]:
    """Compute heatmaps of targets of one selection where pixels and text attend together, part by part."""
    rows = [(targets[number].embedding, targets[number].chosen) for number in numbers]
    with torch.no_grad():
        found = joint_target_heatmaps(trace, rows, [methods[number] for number in numbers], by)
    if not all(bool(each.maps.isfinite().all()) for each in found):
        raise EmbeddingNotFiniteError(NOT_FINITE)
    return dict(zip(numbers, found, strict=True))


def _together(targets: Sequence[Rows], methods: Sequence[Method]) -> list[list[int]]:
    """Group targets of one selection, as many as fit; an embedding that several of them have counts once."""
    groups: list[list[int]] = []
    latest: dict[str, tuple[list[int], dict[int, int]]] = {}
    for number, (target, method) in enumerate(zip(targets, methods, strict=True)):
        selection = str((method.attention, method.blocks, method.evaluations, method.heads, method.aggregation))
        group, sizes = latest.get(selection, ([], {}))
        own, rows = id(target.embedding), len(target.embedding)
        if not group or (own not in sizes and sum(sizes.values()) + rows > _ROWS_AT_A_TIME):
            group, sizes = [], {}
            groups.append(group)
        group.append(number)
        latest[selection] = group, sizes | {own: rows}
    return groups


_Laid = tuple[Float[Tensor, "rows text_width"], list[int], Float[Tensor, "sums rows"]]
"""The rows of several texts side by side, see `_weighted`."""


def _mean_maps(
    targets: Sequence[Rows], selected: Sequence[Selected], size: tuple[int, int], laid: _Laid
) -> Float[Tensor, "targets height width"]:
    """Sum the mean attention to each target's rows, which are `laid` side by side, over the selected attention maps.

    A softmax does not change when the score of the first row, the start token's, is subtracted from all scores of a text.
    Texts that begin alike can then share their exponentials, and a target's attention is the ratio of two weighted sums of
    them. Where an exponential overflows, at a score 88 above the first, every text gets a softmax of its own.
    """
    rows, firsts, weights = laid
    queries_of_one = selected[0].block.queries
    weights = weights.to(queries_of_one.device, exact_type(queries_of_one))
    largest: list[Tensor] = []

    def attend(queries: Tensor, keys: Tensor, of_maps: MapWeights) -> Tensor:
        sums, most = target_sums(queries, keys - keys[:, firsts], weights, of_maps)
        largest.append(most)
        return sums

    with torch.no_grad():
        if fused_for(queries_of_one, max(len(target.embedding) for target in targets)):
            maps = _own_maps(targets, selected, size)
        else:
            maps = summed(selected, rows, size, attend)
            if not torch.stack(largest).isfinite().all():
                maps = _own_maps(targets, selected, size)
    if not maps.isfinite().all():
        raise EmbeddingNotFiniteError(NOT_FINITE)
    return maps


def _own_maps(
    targets: Sequence[Rows], selected: Sequence[Selected], size: tuple[int, int]
) -> Float[Tensor, "targets height width"]:
    """Do as `_mean_maps` does with a softmax for each text: no power can overflow, but texts share none."""
    texts = list({id(target.embedding): target.embedding for target in targets}.values())
    starts = dict(zip(map(id, texts), np.cumsum([0, *map(len, texts)]).tolist(), strict=False))
    means = torch.zeros(len(targets), sum(map(len, texts)))
    for mean, target in zip(means, targets, strict=True):
        for row in target.chosen:
            mean[starts[id(target.embedding)] + row] += 1 / len(target.chosen)

    def attend(queries: Tensor, keys: Tensor, of_maps: MapWeights) -> Tensor:
        return means.to(queries.device, exact_type(queries)) @ text_sums(queries, keys, [*map(len, texts)], of_maps)

    return summed(selected, torch.cat([plain_rows(text) for text in texts]), size, attend)


def _weighted(targets: Sequence[Rows]) -> _Laid:
    """Lay the rows of all texts side by side, equal ones once.

    Returns the rows; for each the first row of its text; and the weights of their exponentials: for each target a line that
    averages the selected ones, then for each a line that sums all.
    """
    places: dict[tuple[bytes, bytes], int] = {}
    rows: list[Tensor] = []
    members: list[list[int]] = []
    for target in targets:
        table = plain_rows(target.embedding)
        values = [row.tobytes() for row in table.numpy()]
        for value, row in zip(values, table, strict=True):
            if places.setdefault((values[0], value), len(rows)) == len(rows):
                rows.append(row)
        members.append([places[values[0], value] for value in values])
    weights = np.zeros((2, len(targets), len(rows)), dtype=np.float32)
    for number, (target, own) in enumerate(zip(targets, members, strict=True)):
        np.add.at(weights[0, number], [own[row] for row in target.chosen], 1 / len(target.chosen))
        np.add.at(weights[1, number], own, 1)
    return torch.stack(rows), [places[first, first] for first, _ in places], torch.from_numpy(weights).flatten(0, 1)


def plain_rows(embedding: Float[Tensor, "*rows text_width"]) -> Float[Tensor, "*rows text_width"]:
    """Return an embedding, or a row of one, on the CPU, in single precision at least."""
    return embedding.detach().to("cpu", torch.promote_types(embedding.dtype, torch.float32))


def _rows_of_words(target: Words, embedding: Float[Tensor, "tokens text_width"], tokens: tuple[Token, ...]) -> Rows:
    """Find a target's words in its prompt."""
    if target.word is None:
        rows = tuple(token.index for token in tokens if token.span is not None)
        if not rows:
            raise WordNotInPromptError(f"there is no word in prompt {target.prompt!r}")
        return Rows(embedding, rows)
    found = word_tokens(tokens, target.prompt, target.word, occurrence=target.occurrence)
    return Rows(embedding, tuple(token.index for token in found))
