"""How sure a mask is: halves of the attention are what they are said to be, and calibrations what regression makes of them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from hypothesis import given
from hypothesis import strategies as st

import ovam
from ovam import Method
from ovam.attention.halves import grouped, halved_target_heatmaps
from ovam.attention.scores import resize, select, terms_of
from ovam.attention.targets import Rows, rows_of, target_heatmaps
from ovam.core.confidence import Calibration, Confidence, calibrated, confidence_of, rising
from ovam.core.methods import ByAffinity, Reduction
from ovam.core.thresholds import Absolute, Share
from ovam.errors import InvalidArgumentError

PLAIN = Method(threshold=Share(0.5, "minmax"))
CURVE = Calibration((0.2, 0.8), (0.1, 0.7))


@pytest.fixture(scope="module")
def rows(pipeline: StableDiffusionPipeline) -> Rows:
    (found,) = rows_of(pipeline, [ovam.Words("a photograph of a cat", "cat")], [PLAIN])
    return found


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_halves_are_heatmaps_of_half_the_attention_and_the_whole_is_all_of_it(
    trace: ovam.Trace, rows: Rows, reduction: Reduction
) -> None:
    method = replace(PLAIN, reduction=reduction)
    (found,) = halved_target_heatmaps(trace, [rows], [method])
    (whole,) = target_heatmaps(trace, [rows], [method])
    torch.testing.assert_close(found.whole, whole, rtol=1e-5, atol=1e-7)
    names, grid = [block.name for block in trace.blocks], (found.whole.shape[0], found.whole.shape[1])
    everything = terms_of(select(trace, "all", "all", "all"))
    unit = everything if reduction == "sum" else 1
    early, late, lower, upper, first, last = found.halves
    halves = {"evaluations": ((early, (0,)), (late, (1, 2))), "blocks": ((first, names[:4]), (last, names[4:]))}
    for setting, sides in halves.items():
        for half, chosen in sides:
            (alone,) = target_heatmaps(trace, [rows], [replace(PLAIN, **{setting: chosen})])
            torch.testing.assert_close(half, resize(alone[None], grid)[0] * unit, rtol=1e-5, atol=1e-6)
    below = sum(block.heads // 2 for block in trace.blocks) * len(trace.evaluations) / everything
    torch.testing.assert_close(lower * below + upper * (1 - below), whole, rtol=1e-5, atol=1e-6)


def test_every_attention_map_is_in_one_group(trace: ovam.Trace) -> None:
    selected = select(trace, "all", "all", "all")
    groups = grouped(selected)
    assert len(groups) == 8
    taken = [(one.block.name, e, h) for group in groups.values() for one in group for e in one.evaluations for h in one.heads]
    assert len(set(taken)) == len(taken) == terms_of(selected)


def test_halves_that_are_alike_agree_entirely_and_a_single_map_says_nothing(trace: ovam.Trace, rows: Rows) -> None:
    block = trace.blocks[0]
    same = replace(trace, blocks=(replace(block, queries=block.queries[:1].expand_as(block.queries).contiguous()),))
    method = replace(PLAIN, heads=0)
    assert ovam.segment(same, None, [rows], method, confidence=True)[0].confidence == Confidence(1.0, 1.0, calibrated=False)
    alone = replace(method, evaluations=0)
    assert ovam.segment(same, None, [rows], alone, confidence=True)[0].confidence is None
    assert ovam.segment(same, None, [rows], method)[0].confidence is None


def test_a_segment_is_as_it_is_without_the_question_and_its_calibration_is_used(
    pipeline: StableDiffusionPipeline, rows: Rows
) -> None:
    with ovam.capture(pipeline, self_attention=True) as traces:
        pipeline("a cat", height=64, width=96, num_inference_steps=2, output_type="latent")
    method = replace(PLAIN, refine=ByAffinity())
    plain, sure, expected = (ovam.segment(traces[0], pipeline, rows, method, confidence=asked) for asked in (False, True, CURVE))
    np.testing.assert_allclose(sure.heatmap, plain.heatmap, atol=1e-4)
    assert sure.confidence is not None
    assert expected.confidence is not None
    agreement = sure.confidence.agreement
    assert 0 < agreement < 1
    assert expected.confidence == Confidence(CURVE.iou_at(agreement), agreement, calibrated=True)


def test_agreement_is_the_mean_iou_with_the_mask_and_an_empty_mask_has_none() -> None:
    mask, half, empty = np.array([[1, 1, 0]], bool), np.array([[1, 0, 0]], bool), np.zeros((1, 3), bool)
    assert confidence_of(mask, [mask, half, empty]) == Confidence(0.5, 0.5, calibrated=False)
    assert confidence_of(mask, [mask, half, empty], CURVE) == Confidence(0.4, 0.5, calibrated=True)
    assert confidence_of(empty, [empty, half], CURVE) == Confidence(0.0, 0.0, calibrated=True)
    assert confidence_of(mask, []) is None


def test_an_absolute_level_cuts_halves_as_it_cuts_the_whole(trace: ovam.Trace, rows: Rows) -> None:
    method = Method(threshold=Absolute(1e-9), reduction="sum")
    assert ovam.segment(trace, None, [rows], method, confidence=True)[0].confidence == Confidence(1.0, 1.0, calibrated=False)


@given(st.lists(st.floats(0, 1, width=16), min_size=1, max_size=30))
def test_the_best_rising_curve_keeps_the_mean_and_what_rises_already(values: list[float]) -> None:
    curve = rising(values)
    assert (np.diff(curve) >= 0).all()
    assert curve.mean() == pytest.approx(np.mean(values))
    assert rising(sorted(values)).tolist() == sorted(values)
    steps = np.clip(curve + np.linspace(-0.1, 0.1, len(values)), 0, 1)  # any other curve that rises is farther away
    assert np.square(curve - values).sum() <= np.square(np.sort(steps) - values).sum() + 1e-9


def test_a_calibration_is_read_between_its_points() -> None:
    found = calibrated([0.4, 0.1, 0.3, 0.2], [0.9, 0.0, 0.3, 0.5], points=4)
    assert found == Calibration((0.1, 0.2, 0.3, 0.4), (0.0, 0.4, 0.4, 0.9))
    assert [found.iou_at(at) for at in (0.0, 0.15, 0.25, 1.0)] == [0.0, 0.2, 0.4, 0.9]


@pytest.mark.parametrize(
    ("agreement", "iou", "field"),
    [
        ((), (), "iou"),
        ((0.1,), (), "iou"),
        ((0.2, 0.2), (0.1, 0.2), "agreement"),
        ((0.1, 0.2), (0.3, 0.2), "iou"),
        ((0.1,), (1.1,), "iou"),
    ],
)
def test_a_calibration_rises(agreement: tuple[float, ...], iou: tuple[float, ...], field: str) -> None:
    with pytest.raises(InvalidArgumentError) as error:
        Calibration(agreement, iou)
    assert error.value.field == field
