"""One call from a trace to segments; and its parts, for many targets each by its own method."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import ovam
from ovam.attention.refinement import affinity
from ovam.core.crf import CrfParameters
from ovam.core.label_maps import labels_of
from ovam.core.masks import score
from ovam.core.methods import ByAffinity, ByAttention, ByBoth, Method, NoRefinement
from ovam.core.thresholds import Absolute, Otsu, Share
from ovam.cutting import cut, cuts, margin, refined
from ovam.errors import InvalidArgumentError, NoSelfAttentionError, UnknownMethodError, WordNotInPromptError
from ovam.segmentation import methods_of
from tests.ovam.test_reference import LAYERS, noise

SIZE = (32, 48)
IMAGE = np.zeros((*SIZE, 3), dtype=np.uint8)
IMAGE[10:25, 20:45] = 200
METHODS = [
    Method(),
    Method(threshold=Share(0.6, "minmax")),
    Method(refine=ByAttention(0.2, -1)),
    Method(refine=ByAffinity(2)),
    Method(refine=ByBoth(), threshold=Otsu()),
    Method(threshold=Absolute(0.8)),
    Method(refine=ByAffinity(4), minimum_area=30, fill_holes=True),
]


def named(method: Method) -> str:
    return f"{method.threshold.kind}-{method.refine.kind}-{method.minimum_area}"


def heats(count: int) -> list[torch.Tensor]:
    return [noise(4, 6, seed=seed).abs() for seed in range(count)]


@pytest.fixture(scope="module")
def generation(pipeline: StableDiffusionPipeline) -> tuple[ovam.Trace, Image.Image]:
    with ovam.capture(pipeline, self_attention=True) as traces:
        generator = torch.Generator().manual_seed(3)
        image = pipeline("a cat and a dog", height=64, width=96, num_inference_steps=2, generator=generator).images[0]
    return traces[0], image


def test_one_target_gives_a_segment_and_several_a_list(
    pipeline: StableDiffusionPipeline, generation: tuple[ovam.Trace, Image.Image]
) -> None:
    trace, image = generation
    cat = ovam.segment(trace, pipeline, "cat", image=image)
    both = ovam.segment(trace, pipeline, ["cat", ovam.Words("a cat and a dog", "dog")], image=image)
    assert isinstance(cat, ovam.Segment)
    assert np.array_equal(both[0].mask, cat.mask)
    assert len(ovam.segment(trace, pipeline, ["cat"], image=image)) == 1
    assert ovam.segment(trace, pipeline, []) == []
    for found in (cat, *both):
        assert (found.heatmap.shape, found.heatmap.dtype) == ((64, 96), np.float32)
        assert (found.mask.shape, found.mask.dtype) == ((64, 96), np.bool_)
        assert found.method == ovam.METHODS["ovam"].words
        assert found.score == score(found.heatmap, found.mask)


def test_a_segment_is_every_step_in_turn(pipeline: StableDiffusionPipeline, generation: tuple[ovam.Trace, Image.Image]) -> None:
    trace, image = generation
    method = Method(refine=ByBoth(2, 0.5, -1), threshold=Share(0.7, "minmax"), crf=CrfParameters(iterations=2),
                    minimum_area=9, fill_holes=True, blocks="up", evaluations=1)  # fmt: skip
    heat = ovam.word_heatmap(trace, pipeline, "a photograph of a cat", "cat", blocks="up", evaluations=1)
    (expected,) = refined([heat], [method], (64, 96), trace.self_attention)
    found = ovam.segment(trace, pipeline, "cat", method, image)
    assert np.allclose(found.heatmap, expected, atol=5e-3)  # min-max stretches what rounding left
    assert np.array_equal(found.mask, cut(method, found.heatmap, image))
    assert np.array_equal(ovam.segment(trace, pipeline, "cat", method, np.asarray(image)).mask, found.mask)


def test_a_named_method_is_that_of_the_targets_kind(
    pipeline: StableDiffusionPipeline, generation: tuple[ovam.Trace, Image.Image]
) -> None:
    trace, _ = generation
    tokens = ovam.LearnedTokens(noise(3, 32), ("cat", "dog"))
    found = ovam.segment(trace, pipeline, ["cat", tokens["dog"], "dog"], ["daam", "daam", Method(threshold=Share(0.9))])
    assert [one.method.threshold.tau for one in found] == [0.4, 0.8, 0.9]
    single = ovam.LearnedTokens(noise(2, 32), ("cat",))
    alone = ovam.segment(trace, pipeline, single, "daam")
    assert np.array_equal(alone.mask, ovam.segment(trace, pipeline, single["cat"], "daam").mask)


def test_tokens_of_several_classes_are_asked_for_by_name(
    pipeline: StableDiffusionPipeline, generation: tuple[ovam.Trace, Image.Image]
) -> None:
    tokens = ovam.LearnedTokens(noise(3, 32), ("cat", "dog"))
    with pytest.raises(
        InvalidArgumentError, match=r"targets is 'tokens of 2 classes'; allowed: .*tokens\['cat'\], tokens\['dog'\]"
    ):
        ovam.segment(generation[0], pipeline, tokens, "daam")
    with pytest.raises(InvalidArgumentError, match=r"class is 'cow'; allowed: 'cat', 'dog'"):
        tokens["cow"]


def test_what_a_method_needs_is_asked_for_in_plain_words(
    pipeline: StableDiffusionPipeline, generation: tuple[ovam.Trace, Image.Image], trace: ovam.Trace
) -> None:
    whole, image = generation
    with pytest.raises(NoSelfAttentionError, match=r"capture with self_attention=True, or choose .*'daam'"):
        ovam.segment(trace, pipeline, "cat", image=image)
    with pytest.raises(InvalidArgumentError, match=r"image is None; allowed: .*crf=None"):
        ovam.segment(whole, pipeline, "cat")
    with pytest.raises(InvalidArgumentError, match=r"image is None; allowed: .*crf=None"):  # one of two needs it
        ovam.segment(whole, pipeline, ["cat", "cat"], ["daam", Method(crf=CrfParameters())])
    with pytest.raises(InvalidArgumentError, match=r"image is \(96, 64\); allowed: .*\(64, 96\)"):
        ovam.segment(whole, pipeline, "cat", image=image.transpose(Image.Transpose.TRANSPOSE))
    with pytest.raises(WordNotInPromptError, match="'hat' is not in prompt 'a cat'"):
        ovam.segment(whole, pipeline, ovam.Words("a cat", "hat"), "daam")
    with pytest.raises(InvalidArgumentError, match=r"^word is"):
        ovam.segment(whole, pipeline, " ", "daam")
    with pytest.raises(WordNotInPromptError, match="no word in prompt ''"):
        ovam.segment(whole, pipeline, ovam.Words(""), "daam")
    with pytest.raises(UnknownMethodError, match="did you mean 'daam'"):
        ovam.segment(whole, pipeline, "cat", "dam")
    with pytest.raises(InvalidArgumentError, match=r"method is '2 methods'; allowed: one, or one for each of 1 targets"):
        ovam.segment(whole, pipeline, ["cat"], ["daam", "daam"])
    assert methods_of([], []) == []


def test_heat_refined_together_is_what_it_is_alone() -> None:
    maps = [*heats(len(METHODS)), noise(2, 3).abs(), noise(4, 6, seed=50).abs()]
    methods = [*METHODS, METHODS[3], METHODS[3]]  # on a smaller grid, and on the same
    for heat, method, found in zip(maps, methods, refined(maps, methods, SIZE, LAYERS), strict=True):
        (alone,) = refined([heat], [method], SIZE, LAYERS)
        assert (found.shape, found.dtype) == (SIZE, np.float32)
        assert np.allclose(found, alone, rtol=1e-5)
        if isinstance(method.refine, ByAffinity):
            spread = affinity(heat[None], LAYERS, steps=method.refine.steps)[0]
            (same,) = refined([spread], [replace(method, refine=NoRefinement())], SIZE)
            assert np.allclose(found, same, rtol=1e-5)


def test_only_methods_that_refine_need_self_attention() -> None:
    maps = heats(2)
    assert len(refined(maps, [METHODS[0], METHODS[1]], SIZE)) == 2
    for method in METHODS[2:5]:
        with pytest.raises(NoSelfAttentionError, match="capture with self_attention=True"):
            refined(maps, [METHODS[0], method], SIZE)


def test_every_mask_is_fitted_by_its_own_parameters() -> None:
    methods = [Method(crf=CrfParameters(iterations=1)), Method(), Method(crf=CrfParameters(iterations=2))]
    heats = [np.full(SIZE, heat, np.float32) for heat in (1, 2, 3)]
    asked: list[Any] = []

    def fit(_image: Any, masks: Any, parameters: Any) -> list[np.ndarray]:
        asked.extend(parameters)
        return [~mask for mask in masks]

    masks = cuts(methods, heats, IMAGE, fit)
    assert asked == [methods[0].crf, methods[2].crf]
    assert [bool(mask.all()) for mask in masks] == [False, True, False]


@given(st.sampled_from([method for method in METHODS if not method.minimum_area]), st.integers(0, 200), st.floats(0.01, 50))
def test_one_targets_label_is_its_mask_whatever_the_method(method: Method, seed: int, unit: float) -> None:
    (heat,) = refined([unit * noise(4, 6, seed=seed).abs()], [method], SIZE, LAYERS)
    assert np.array_equal(labels_of(margin(method, heat)[None]) == 1, cut(method, heat))


@pytest.mark.parametrize("method", METHODS, ids=named)
def test_nothing_is_marked_where_nothing_is_hot(method: Method) -> None:
    cold = np.zeros(SIZE, np.float32)
    assert not labels_of(margin(method, cold)[None]).any()
    assert not labels_of(margin(method, cold)[None], least_gap=0.5).any()
    assert not cut(method, cold).any()


@given(st.integers(0, 200), st.floats(0.1, 10), st.sampled_from([0.0, 0.05, 0.3]))
def test_labels_do_not_depend_on_the_unit_of_a_targets_heat(seed: int, unit: float, least_gap: float) -> None:
    """One target's heat may be a sum and another's a mean."""
    maps = [noise(8, 9, seed=seed).abs().numpy(), noise(8, 9, seed=seed + 1).abs().numpy()]
    method = Method(threshold=Share(0.37))
    labels, scaled = (
        labels_of(np.stack([margin(method, heat) for heat in (maps[0], np.float32(factor) * maps[1])]), least_gap=least_gap)
        for factor in (1, unit)
    )
    assert (labels == scaled).mean() > 0.98  # rounding moves what lies on an edge


@pytest.mark.parametrize("method", METHODS, ids=named)
def test_a_mask_is_fitted_to_its_image_and_tidied_last(method: Method) -> None:
    (heat,) = refined(heats(1), [method], SIZE, LAYERS)
    fitted: Any = ovam.dense_crf(IMAGE, cut(Method(threshold=method.threshold), heat), CrfParameters(iterations=1))
    from_method = cut(Method(threshold=method.threshold, crf=CrfParameters(iterations=1)), heat, IMAGE)
    assert np.array_equal(from_method, fitted)
