"""Targets that compete: all of them in one softmax, so that what one claims of a pixel the others lose."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ovam.attention.targets import Rows, Words, plain_rows, rows_of
from ovam.core.methods import Method, Softmax
from ovam.errors import InvalidArgumentError
from ovam.tracing.keys import differ
from ovam.tracing.model import Pipeline
from ovam.tracing.trace import Trace


def rows_in_softmax(
    pipeline: Pipeline,
    targets: Sequence[Words | Rows],
    methods: Sequence[Method],
    softmax: Softmax,
    distractors: Sequence[Words | Rows] = (),
    clip_skip: int | None = None,
    trace: Trace | None = None,
) -> list[Rows]:
    """Find each target's rows in the embedding that its softmax is over: its own ("each"), or a joint one ("together").

    `clip_skip` and `trace` are as in `rows_of`. Raises what `rows_of` and `competing` raise, and `InvalidArgumentError` for
    "together" with an attention that the words of one prompt share already.
    """
    shared = next((method.attention for method in methods if method.attention in ("joint", "text")), None)
    if softmax == "together" and shared:
        raise InvalidArgumentError("softmax", softmax, f"'each' with attention {shared!r}, which all words of the prompt share")
    rows = rows_of(pipeline, [*targets, *distractors], [*methods, *[Method()] * len(distractors)], clip_skip, trace)
    wanted, others = rows[: len(targets)], rows[len(targets) :]
    return competing(wanted, others) if softmax == "together" else wanted


def competing(targets: Sequence[Rows], distractors: Sequence[Rows] = ()) -> list[Rows]:
    """Return the targets as rows of one joint embedding, over which their softmax is taken.

    The joint embedding E has the first row of every embedding, which is its background (the start token of words, the learned
    background of tokens), each once; then the selected rows R_i of every target and every distractor, equal ones once. With
    scores s_r(p) of row r at pixel p, the attention to target i is

        a_i(p) = mean over r in R_i of exp s_r(p) / (sum over r' in E of exp s_r'(p)),

    summed over blocks, evaluations and heads as usual (Eq. 5). Of a prompt's other tokens none takes part.

    Raises `InvalidArgumentError` for fewer than two that differ, or embeddings of different widths.
    """
    everything = [*targets, *distractors]
    if len({each.embedding.shape[1] for each in everything}) > 1:
        widths = [each.embedding.shape[1] for each in everything]
        raise InvalidArgumentError("targets", widths, "embeddings of one width")
    table: list[Tensor] = []
    for each in everything:
        first = plain_rows(each.embedding[0])
        if all(differ(first, known) for known in table):
            table.append(first)
    places: dict[bytes, int] = {}
    chosen: list[tuple[int, ...]] = []
    for each in everything:
        rows = [plain_rows(each.embedding[row]) for row in each.chosen]
        for row in rows:
            if places.setdefault(row.numpy().tobytes(), len(table)) == len(table):
                table.append(row)
        chosen.append(tuple(places[row.numpy().tobytes()] for row in rows))
    if len({*chosen}) < 2:
        raise InvalidArgumentError("softmax", "together", "two or more different targets and distractors, or 'each'")
    joint = torch.stack(table)
    families = [each.family for each in everything if each.family is not None]
    return [Rows(joint, rows, next(iter(families), None)) for rows in chosen[: len(targets)]]
