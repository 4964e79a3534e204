"""Targets in one softmax: what one claims of a pixel the others lose."""

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import ovam
from ovam.attention.competition import competing
from ovam.attention.targets import photograph_of, rows_of, target_heatmaps
from ovam.core.label_maps import labels_of
from ovam.core.masks import leakages
from ovam.core.methods import Method
from ovam.core.thresholds import Absolute, Share
from ovam.cutting import margin
from ovam.errors import InvalidArgumentError
from tests.ovam.test_reference import noise
from tests.ovam.test_targets import small_trace

WORDS = ["cat", "dog", "monkey"]


def test_the_joint_softmax_is_over_the_start_and_everybodys_rows(pipeline: StableDiffusionPipeline, trace: ovam.Trace) -> None:
    method = Method()
    rows = rows_of(pipeline, [photograph_of(word) for word in WORDS], [method] * 3)
    targets = competing(rows[:2], rows[2:])
    sizes = [len(each.chosen) for each in rows]
    assert sizes == [1, 1, 5]
    assert [each.chosen for each in targets] == [(1,), (2,)]
    joint = torch.cat([rows[0].embedding[:1], *(each.embedding[list(each.chosen)] for each in rows)])
    assert torch.allclose(targets[0].embedding, joint, atol=1e-5)
    maps = ovam.heatmaps(trace, joint)
    for found, expected in zip(target_heatmaps(trace, targets, [method] * 2), maps[1:3], strict=True):
        assert torch.allclose(found, expected, rtol=1e-3)
    whole = [ovam.segment(trace, pipeline, word, method, softmax="together", distractors=[o for o in WORDS if o != word])
             for word in WORDS]  # fmt: skip
    total = sum(size * found.heatmap for size, found in zip(sizes, whole, strict=True))
    start = ovam.heatmaps(trace, joint, size=trace.image_size)[0].numpy()
    assert np.allclose(total + start, 1, atol=1e-4)


def test_a_segment_of_competing_targets_is_that_of_their_joint_rows(pipeline: StableDiffusionPipeline, trace: ovam.Trace) -> None:
    method = Method(threshold=ovam.METHODS["attn2mask"].words.threshold)
    both = ovam.segment(trace, pipeline, WORDS[:2], method, softmax="together")
    rows = competing(rows_of(pipeline, [photograph_of(word) for word in WORDS[:2]], [method] * 2))
    for found, target in zip(both, rows, strict=True):
        expected = ovam.segment(trace, pipeline, target, method)
        assert np.array_equal(found.mask, expected.mask)
        assert expected.leakage is None
        assert found.leakage is not None
    apart = ovam.segment(trace, pipeline, WORDS[:2], method)
    assert [found.leakage for found in apart] == [None, None]
    assert not np.allclose(apart[0].heatmap, both[0].heatmap, atol=1e-3)
    labels = labels_of(np.stack([margin(method, found.heatmap) for found in both]))
    assert [found.leakage for found in both] == leakages([f.heatmap for f in both], places(labels == 1, labels == 2), "cd")


def test_margins_are_in_the_heats_own_precision_and_minus_infinity_without_heat() -> None:
    for heat, expected in (([[0.5, 1.0]], [[0, 0.5]]), ([[0.0, 0.0]], [[-np.inf, -np.inf]])):
        found = margin(Method(threshold=Absolute(0.5)), np.array(heat, np.float32))
        assert (found.dtype, found.tolist()) == (np.float32, expected)


def test_learned_tokens_bring_their_backgrounds_and_equal_rows_count_once() -> None:
    start, first, second = noise(1, 32), noise(3, 32, seed=1), noise(2, 32, seed=2)
    words = ovam.Rows(torch.cat([start, noise(2, 32, seed=3)]), (2,))
    again = ovam.Rows(torch.cat([start + 1e-6, words.embedding[2:]]), (1,))
    tokens = ovam.LearnedTokens(first, ("cat", "dog")), ovam.LearnedTokens(second, ("hat",))
    targets = competing([words, tokens[0]["dog"], tokens[1]["hat"], again], [words, tokens[0]["cat"]])
    (joint,) = {id(target.embedding): target.embedding for target in targets}.values()
    assert torch.equal(joint, torch.cat([start, first[:1], second[:1], words.embedding[2:], first[2:], second[1:], first[1:2]]))
    assert [target.chosen for target in targets] == [(3,), (4,), (5,), (3,)]


def test_competitors_are_several_and_of_one_width(pipeline: StableDiffusionPipeline, trace: ovam.Trace) -> None:
    one = ovam.Rows(noise(2, 32))
    for lone in ([one], [one, ovam.Rows(one.embedding.clone())]):
        with pytest.raises(InvalidArgumentError, match=r"softmax is 'together'; allowed: two or more different targets"):
            competing(lone)
    with pytest.raises(InvalidArgumentError, match=r"targets is \[32, 16\]; allowed: embeddings of one width"):
        competing([one, ovam.Rows(noise(2, 16))])
    with pytest.raises(InvalidArgumentError, match=r"distractors is '1 targets'; allowed: none with softmax='each'"):
        ovam.segment(trace, pipeline, "cat", "daam", distractors=["dog"])
    assert ovam.segment(trace, pipeline, "cat", "daam", softmax="together", distractors=["dog"]).leakage is None


@given(
    seed=st.integers(0, 999),
    count=st.integers(2, 4),
    distractors=st.integers(1, 4),
    backgrounds=st.lists(st.booleans(), min_size=8, max_size=8),
)
def test_distractors_only_lower_heat(seed: int, count: int, distractors: int, backgrounds: list[bool]) -> None:
    """Whatever comes with them, a further background as well; what is there already changes nothing."""
    trace = small_trace()
    pool = noise(16, 5, seed=seed)
    rows = [ovam.Rows(torch.stack([pool[8 + number if own else 8], pool[number]])) for number, own in enumerate(backgrounds)]
    targets, others = rows[:count], rows[count : count + distractors]
    plain, lowered, again = (
        target_heatmaps(trace, competing(targets, further), [Method()] * count)
        for further in ([], others, [*others, *others, targets[0]])
    )
    for before, after, same in zip(plain, lowered, again, strict=True):
        assert bool((after <= before * (1 + 1e-5)).all())
        assert torch.equal(after, same)


def test_all_classes_of_a_learned_token_compete_anyway() -> None:
    trace, tokens = small_trace(), ovam.LearnedTokens(noise(4, 5), ("cat", "dog", "hat"))
    each = [tokens[name] for name in tokens.names]
    together, alone = (target_heatmaps(trace, rows, [Method()] * 3) for rows in (competing(each), each))
    for one, other in zip(together, alone, strict=True):
        assert torch.allclose(one, other, atol=1e-6)


def test_a_target_with_two_settings_competes_once(pipeline: StableDiffusionPipeline, trace: ovam.Trace) -> None:
    strict, loose = (Method(threshold=Share(tau, "minmax")) for tau in (0.8, 0.2))
    cat, large, dog = ovam.segment(trace, pipeline, ["cat", "cat", "dog"], [strict, loose, strict], softmax="together")
    plain = ovam.segment(trace, pipeline, ["cat", "dog"], strict, softmax="together")
    assert np.array_equal(cat.heatmap, plain[0].heatmap)
    assert np.array_equal(cat.heatmap, large.heatmap)
    pair = ovam.segment(trace, pipeline, ["cat", "dog"], [loose, strict], softmax="together")
    assert [cat.leakage, large.leakage, dog.leakage] == [pair[0].leakage, pair[0].leakage, pair[1].leakage]


LEFT, RIGHT = np.array([[1, 1, 0, 0, 0, 0]], bool), np.array([[0, 0, 0, 1, 1, 0]], bool)


def places(*masks: np.ndarray) -> list[np.ndarray]:
    """Margins that are above the threshold on a mask."""
    return [np.where(mask, 0.1, -0.1) for mask in masks]


def test_leakage_is_the_heat_on_the_others_places_above_the_ground() -> None:
    heat = np.array([[9.0, 11.0, 2.0, 5.0, 7.0, 2.0]], np.float32)
    apart = places(LEFT, RIGHT)
    assert leakages([heat, heat], apart, "lr") == [pytest.approx((6 - 2) / (10 - 2)), 1.0]
    assert leakages([np.where(LEFT, 1.0, 0.0), np.where(RIGHT, 1.0, 0.5)], apart, "lr") == [0.0, 0.0]
    cooler_there = np.array([[9.0, 9.0, 3.0, 1.0, 1.0, 3.0]])
    assert leakages([cooler_there, cooler_there], apart, "lr")[0] == 0.0
    halves = places(np.array([[1, 1, 1, 0, 0, 0]], bool), np.array([[0, 0, 0, 1, 1, 1]], bool))
    assert leakages([heat, heat], halves, "lr")[0] == pytest.approx((14 / 3 - 2) / (22 / 3 - 2))
    assert leakages([np.ones((1, 6)), heat], apart, "lr")[0] == 1.0


def test_where_masks_overlap_a_pixel_is_the_place_of_the_largest_margin() -> None:
    heat = np.array([[9.0, 11.0, 2.0, 5.0, 7.0, 2.0]], np.float32)
    both = LEFT | RIGHT
    margins = [np.where(both, 0.1, -0.1) + 0.05 * LEFT, np.where(both, 0.1, -0.1) + 0.05 * RIGHT]
    assert leakages([heat, heat], margins, "lr") == leakages([heat, heat], places(LEFT, RIGHT), "lr")


def test_there_is_no_leakage_where_a_place_is_empty_and_none_to_oneself() -> None:
    heat = np.array([[9.0, 11.0, 2.0, 5.0, 7.0, 2.0]], np.float32)
    nothing = np.zeros_like(LEFT)
    assert leakages([heat, heat], places(LEFT, nothing), "lr") == [None, None]
    assert leakages([heat], places(LEFT), "l") == [None]
    assert leakages([heat] * 2, places(LEFT, RIGHT), "ll") == [None, None]
    assert leakages([heat] * 3, places(LEFT, RIGHT, LEFT), "lrl") == [0.5, 1.0, 0.5]


@given(
    arrays.arrays(np.float32, (2, 4, 5), elements=st.floats(0, 1, width=32)),
    arrays.arrays(np.float32, (2, 4, 5), elements=st.floats(-1, 1, width=32)),
    st.sampled_from([2.0, 64.0]),
)
def test_leakage_is_a_fraction_and_has_no_unit(heats: np.ndarray, margins: np.ndarray, unit: float) -> None:
    found = leakages([*heats], [*margins], "lr")
    scaled = leakages([*(heats * np.float32(unit))], [*margins], "lr")
    for one, other in zip(found, scaled, strict=True):
        assert one is None or 0 <= one <= 1
        assert one == pytest.approx(other, abs=1e-3) or (one is None and other is None) or bool(heats.std() < 1e-3)
