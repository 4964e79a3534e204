"""What holds an aim back: ceilings and remedies, measured class by class on images of the tuning sets alone.

Some images of a class are learned from, the others are looked at. A ceiling is the score of what no method can have: masks of a
second annotator, the best map that a 16 x 16 grid allows, a token learned from the very image that it is then looked for in.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import binary_cross_entropy_with_logits, interpolate

import ovam
from experiments.evaluation import paper, scores
from experiments.evaluation.backends.competing import word_against
from experiments.evaluation.backends.heatmaps import TraceAnswers, required
from experiments.evaluation.backends.library import LibraryBackend, library
from experiments.evaluation.datasets import sets_of
from experiments.evaluation.lines import Line, by_dataset, counts_of, leakage, line_of, read_lines
from experiments.evaluation.measure import Measurement, at_every_threshold, counted, shows_others, warmth
from experiments.evaluation.report.remedies import (
    CLASS,
    GRID_CEILING,
    ITSELF,
    LATE_AGAINST_ALL,
    LATE_WORDS,
    MIXED,
    ONE,
    ONE_LATE,
    SCENES_TOKEN,
    SECOND,
)
from experiments.evaluation.scales import TUNING
from experiments.evaluation.settings import AFFINITY, GRID, LATE, MIN_MAX, PLAIN, Setting, shares
from experiments.evaluation.subjects import Mask, Subject
from experiments.evaluation.summary import rounded
from experiments.evaluation.targets import WORDS, photograph
from experiments.evaluation.tasks import Task
from experiments.evaluation.work import Place, as_text
from ovam import Method, Rows
from ovam.attention.scores import resize
from ovam.attention.targets import rows_of
from ovam.core.schedules import Cosine
from ovam.core.selection import Positions, Span
from ovam.core.thresholds import reaches

IMAGES, LEARNED = 4, 2
"""Of every class and set; so many of them are learned from."""
SOME, SOME_LATE = Span(2, step=5), Span(0.5, step=3)
"""Evaluations that are learned from: a few give the same tokens in a fraction of the time."""
WAYS: dict[str, Method] = {"min-max": MIN_MAX, "affinity 1": AFFINITY}
LOOKED_FOR = (WORDS, LATE_WORDS, LATE_AGAINST_ALL, ONE, ONE_LATE, SCENES_TOKEN, MIXED, CLASS, ITSELF)
TARGETS: dict[str, Positions] = {name: "all" if name in {WORDS, ONE} else LATE for name in LOOKED_FOR}
"""What is looked for, and in which evaluations."""


def token(examples: Sequence[Subject], backend: LibraryBackend, evaluations: Span = SOME_LATE) -> Rows:
    """Learn a token from images of one class."""
    pairs = [(required(one.trace).to(dtype=torch.float32), one.truth.mask) for one in examples]
    fit = ovam.optimize_tokens(
        pairs, examples[0].case.word, pipeline=backend.pipeline, optimizer="adam", learning_rate=0.5, epochs=60,
        schedule=Cosine(), evaluations=evaluations,
    )  # fmt: skip
    return Rows(fit.embedding)


def rows_of_class(backend: LibraryBackend, learned: Sequence[Subject], looked_at: Sequence[Subject]) -> dict[str, Rows]:
    """What is looked for in the images of a class."""
    word = looked_at[0].case.word
    (alone,) = rows_of(backend.pipeline, [photograph(word)], [PLAIN])
    against = word_against(backend.pipeline, word, tuple(backend.words.values()))
    found = {WORDS: alone, LATE_WORDS: alone, LATE_AGAINST_ALL: against, CLASS: token(looked_at, backend)}
    objects = [one for one in learned if one.case.dataset == TUNING[0]]
    scenes = [one for one in learned if one.case.dataset == TUNING[1]]
    if objects:
        found |= {ONE: token(objects[:1], backend, SOME), ONE_LATE: token(objects[:1], backend)}
    if scenes:
        found |= {SCENES_TOKEN: token(scenes, backend)}
    return found | {MIXED: token(learned, backend)} if learned else found


def best_map(mask: Mask, side: int) -> np.ndarray:
    """The map of a grid (side, side), made as large as the mask, that tells best what is inside of it."""
    inside = torch.from_numpy(mask.astype(np.float32))[None]
    start = interpolate(inside[None], size=(side, side), mode="area")[0].clamp(0.02, 0.98)
    logits = torch.logit(start).requires_grad_()
    optimizer = torch.optim.Adam([logits], lr=0.5)
    size = (mask.shape[0], mask.shape[1])
    for _ in range(40):
        optimizer.zero_grad()
        binary_cross_entropy_with_logits(resize(logits, size), inside).backward()
        optimizer.step()
    return resize(logits.detach(), size).sigmoid()[0].numpy()


def measured(subject: Subject, rows: Mapping[str, Rows], side: int) -> Line:
    """How the masks of everything overlap with the truth of an image, at every threshold; and how hot other things are."""
    where = {name: evaluations for name, evaluations in TARGETS.items() if name in rows}
    settings = [Setting(way, name, replace(method, evaluations=where[name])) for way, method in WAYS.items() for name in where]
    warm = [Setting("plain", name, replace(PLAIN, evaluations=where[name])) for name in where] if shows_others(subject) else []
    answers = TraceAnswers.of(subject, rows.__getitem__, [*settings, *warm])
    truth = subject.truth.mask
    counts = {one.key: counted(at_every_threshold(one, answers.heat(one), subject.image, {}), truth) for one in settings}
    best = best_map(truth, side)
    counts[GRID_CEILING] = counted(np.stack([reaches(best, share) for share in shares(GRID, "max")]), truth)
    if subject.truth.second is not None:
        counts[SECOND] = counted(subject.truth.second[None].repeat(len(GRID), axis=0), truth)
    return line_of(subject, Measurement(counts, {one.target: warmth(subject, answers.heat(one)) for one in warm}, {}))


def of_class(place: Place, class_name: str, images: int, learned: int) -> str:
    """Measure everything on a class's images, a line of JSON each."""
    backend = library(place.model, place.words)
    sets = sets_of(backend.world)
    cases = [case for name in TUNING for case in sets[name].cases(images, [class_name])]
    clear = [subject for subject in backend.generate(cases) if subject.clear]
    looked_at = [subject for subject in clear if subject.case.number >= learned]
    if not looked_at:
        return ""
    rows = rows_of_class(backend, [one for one in clear if one.case.number < learned], looked_at)
    side = backend.resolutions[0]
    return as_text(measured(one, rows | {ITSELF: token([one], backend)}, side) for one in looked_at)


def tasks(place: Place, work: Path, images: int = IMAGES, learned: int = LEARNED) -> list[Task]:
    """The measurement of every class of Table 2's columns."""
    names = [name for name, _ in place.words if name in paper.CLASSES]
    return [Task(work / f"{name}-{images}-{learned}.jsonl", 1, partial(of_class, place, name, images, learned)) for name in names]


def summed_up(lines: Sequence[Line]) -> dict[str, Any]:
    """The mIoU of everything at its best threshold on these images, and its leakage, by set."""
    found: dict[str, Any] = {}
    for name, of_set in by_dataset(lines).items():
        keys = dict.fromkeys(key for line in of_set for key in line["counts"])
        figures = {key: asdict(best(key, of_set)) for key in keys}
        found[name] = {"images": len(of_set), "miou": figures, "leakage": leakage(of_set)}
    return found


def best(key: str, lines: Sequence[Line]) -> scores.Interval:
    """The mIoU at the best threshold with its interval, on images where it was measured."""
    counts, classes = counts_of(key, lines)
    index = int(np.argmax([scores.mean_iou(counts[:, index], classes)[0] for index in range(counts.shape[1])]))
    return scores.score(counts[:, index], classes).miou


def write(done: Sequence[Task], source: Mapping[str, Any], path: Path) -> None:
    """Write the results of tasks and where they come from."""
    provenance = {**source, "classes": [task.path.name.partition("-")[0] for task in done]}
    found = summed_up(read_lines(task.path for task in done))
    path.write_text(json.dumps(rounded({"provenance": provenance, "sets": found}), indent=1) + "\n")
