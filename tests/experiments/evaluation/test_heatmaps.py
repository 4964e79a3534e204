"""The heat of many settings, attended to once, is the library's for each."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import ovam
from experiments.evaluation.backends.heatmaps import TraceAnswers, heatmap, parts_of, required
from experiments.evaluation.backends.library import LibraryBackend
from experiments.evaluation.measure import at_every_threshold
from experiments.evaluation.settings import PLAIN, Setting
from experiments.evaluation.subjects import Subject
from experiments.evaluation.targets import AGAINST_ALL, AGAINST_SCENE, WORDS, photograph
from ovam import Method, Rows
from ovam.attention.targets import target_heatmaps
from ovam.core.crf import CrfParameters
from ovam.core.methods import ByAffinity, ByAttention, ByBoth
from ovam.core.selection import Blocks, Positions, Span
from ovam.core.thresholds import Share
from ovam.learning.initial import initial_tokens

SELECTIONS: list[tuple[Blocks, Positions]] = [
    ("all", "all"),
    ((16,), 7),
    ((8,), Span(stop=3)),
    ("all", 0.5),
    ("all", Span(start=-5)),
]


@pytest.mark.parametrize(("blocks", "evaluations"), SELECTIONS)
def test_sums_over_resolutions_and_evaluations_are_the_librarys_heatmaps(
    backend: LibraryBackend, scene: Subject, blocks: Blocks, evaluations: Positions
) -> None:
    trace, method = required(scene.trace), Method(blocks=blocks, evaluations=evaluations)
    embedding, _ = ovam.encode(backend.pipeline, "a photograph of a house")
    target = Rows(embedding, (4, 5))
    (parts,) = parts_of(trace, [target])
    (whole,) = target_heatmaps(trace, [target], [method])
    assert torch.allclose(heatmap(parts, trace, method), whole, atol=1e-6)


METHODS = {
    "plain": Method(threshold=Share(0.5)),
    "min-max": Method(threshold=Share(0.3, "minmax")),
    "weighted": Method(refine=ByAttention(0.5, -1), threshold=Share(0.7)),
    "spread": Method(refine=ByAffinity(2), threshold=Share(0.4, "minmax")),
    "all of it": Method(refine=ByBoth(), threshold=Share(0.6), crf=CrfParameters()),
}


@pytest.mark.parametrize("name", METHODS)
def test_the_masks_of_a_setting_are_those_of_ovam_segment(backend: LibraryBackend, scene: Subject, name: str) -> None:
    rows, method = Rows(initial_tokens(backend.pipeline, "house"), (1,)), METHODS[name]
    setting = Setting("one", "tokens", method)
    answers = TraceAnswers.of(scene, lambda _: rows, [setting])
    expected = ovam.segment(required(scene.trace), backend.pipeline, rows, method, scene.image)
    assert np.allclose(answers.heat(setting), expected.heatmap, atol=1e-5)
    assert (answers.mask(setting) != expected.mask).mean() < 0.002
    at_one = replace(setting, tuned=False)
    assert np.array_equal(at_every_threshold(at_one, answers.heat(setting), scene.image, {})[0], answers.mask(setting))


def test_a_sweep_cuts_at_every_fraction_of_the_maximum(scene: Subject) -> None:
    setting = Setting("one", "words", PLAIN)
    masks = at_every_threshold(setting, np.arange(16.0).reshape(4, 4), scene.image, {})
    found = dict(zip(setting.grid, masks, strict=True))
    assert [int(found[tau].sum()) for tau in (0.2, 0.5, 0.98)] == [13, 8, 1]


def test_words_that_compete_are_those_of_ovam_segment(backend: LibraryBackend, scene: Subject) -> None:
    setting = Setting("plain", AGAINST_ALL, PLAIN)
    heat = backend.answers(scene, {}, masks=[setting], heats=[]).heat(setting)
    others = [photograph(word) for word in backend.words.values() if word != scene.case.word]
    target = photograph(scene.case.word)
    expected = ovam.segment(required(scene.trace), backend.pipeline, target, PLAIN, softmax="together", distractors=others)
    assert np.allclose(heat, expected.heatmap, atol=1e-5)


def test_a_word_without_others_competes_with_none(backend: LibraryBackend, scene: Subject) -> None:
    alone = replace(scene, case=replace(scene.case, others=()))
    settings = [Setting("plain", target, PLAIN) for target in (AGAINST_SCENE, WORDS)]
    answers = backend.answers(alone, {}, masks=settings, heats=[])
    assert np.array_equal(*(answers.heat(setting) for setting in settings))
