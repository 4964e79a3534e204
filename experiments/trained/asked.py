"""What a trained network finds when it is asked for a class by other rows than its word's, on images of one class."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cosine_similarity

from experiments.evaluation.backends.heatmaps import required
from experiments.evaluation.backends.library import LibraryBackend, library, token_of
from experiments.evaluation.datasets import sets_of
from experiments.evaluation.lines import Line, line_of
from experiments.evaluation.measure import Measurement, counted
from experiments.evaluation.recipes import PUBLISHED_RECIPE
from experiments.evaluation.report.reasons import MEAN, OF_CLASS, OF_IMAGE, OTHER, SAME, SCALED, SHARES, TOKEN, WORD, share
from experiments.evaluation.scales import REPORTING, TUNING
from experiments.evaluation.subjects import Mask, Subject
from experiments.evaluation.work import Place, as_text, read_learned
from experiments.trained import teacher
from experiments.trained.commands import rows_of
from experiments.trained.renders import asked_on_renders
from experiments.trained.taught import GROUNDED, Workshop, networks
from ovam.attention.targets import photograph_of
from ovam.trained.grounded_diffusion import GroundedDiffusion
from ovam.trained.networks import Network
from ovam.trained.pyramid import pyramid

STEPS, RATE = 60, 0.05
"""Of Adam, with which a row is learned; entries of a row are about 1."""
LEVEL = 0.5  # of a network's probability, as published

Row = Float[Tensor, " text_width"]


@dataclass(frozen=True, eq=False)
class Texts:
    """Rows of a class and of all others, as a network takes them."""

    word: Row
    token: Row
    words: Float[Tensor, "classes text_width"]
    number: int

    @property
    def other(self) -> Row:
        """The word of the next class."""
        return self.words[(self.number + 1) % len(self.words)]

    def rows(self) -> dict[str, Row]:
        """Everything that is asked for, by its name, but for what is learned."""
        way = {share(part): self.word + part * (self.token - self.word) for part in SHARES}
        scaled = self.token * self.word.norm() / self.token.norm()
        return {WORD: self.word, **way, TOKEN: self.token, SCALED: scaled, OTHER: self.other, MEAN: self.words.mean(dim=0)}


def texts_of(backend: LibraryBackend, network: Network, workshop: Workshop, class_name: str) -> Texts:
    """The rows of a class."""
    fit = read_learned(workshop.tokens)[PUBLISHED_RECIPE, class_name]
    word = network.row(backend.pipeline, photograph_of(backend.words[class_name]))
    token = network.row(backend.pipeline, token_of(fit, class_name))
    return Texts(word, token, rows_of(network, backend.pipeline), teacher.VOC.index(class_name))


def learned(network: Network, examples: Sequence[Subject], start: Row) -> Row:
    """The row by which Grounded Diffusion finds best what is annotated in images, from another row on."""
    module = network.module
    if not isinstance(module, GroundedDiffusion):
        raise TypeError(module)
    seen = [pyramid(required(one.trace), network.card.blocks) for one in examples]
    levels = [torch.stack(several) for several in zip(*seen, strict=True)]
    truth = torch.from_numpy(np.stack([one.truth.mask for one in examples])).float()[:, None]
    row, best = start.clone().requires_grad_(), (float("inf"), start)
    optimizer = torch.optim.Adam([row], lr=RATE)
    for _ in range(STEPS):
        logits = module(levels, row.expand(len(examples), 1, -1), truth.shape[-2:])
        loss = binary_cross_entropy_with_logits(logits, truth)
        best = min(best, (loss.item(), row.detach().clone()), key=lambda each: each[0])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return best[1]


def geometry(texts: Texts) -> dict[str, float]:
    """Where a token lies among the words that a network learned from."""
    seen = torch.stack([texts.words[teacher.VOC.index(name)] for name in teacher.seen_of(1) if name != teacher.VOC[texts.number]])
    near = cosine_similarity(texts.words, texts.word[None])
    return {
        "length of the word": float(texts.word.norm()),
        "length of the token": float(texts.token.norm()),
        "cosine of token and word": float(cosine_similarity(texts.token, texts.word, dim=0)),
        "cosine of two words": float((near.sum() - near.max()) / (len(near) - 1)),
        "word outside of the other words": outside(texts.word, seen),
        "token outside of the other words": outside(texts.token, seen),
    }


def outside(row: Row, others: Float[Tensor, "classes text_width"]) -> float:
    """Which share of a row's distance from the others' mean lies in directions in which they do not differ."""
    centre = others.mean(dim=0)
    basis = torch.linalg.svd(others - centre, full_matrices=False).Vh[: len(others) - 1]
    away = row - centre
    return float((away - basis.T @ (basis @ away)).norm() ** 2 / away.norm() ** 2)


@cache
def ready(place: Place, workshop: Workshop) -> tuple[LibraryBackend, Mapping[str, Network]]:
    """The backend and the networks of this process."""
    backend = library(place.model, place.words)
    return backend, networks(backend.pipeline, workshop)


def of_renders(place: Place, workshop: Workshop) -> str:
    """Ask the bundled networks for either of two things in renders; a line of JSON for each."""
    return as_text(asked_on_renders(library(place.model, place.words), workshop))


def of_class(place: Place, workshop: Workshop, class_name: str, images: int, examples: int) -> str:
    """Ask all networks for a class in its first images of both sets; a line of JSON for each image."""
    backend, known = ready(place, workshop)
    sets = sets_of(backend.world)

    def clear(names: Sequence[str], count: int) -> list[Subject]:
        return [one for name in names for one in backend.generate(sets[name].cases(count, [class_name])) if one.clear]

    annotated, found = clear(TUNING, examples), list[Line]()
    rows: dict[str, dict[str, Row]] = {}
    for name, network in known.items():
        texts = texts_of(backend, network, workshop, class_name)
        rows[name] = texts.rows()
        if name == GROUNDED and annotated:
            rows[name][OF_CLASS] = learned(network, annotated, texts.word)
    where = geometry(texts_of(backend, known[GROUNDED], workshop, class_name))
    for subject in clear(REPORTING, images):
        counts = {key: counted(mask[None], truth) for key, mask, truth in answers(subject, known, rows)}
        found.append(line_of(subject, Measurement(counts, {}, {})) | {"rows": where})
    return as_text(found)


def answers(
    subject: Subject, known: Mapping[str, Network], rows: Mapping[str, Mapping[str, Row]]
) -> Iterator[tuple[str, Mask, Mask]]:
    """The mask of every network and row, by its key, and what it is compared with."""
    for name, network in known.items():
        asked = dict(rows[name])
        if name == GROUNDED:
            asked[OF_IMAGE] = learned(network, [subject], asked[WORD])
        masks = {what: mask_of(network, subject, row) for what, row in asked.items()}
        for what, mask in masks.items():
            yield f"{name} | {what}", mask, subject.truth.mask
        yield f"{name} | {SAME}", masks[OTHER], masks[WORD]


def mask_of(network: Network, subject: Subject, row: Row) -> Mask:
    """Where a network finds what a row asks for."""
    return network.heat(required(subject.trace), row).numpy() >= LEVEL
