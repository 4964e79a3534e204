"""Trained networks on renders of two things, whose masks are exact.

Does a network find what it is asked for, or all there is? Grounded Diffusion has learned from these very renders, so that nothing
is new to it here but the row that asks.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from experiments.evaluation.backends.library import LibraryBackend, token_of
from experiments.evaluation.measure import counted
from experiments.evaluation.recipes import PUBLISHED_RECIPE
from experiments.evaluation.report.reasons import (
    BOTH_THINGS,
    GROUNDED,
    OF_IMAGE,
    OTHER_THING,
    PERCEIVING,
    SAME_THINGS,
    TOKEN,
    WORD,
)
from experiments.evaluation.subjects import Mask
from experiments.evaluation.work import read_learned
from experiments.trained import teacher
from experiments.trained.cache import Cached
from experiments.trained.commands import rows_of
from experiments.trained.taught import Workshop, grounded_examples, scenes, some
from ovam.trained.grounded_diffusion import GroundedDiffusion
from ovam.trained.networks import Network, network_of

RENDERS, LEARNED = 60, 20
"""Renders of two things, and those of them for which a row is learned."""
STEPS, RATE = 60, 0.05
LEVEL = 0.5
Rows = Float[Tensor, "rows text_width"]
Line = dict[str, Any]


def asked_on_renders(backend: LibraryBackend, workshop: Workshop) -> list[Line]:
    """What both networks find, a line for each render and network."""
    pipeline, found = backend.pipeline, list[Line]()
    examples: Mapping[str, Callable[..., Cached]] = {GROUNDED: grounded_examples, PERCEIVING: scenes}
    for name, make in examples.items():
        network, cached = network_of(pipeline, name), make(pipeline, workshop)
        two = some(cached, torch.nonzero(cached.classes[:, 1] >= 0).flatten()[:RENDERS])
        words, tokens = rows_of(network, pipeline), tokens_of(backend, network, workshop)
        best = best_rows(network.module, two, words) if isinstance(network.module, GroundedDiffusion) else None
        for number in range(len(two)):
            counts = dict(asked(network, two, number, words, tokens, best))
            found.append({"network": name, "class_name": teacher.VOC[int(two.classes[number, 0])], "counts": counts})
    return found


def tokens_of(backend: LibraryBackend, network: Network, workshop: Workshop) -> Rows:
    """The token of every class."""
    fits = read_learned(workshop.tokens)
    return torch.stack([network.row(backend.pipeline, token_of(fits[PUBLISHED_RECIPE, name], name)) for name in teacher.VOC])


def asked(
    network: Network, two: Cached, number: int, words: Rows, tokens: Rows, best: Rows | None
) -> Iterator[tuple[str, list[int]]]:
    """How far masks of a render overlap with what they are compared with, by what was asked for."""
    levels = [level[number].float() for level in two.levels]
    first, second = (int(one) for one in two.classes[number])
    truth, other = (mask.numpy() for mask in two.masks[number])

    def mask(row: Tensor) -> Mask:
        with torch.no_grad():
            return network.module.probability(levels, row, truth.shape).numpy() >= LEVEL

    own, others = mask(words[first]), mask(words[second])
    compared = {
        WORD: (own, truth),
        TOKEN: (mask(tokens[first]), truth),
        OTHER_THING: (others, truth),
        BOTH_THINGS: (own, truth | other),
        SAME_THINGS: (own, others),
    }
    if best is not None and number < len(best):
        compared[OF_IMAGE] = mask(best[number]), truth
    for what, (one, against) in compared.items():
        yield what, np.squeeze(counted(one[None], against)).tolist()


def best_rows(module: GroundedDiffusion, two: Cached, words: Rows) -> Rows:
    """For each of some renders the row that finds its first thing best, from the word on; it has seen the exact mask."""
    levels, truth = [level[:LEARNED].float() for level in two.levels], two.masks[:LEARNED, :1].float()
    rows = words[two.classes[:LEARNED, 0]].clone().requires_grad_()
    optimizer = torch.optim.Adam([rows], lr=RATE)
    for _ in range(STEPS):
        optimizer.zero_grad()
        binary_cross_entropy_with_logits(module(levels, rows[:, None], truth.shape[-2:]), truth).backward()
        optimizer.step()
    return rows.detach()
