"""Token optimisation finds what is there to find, deterministically, and keeps the best."""

import inspect
import math
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from hypothesis import given
from hypothesis import strategies as st

import ovam
from ovam.core.schedules import Step
from ovam.errors import EmbeddingNotFiniteError, InvalidArgumentError, OptimizationError, SelectionError, UnusableMaskError
from ovam.learning.examples import nearest
from ovam.learning.initial import initial_tokens
from ovam.learning.losses import bce, cross_entropy_minmax
from ovam.learning.optimization import _Course

MASK = torch.zeros(64, 96, dtype=torch.bool)
MASK[16:40, 24:72] = True
TARGET = torch.stack([~MASK, MASK]).float()


@pytest.fixture
def init(pipeline: StableDiffusionPipeline) -> torch.Tensor:
    return initial_tokens(pipeline, "cat")


def test_initial_tokens_are_the_start_and_the_words_last_piece(pipeline: StableDiffusionPipeline) -> None:
    embedding, tokens = ovam.encode(pipeline, "A photograph of a monkey")
    assert tokens[9].text == "y"
    assert torch.equal(initial_tokens(pipeline, "monkey"), embedding[[0, 9]])
    assert initial_tokens(pipeline, "monkey", "cat", "dog").shape == (4, 32)
    with pytest.raises(InvalidArgumentError, match="classes"):
        initial_tokens(pipeline)


def test_a_mask_that_a_token_can_draw_is_found(trace: ovam.Trace, init: torch.Tensor) -> None:
    """The mask is drawn by a token itself, so that the optimum is known: that token's own maps."""
    hidden = init + 3 * torch.randn(2, 32, generator=torch.Generator().manual_seed(5))
    drawn = ovam.heatmaps(trace, hidden, size=(32, 48))
    drawn = nearest(drawn, trace.image_size)
    floor = float(bce(drawn, drawn))
    fit = ovam.optimize_tokens([(trace, drawn)], init, learning_rate=20.0, epochs=400)
    assert fit.best_loss - floor < 0.2 * (fit.losses[0] - floor)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("loss", ["bce", "cross_entropy_minmax"])
def test_the_best_loss_is_that_of_the_embedding_returned(
    trace: ovam.Trace, init: torch.Tensor, loss: str, optimizer: str
) -> None:
    fit = ovam.optimize_tokens([(trace, MASK)], init, loss=loss, optimizer=optimizer, epochs=30)
    assert len(fit.losses) == 30
    assert fit.best_loss == min(fit.losses) < fit.losses[0]
    maps = ovam.heatmaps(trace, fit.embedding, size=(64, 96))
    value = bce(maps, TARGET) if loss == "bce" else cross_entropy_minmax(maps, TARGET)
    assert float(value) == pytest.approx(fit.best_loss, rel=1e-4)


def test_tokens_that_became_worse_later_are_not_kept(trace: ovam.Trace, init: torch.Tensor) -> None:
    drawn = nearest(ovam.heatmaps(trace, init, size=(32, 48)), trace.image_size)  # no tokens draw it better
    fit = ovam.optimize_tokens([(trace, drawn)], init, optimizer="adam", learning_rate=1.0, epochs=3)
    assert (fit.best_epoch, len(fit.losses)) == (0, 3)
    assert fit.best_loss == min(fit.losses) < fit.losses[-1]
    assert torch.equal(fit.embedding, init)


def course_of(values: list[float], patience: int | None = None) -> _Course:
    """The course of losses; the tokens of an epoch are its number."""
    course, tokens = _Course(patience), torch.empty(1, 1)
    for epoch, value in enumerate(values):
        if not course.goes_on(epoch, value, tokens.fill_(epoch), None):
            break
    return course


@given(st.lists(st.floats(0.01, 9), min_size=1, max_size=20))
def test_of_any_losses_the_first_of_the_lowest_is_kept(values: list[float]) -> None:
    course = course_of(values)
    assert course.losses == values
    assert course.best_epoch == int(course.best) == values.index(min(values))


def test_only_a_gain_of_a_ten_thousandth_since_the_last_one_puts_the_end_off() -> None:
    slow = [1.0, 0.99995, 0.99991, 0.5]
    assert [course_of(slow, patience).ended for patience in (2, 3)] == ["plateau", "epochs"]
    assert course_of([1.0, 0.99995, 0.99985, 0.9998], 2).ended == "epochs"
    assert course_of([2.0, *[1.0] * 3], 3).ended == "epochs"
    assert course_of([2.0, *[1.0] * 9], 3).losses == [2.0, *[1.0] * 4]
    assert course_of([1.0] * 200).ended == "epochs"


def test_a_loss_that_is_no_number_ends_it_with_the_best_so_far() -> None:
    course = course_of([2.0, 1.0, math.nan, 0.0])
    assert (course.ended, course.losses, int(course.best)) == ("diverged", [2.0, 1.0], 1)
    with pytest.raises(OptimizationError, match="loss of the initial tokens is inf"):
        course_of([math.inf])


def test_what_is_not_chosen_is_the_published_codes(trace: ovam.Trace, init: torch.Tensor) -> None:
    fit = ovam.optimize_tokens([(trace, MASK)], init, epochs=1)
    assert (fit.loss, fit.optimizer, fit.learning_rate, fit.schedule) == ("bce", "sgd", 100.0, Step())
    defaults = inspect.signature(ovam.optimize_tokens).parameters
    assert (defaults["epochs"].default, defaults["patience"].default) == (500, 60)


def test_two_runs_give_the_same_tokens(trace: ovam.Trace, init: torch.Tensor) -> None:
    one, other = (ovam.optimize_tokens([(trace, MASK)], init, epochs=20) for _ in range(2))
    assert one.losses == other.losses
    assert torch.equal(one.embedding, other.embedding)


def test_with_two_classes_gradient_descent_moves_the_tokens_apart_and_keeps_their_sum(
    trace: ovam.Trace, init: torch.Tensor
) -> None:
    fit = ovam.optimize_tokens([(trace, MASK)], init, epochs=40)
    assert float((fit.embedding - init).abs().max()) > 0.1
    assert torch.allclose(fit.embedding.sum(dim=0), init.sum(dim=0), atol=1e-3)


def test_the_model_and_the_initial_tokens_stay_as_they_were(
    pipeline: StableDiffusionPipeline, trace: ovam.Trace, init: torch.Tensor
) -> None:
    before = init.clone()
    ovam.optimize_tokens([(trace, MASK)], init, epochs=3)
    assert torch.equal(init, before)
    assert all(parameter.grad is None for parameter in pipeline.unet.parameters())


def test_several_classes_and_several_examples_are_learned_together(pipeline: StableDiffusionPipeline, trace: ovam.Trace) -> None:
    left, right = torch.zeros(32, 48), torch.zeros(32, 48)
    left[4:20, 4:20], right[10:28, 28:44] = 1, 1
    both = torch.stack([1 - left - right, left, right])
    one = torch.stack([1 - left, left, torch.zeros(32, 48)])
    init = initial_tokens(pipeline, "cat", "dog")
    fit = ovam.optimize_tokens([(trace, both), (trace, one)], init, epochs=30)
    assert fit.embedding.shape == (3, 32)
    assert fit.best_loss < fit.losses[0]


def test_an_example_given_twice_counts_as_once(trace: ovam.Trace, init: torch.Tensor) -> None:
    once = ovam.optimize_tokens([(trace, MASK)], init, epochs=10)
    twice = ovam.optimize_tokens([(trace, MASK), (trace, MASK)], init, epochs=10)
    assert twice.losses == pytest.approx(once.losses, rel=1e-4)


def test_masks_may_be_numpy_and_soft(trace: ovam.Trace, init: torch.Tensor) -> None:
    hard = ovam.optimize_tokens([(trace, MASK)], init, epochs=3)
    same = ovam.optimize_tokens([(trace, MASK.numpy().astype(np.float64))], init, epochs=3)
    assert hard.losses == same.losses
    assert len(ovam.optimize_tokens([(trace, MASK * 0.7)], init, epochs=2).losses) == 2


def test_the_callback_sees_every_epoch_and_may_end_the_search(trace: ovam.Trace, init: torch.Tensor) -> None:
    seen: list[tuple[int, float]] = []

    def end_at_four(epoch: int, loss: float) -> bool:
        seen.append((epoch, loss))
        return epoch < 4

    fit = ovam.optimize_tokens([(trace, MASK)], init, epochs=50, on_epoch=end_at_four)
    assert fit.ended == "callback"
    assert seen == list(enumerate(fit.losses))
    assert len(seen) == 5


def test_an_error_of_the_callback_goes_through(trace: ovam.Trace, init: torch.Tensor) -> None:
    def cancel(_epoch: int, _loss: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ovam.optimize_tokens([(trace, MASK)], init, on_epoch=cancel)


def test_the_search_ends_on_a_plateau(trace: ovam.Trace, init: torch.Tensor) -> None:
    fit = ovam.optimize_tokens([(trace, MASK)], init, learning_rate=1e-9, epochs=100, patience=7)
    assert fit.ended == "plateau"
    assert len(fit.losses) == 8


def test_perfect_maps_leave_the_published_loss_at_its_floor() -> None:
    assert float(cross_entropy_minmax(TARGET, TARGET)) == pytest.approx(math.log(1 + math.exp(-1)), rel=1e-5)


def test_bce_is_finite_where_maps_are_all_or_nothing() -> None:
    for maps in (torch.zeros_like(TARGET), torch.ones_like(TARGET), TARGET, 1 - TARGET):
        assert math.isfinite(float(bce(maps, TARGET)))
    assert float(bce(TARGET, TARGET)) < 0.01 < float(bce(1 - TARGET, TARGET))


def test_bce_of_one_half_everywhere_is_two_bits_of_nats() -> None:
    assert float(bce(torch.full_like(TARGET, 0.5), TARGET)) == pytest.approx(2 * math.log(2), rel=1e-5)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (torch.zeros(64, 96), "class 0 covers the whole image"),
        (torch.ones(64, 96), "class 1 covers the whole image"),
        (MASK * 255.0, "outside of 0 to 1"),
        (MASK * 255, "as a label 255 does not count; give `mask > 0`"),
        (MASK * 0 + 255, "no pixel that counts"),
        (MASK * 2, "labels from 0 to 2; allowed: 0 to 1, 255"),
        (MASK / torch.tensor(0.0), "outside of 0 to 1"),
        (torch.stack([torch.full((4, 4), 0.5), torch.zeros(4, 4)]), "class 1 has no pixel"),
    ],
)
def test_a_mask_that_teaches_nothing_is_refused(trace: ovam.Trace, init: torch.Tensor, mask: torch.Tensor, message: str) -> None:
    with pytest.raises(UnusableMaskError, match=message):
        ovam.optimize_tokens([(trace, mask)], init)


def test_arguments_outside_are_named(trace: ovam.Trace, init: torch.Tensor) -> None:
    bad: list[tuple[str, Any]] = [
        ("learning_rate", 0.0), ("learning_rate", math.inf), ("epochs", 0), ("patience", 0),
    ]  # fmt: skip
    for field, value in bad:
        with pytest.raises(InvalidArgumentError, match=rf"^{field} is "):
            ovam.optimize_tokens([(trace, MASK)], init, **{field: value})
    with pytest.raises(InvalidArgumentError, match=r"^init is "):
        ovam.optimize_tokens([(trace, MASK)], init[:1])
    with pytest.raises(InvalidArgumentError, match=r"^mask 0 is "):
        ovam.optimize_tokens([(trace, MASK[0])], init)
    with pytest.raises(InvalidArgumentError, match=r"^examples is "):
        ovam.optimize_tokens([], init)
    with pytest.raises(SelectionError):
        ovam.optimize_tokens([(trace, MASK)], init, blocks="side")


def test_tokens_that_are_no_numbers_are_refused(trace: ovam.Trace, init: torch.Tensor) -> None:
    for number in (math.nan, math.inf):
        with pytest.raises(EmbeddingNotFiniteError, match="NaN"):
            ovam.optimize_tokens([(trace, MASK)], torch.full_like(init, number))
