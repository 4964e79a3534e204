"""What is learned from: any form of mask, images of one model, and starts of any kind."""

import dataclasses
import math
from io import BytesIO

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image

import ovam
from ovam.core.label_maps import indexed_png
from ovam.core.schedules import Constant, Cosine, Step, decay
from ovam.errors import (
    EmbeddingNotFiniteError,
    ExamplesOfOtherModelsError,
    InvalidArgumentError,
    UnusableMaskError,
)
from ovam.learning import losses
from ovam.learning.examples import nearest, require_one_model, training_examples
from ovam.learning.initial import initial_tokens
from tests.pipelines import tiny_pipeline

LABELS = np.zeros((64, 96), dtype=np.uint8)
LABELS[8:40, 8:40], LABELS[30:60, 50:90], LABELS[:4] = 1, 2, 255


def double(trace: ovam.Trace, blocks: slice = slice(None, None, 4)) -> ovam.Trace:
    exact = []
    for block in trace.blocks[blocks]:
        to_k = torch.nn.Linear(32, block.to_k.out_features, bias=False).double()
        to_k.weight.data = block.to_k.weight.detach().double()
        exact.append(dataclasses.replace(block, queries=block.queries.double(), to_k=to_k, fingerprint=None))
    return dataclasses.replace(trace, blocks=tuple(exact))


def test_a_map_of_labels_is_a_mask_per_class_and_255_does_not_count(trace: ovam.Trace) -> None:
    (one,) = training_examples([(trace, LABELS)], 3)
    assert one.target.shape == (3, 64, 96)
    for label in range(3):
        assert np.array_equal(one.target[label].numpy() == 1, label == LABELS)
    assert one.counted is not None
    assert np.array_equal(one.counted.numpy(), LABELS != 255)


def test_labels_without_255_teach_what_their_masks_teach(trace: ovam.Trace) -> None:
    labels = np.where(LABELS == 255, 0, LABELS)
    stacked = np.stack([labels == label for label in range(3)])
    init = torch.randn(3, 32, generator=torch.Generator().manual_seed(1))
    fits = [ovam.optimize_tokens([(trace, mask)], init, epochs=3) for mask in (labels, labels.astype(np.int64), stacked)]
    assert fits[0].losses == fits[1].losses == fits[2].losses


def test_a_constant_map_pulls_nowhere_when_maps_are_stretched() -> None:
    maps, target = torch.full((2, 2, 2), 0.3, requires_grad=True), torch.tensor([[[1.0, 0.0]] * 2, [[0.0, 1.0]] * 2])
    loss = losses.cross_entropy_minmax(maps, target)
    assert float(loss.detach()) == pytest.approx(np.log(2))
    assert not torch.autograd.grad(loss, maps)[0].any()


def test_a_map_that_is_certain_and_wrong_costs_as_much_as_a_chance_of_one_in_a_million() -> None:
    maps, target = torch.zeros(1, 2, 2), torch.ones(1, 2, 2)
    assert float(losses.bce(maps, target)) == pytest.approx(-np.log(1e-6), rel=1e-3)
    assert float(losses.bce(target, target)) == pytest.approx(0, abs=2e-6)


def test_what_lies_under_255_does_not_matter(trace: ovam.Trace) -> None:
    init = torch.randn(3, 32, generator=torch.Generator().manual_seed(1))
    (one,) = training_examples([(trace, LABELS)], 3)
    assert one.counted is not None
    maps = ovam.heatmaps(trace, init, size=(64, 96))
    changed = torch.where(one.counted, maps, torch.rand(3, 64, 96).softmax(dim=0))
    assert torch.equal(losses.bce(maps, one.target, one.counted), losses.bce(changed, one.target, one.counted))
    ignored = ovam.optimize_tokens([(trace, LABELS)], init, epochs=2).losses
    assert ignored[0] == pytest.approx(float(losses.bce(maps, one.target, one.counted)), rel=1e-5)


@pytest.mark.parametrize("size", [(16, 24), (128, 192), (50, 77)])
def test_a_mask_of_another_size_comes_by_the_nearest_pixel(trace: ovam.Trace, size: tuple[int, int]) -> None:
    labels = torch.zeros(size, dtype=torch.uint8)
    labels[size[0] // 4 : size[0] // 2, size[1] // 4 : size[1] // 2] = 1
    (one,) = training_examples([(trace, labels)], 2)
    assert one.target.shape == (2, 64, 96)
    assert set(one.target.unique().tolist()) == {0.0, 1.0}
    if size == (16, 24):
        assert torch.equal(one.target[1], labels.repeat_interleave(4, 0).repeat_interleave(4, 1).float())


def test_the_nearest_pixel_is_that_of_the_centres() -> None:
    assert nearest(torch.arange(6.0).view(1, 1, 6), (1, 3)).tolist() == [[[1.0, 3.0, 5.0]]]
    assert nearest(torch.tensor([[[True, False]]]), (2, 4)).tolist() == [[[True, True, False, False]] * 2]
    large = 2**24 + 1  # not in single precision
    assert nearest(torch.tensor([[[large, 5]]]), (1, 4)).tolist() == [[[large, large, 5, 5]]]


def test_labels_that_teach_nothing_are_refused(trace: ovam.Trace) -> None:
    half = np.where(LABELS == 2, 255, LABELS)
    for mask, message in (
        (half, "class 2 has no pixel"),
        (LABELS + 3, "labels from"),
        (LABELS.astype(np.int64) - 1, "labels from -1"),
        (np.full((4, 4), 255), "no pixel that counts"),
        (np.where(LABELS == 255, 255, 1), "class 1 covers"),
    ):
        with pytest.raises(UnusableMaskError, match=message):
            training_examples([(trace, mask)], 3)
    with pytest.raises(InvalidArgumentError, match=r"^mask 0 is .*integers"):
        training_examples([(trace, LABELS.astype(np.float32) / 255)], 3)


def test_examples_of_different_models_are_refused(trace: ovam.Trace) -> None:
    with ovam.capture(other := tiny_pipeline(seed=1)) as traces:
        other("a cat", height=64, width=96, num_inference_steps=1, output_type="latent")
    with pytest.raises(ExamplesOfOtherModelsError, match=r"examples 0 and 1 .*'down_blocks"):
        ovam.optimize_tokens([(trace, LABELS), (traces[0], LABELS)], torch.zeros(3, 32))
    wide = dataclasses.replace(trace.blocks[0], to_k=torch.nn.Linear(40, 16, bias=False))
    wider = dataclasses.replace(trace, blocks=(wide,))
    for pair, widths in (([trace, wider], "40, example 0 of 32"), ([wider, trace], "32, example 0 of 40")):
        with pytest.raises(ExamplesOfOtherModelsError, match=f"text width {widths}"):
            require_one_model(pair)


def test_examples_of_one_model_may_have_kept_different_blocks_or_be_loaded_twice(trace: ovam.Trace) -> None:
    part = dataclasses.replace(trace, blocks=trace.blocks[2:5])
    require_one_model([trace, part])
    require_one_model([double(trace), double(trace)])


def test_an_init_that_is_no_number_or_of_another_width_is_refused(trace: ovam.Trace) -> None:
    with pytest.raises(EmbeddingNotFiniteError):
        ovam.optimize_tokens([(trace, LABELS)], torch.full((3, 32), torch.nan))
    with pytest.raises(InvalidArgumentError, match=r"\(3, 31\); allowed: .*32"):
        ovam.optimize_tokens([(trace, LABELS)], torch.zeros(3, 31))


def test_a_start_may_be_a_word_a_row_or_a_token(pipeline: StableDiffusionPipeline) -> None:
    words = initial_tokens(pipeline, "cat", "dog")
    assert torch.equal(initial_tokens(pipeline, words[1], "dog", background=words[0]), words)
    assert torch.equal(initial_tokens(pipeline, words[1], words[2]), words)
    noisy = [initial_tokens(pipeline, "cat", noise=0.1, seed=seed) for seed in (1, 1, 2)]
    assert torch.equal(noisy[0], noisy[1])
    assert not torch.equal(noisy[0], noisy[2])
    assert 0.05 < float((noisy[0] - words[:2]).std()) < 0.2
    with pytest.raises(InvalidArgumentError, match="one width"):
        initial_tokens(pipeline, "cat", torch.zeros(31))
    for noise in (-1.0, math.inf, math.nan):
        with pytest.raises(InvalidArgumentError, match=r"^noise is "):
            initial_tokens(pipeline, "cat", noise=noise)


SOFT = torch.rand(3, 64, 96, generator=torch.Generator().manual_seed(4)).softmax(dim=0)
"""How much of each pixel belongs to each class."""


@pytest.mark.parametrize("mask", [LABELS, SOFT], ids=["labels of which some do not count", "weights"])
@pytest.mark.parametrize("loss", ["bce", "cross_entropy_minmax"])
def test_the_first_step_of_descent_is_the_gradient_of_finite_differences(
    trace: ovam.Trace, loss: str, mask: np.ndarray | torch.Tensor
) -> None:
    """In double precision, three classes."""
    exact = double(trace)
    init = torch.randn(3, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    fit = ovam.optimize_tokens([(exact, mask)], init, loss=loss, learning_rate=1e-9, epochs=2, patience=None)
    moved = ovam.optimize_tokens([(exact, mask)], init, loss=loss, learning_rate=1.0, epochs=2, patience=None)
    (one,) = training_examples([(exact, mask)], 3)
    loss_of = getattr(losses, loss)

    def value(tokens: torch.Tensor) -> float:
        return float(loss_of(ovam.heatmaps(exact, tokens, size=(64, 96)), one.target.double(), one.counted))

    assert fit.losses[0] == pytest.approx(value(init), rel=1e-12)
    assert moved.best_epoch == 1  # one step of rate 1 is the gradient itself
    gradient = init - moved.embedding
    for row, column in ((0, 0), (1, 7), (2, 31)):
        nudge = torch.zeros_like(init)
        nudge[row, column] = 1e-6
        slope = (value(init + nudge) - value(init - nudge)) / 2e-6
        assert slope == pytest.approx(float(gradient[row, column]), rel=1e-4, abs=1e-9)


@pytest.mark.parametrize("mask", [LABELS == 1, np.where(LABELS == 2, 0, LABELS), SOFT[0]], ids=["mask", "labels", "weights"])
@pytest.mark.parametrize("loss", ["bce", "cross_entropy_minmax"])
def test_two_classes_keep_their_sum_exactly_in_double_precision(
    trace: ovam.Trace, loss: str, mask: np.ndarray | torch.Tensor
) -> None:
    init = torch.randn(2, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    fit = ovam.optimize_tokens([(double(trace), mask)], init, loss=loss, epochs=5, learning_rate=10.0)
    assert fit.best_epoch > 0
    assert torch.allclose(fit.embedding.sum(dim=0), init.sum(dim=0), rtol=0, atol=1e-12)


def test_schedules_are_values() -> None:
    shares = [decay(Step(2, 0.5), epoch, 6) for epoch in range(6)]
    assert shares == [1, 1, 0.5, 0.5, 0.25, 0.25]
    assert {decay(Constant(), epoch, 6) for epoch in range(6)} == {1.0}
    cosine = [decay(Cosine(0.1), epoch, 5) for epoch in range(5)]
    assert cosine == pytest.approx([1, 0.1 + 0.9 * 0.85355339, 0.55, 0.1 + 0.9 * 0.14644661, 0.1])
    assert decay(Cosine(), 0, 1) == 1
    for make, field in (
        (lambda: Step(0), "every"),
        (lambda: Step(1, 2.0), "factor"),
        (lambda: Cosine(2.0), "floor"),
    ):
        with pytest.raises(InvalidArgumentError, match=f"^{field} is "):
            make()


def test_the_schedule_is_followed_and_kept(trace: ovam.Trace) -> None:
    init = torch.randn(3, 32, generator=torch.Generator().manual_seed(1))
    fits = [
        ovam.optimize_tokens([(trace, LABELS)], init, schedule=schedule, epochs=4)
        for schedule in (Constant(), Step(1, 0.5), Cosine())
    ]
    assert len({fit.losses for fit in fits}) == 3
    assert len({fit.losses[:2] for fit in fits}) == 1
    assert fits[1].schedule == Step(1, 0.5)


def test_more_epochs_encode_no_text(pipeline: StableDiffusionPipeline, trace: ovam.Trace) -> None:
    init = initial_tokens(pipeline, "cat")
    calls: list[object] = []
    hook = pipeline.text_encoder.register_forward_hook(lambda *_: calls.append(1))
    try:
        ovam.optimize_tokens([(trace, LABELS == 1)], init, epochs=5)
    finally:
        hook.remove()
    assert calls == []


@pytest.mark.parametrize("end", [0, 2])
def test_an_end_at_any_epoch_keeps_the_best_so_far(trace: ovam.Trace, end: int) -> None:
    init = torch.randn(3, 32, generator=torch.Generator().manual_seed(1))
    fit = ovam.optimize_tokens([(trace, LABELS)], init, epochs=9, on_epoch=lambda epoch, _loss: epoch < end)
    assert (fit.ended, len(fit.losses)) == ("callback", end + 1)
    assert fit.best_loss == min(fit.losses)
    if end == 0:
        assert torch.equal(fit.embedding, init)


def test_a_pil_image_is_a_mask_like_an_array(trace: ovam.Trace) -> None:
    inside = np.zeros((64, 96), np.bool_)
    inside[16:40, 20:60] = True
    cut_out = np.dstack([np.full((64, 96, 3), 9, np.uint8), np.where(inside, 255, 0).astype(np.uint8)])
    (expected,) = training_examples([(trace, inside)], 2)
    for image in (Image.fromarray(inside), Image.fromarray(cut_out), Image.fromarray(inside.astype(np.uint8) * 255)):
        (found,) = training_examples([(trace, image)], 2)
        assert torch.equal(found.target, expected.target)
    labels = np.where(inside, 2, 1).astype(np.uint8)
    labels[0], labels[1] = 0, 255
    (found,) = training_examples([(trace, Image.open(BytesIO(indexed_png(labels))))], 3)
    assert found.counted is not None
    assert np.array_equal(found.target.argmax(dim=0).numpy()[found.counted], labels[labels != 255])


def test_an_array_of_0_and_255_is_told_from_labels(trace: ovam.Trace) -> None:
    mask = np.zeros((64, 96), np.uint8)
    mask[16:40, 20:60] = 255
    with pytest.raises(UnusableMaskError, match="as a label 255 does not count; give `mask > 0`"):
        training_examples([(trace, mask)], 2)
