"""Learning the tokens whose heatmaps match given masks (section 3.3, Eq. 6 and 7)."""

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from ovam.attention.backends import exact_type
from ovam.attention.heatmaps import joint_reduced, reduced, require_fitting
from ovam.attention.joint import select_joint
from ovam.attention.scores import select
from ovam.core.schedules import Schedule, Step, decay
from ovam.core.selection import Blocks, Positions
from ovam.core.settings import checked
from ovam.errors import EmbeddingNotFiniteError, InvalidArgumentError, OptimizationError, UnsupportedModelError
from ovam.learning.ahead import Coming, epochs_ahead, recorded
from ovam.learning.examples import Example, TrainingExample, training_examples
from ovam.learning.initial import named_initial
from ovam.learning.losses import bce, cross_entropy_minmax
from ovam.learning.token_files import LearnedTokens
from ovam.tracing.families import UNET
from ovam.tracing.model import Pipeline

Loss = Literal["bce", "cross_entropy_minmax"]
Optimizer = Literal["sgd", "adam"]

_LEARNING_RATES = {"sgd": 100.0, "adam": 0.1}


@dataclass(frozen=True, eq=False)
class TokenFit:
    """Learned tokens and how they were found.

    With two classes only the difference of the rows counts: an object's row is valid with its background's
    row alone.
    """

    embedding: Float[Tensor, "classes text_width"]
    """The rows with the lowest loss; row 0 is the background."""
    losses: tuple[float, ...]
    """Loss of every epoch, before its step."""
    best_epoch: int
    """The epoch that `embedding` is from, counted from 0."""
    ended: Literal["epochs", "plateau", "callback", "diverged"]
    """Why it ended: all epochs done, no more gain, `on_epoch` returned False, or the loss was not finite."""
    loss: Loss
    optimizer: Optimizer
    learning_rate: float
    schedule: Schedule
    names: tuple[str, ...]
    """The classes' names without the background's."""
    family: str = UNET.name
    """The family of the traces' model: its tokens fit no other."""

    @property
    def best_loss(self) -> float:
        """Loss of `embedding`."""
        return self.losses[self.best_epoch]

    @property
    def tokens(self) -> LearnedTokens:
        """The tokens with their names, to segment with and to save."""
        known = {"loss": self.loss, "best_loss": self.best_loss, "best_epoch": self.best_epoch, "epochs": len(self.losses)}
        known |= {"family": self.family}
        return LearnedTokens(self.embedding.detach().float().cpu(), self.names, known)


@checked
def optimize_tokens(  # noqa: PLR0913 - every choice of the method is one keyword
    examples: Sequence[Example],
    init: Float[Tensor, "classes text_width"] | str | Sequence[str],
    *,
    pipeline: Pipeline | None = None,
    loss: Loss = "bce",
    optimizer: Optimizer = "sgd",
    learning_rate: float | None = None,
    epochs: int = 500,
    schedule: Schedule = Step(),  # noqa: B008 - a frozen value
    patience: int | None = 60,
    blocks: Blocks = "all",
    evaluations: Positions | slice = "all",
    on_epoch: Callable[[int, float], bool | None] | None = None,
) -> TokenFit:
    """Learn the tokens whose heatmaps are nearest to the examples' masks, by gradient descent (Eq. 6).

    An example is a trace and its mask: an array, a tensor or a PIL image in one of the forms that
    `ovam.learning.examples.training_examples` takes. `init` is the classes' words, from which `initial_tokens` makes the
    initial embedding with `pipeline`; or that embedding itself, a row per class, row 0 the background.
    `loss="bce"` is Eq. 7 on the mean heatmap, summed over classes, averaged over pixels and examples;
    `"cross_entropy_minmax"` is the published code's, for comparison: its floor for two classes is 0.3133.

    The learning rate (default 100 for "sgd", 0.1 for "adam") follows `schedule`. It ends early after
    `patience` epochs without gain. `on_epoch(epoch, loss)` may return False to end with the best so far;
    an exception it raises goes through. Nothing is random: the same input gives the same result.

    Raises `InvalidArgumentError`, `EmbeddingNotFiniteError`, `SelectionError`, `OptimizationError`, and for
    the examples what `training_examples` raises.

    >>> with ovam.capture(pipeline) as traces:
    ...     image = pipeline("a cat", num_inference_steps=2).images[0]
    >>> mask = np.zeros(traces[0].image_size, bool)
    >>> mask[16:48, 16:48] = True
    >>> fit = ovam.optimize_tokens([(traces[0], mask)], "cat", pipeline=pipeline, optimizer="adam", epochs=5)
    >>> fit.tokens.names, fit.best_loss < fit.losses[0]
    (('cat',), True)
    """
    rate = _LEARNING_RATES.get(optimizer, 0.0) if learning_rate is None else learning_rate
    _check_numbers(rate, epochs, patience)
    names, start = named_initial(pipeline, init)
    _check_init(start)
    with torch.inference_mode(mode=False), torch.enable_grad():
        found = training_examples(examples, start.shape[0])
        device = found[0].trace.device
        tokens = start.detach().clone().to(device, torch.promote_types(start.dtype, torch.float32)).requires_grad_()
        for one in found:
            require_fitting(one.trace, tokens)
        losses = [_loss_of(one, loss, blocks, evaluations) for one in found]
        work = recorded(lambda: _loss_and_gradient(losses, tokens), device)
        steps: torch.optim.Optimizer = (
            torch.optim.SGD([tokens], lr=rate) if optimizer == "sgd" else torch.optim.Adam([tokens], lr=rate)
        )
        course = _Course(patience)
        started: deque[tuple[int, Coming, Tensor]] = deque()
        for epoch in range(epochs):
            value, tokens.grad = work()
            started.append((epoch, Coming(value), tokens.detach().clone()))
            if len(started) > epochs_ahead(device) and not course.goes_on(*_arrived(started), on_epoch):
                break
            steps.param_groups[0]["lr"] = rate * decay(schedule, epoch, epochs)
            steps.step()
        while started and course.ended == "epochs" and course.goes_on(*_arrived(started), on_epoch):
            pass
    best = course.best.to(start.device)
    family = found[0].trace.family
    return TokenFit(best, tuple(course.losses), course.best_epoch, course.ended, loss, optimizer, rate, schedule, names, family)


def _arrived(started: deque[tuple[int, Coming, Tensor]]) -> tuple[int, float, Tensor]:
    """Take the epoch that was started first: its number, its loss, and the tokens it began with."""
    epoch, value, tokens = started.popleft()
    return epoch, float(value), tokens


class _Course:
    """The course of an optimisation: its losses, its best tokens and when to end."""

    def __init__(self, patience: int | None) -> None:
        self._patience = math.inf if patience is None else patience
        self._gain_epoch = 0
        self._gain_loss = math.inf
        self._lowest = math.inf
        self.losses: list[float] = []
        self.best = torch.empty(0, 0)
        self.best_epoch = 0
        self.ended: Literal["epochs", "plateau", "callback", "diverged"] = "epochs"

    def goes_on(self, epoch: int, value: float, tokens: Tensor, on_epoch: Callable[[int, float], bool | None] | None) -> bool:
        """Record an epoch's loss, keep its tokens if they are the best, and return whether to take its step."""
        if not math.isfinite(value):
            if epoch == 0:
                raise OptimizationError(f"the loss of the initial tokens is {value}")
            self.ended = "diverged"
            return False
        self.losses.append(value)
        if value < self._lowest:
            self._lowest, self.best_epoch, self.best = value, epoch, tokens.detach().clone()
        if value < self._gain_loss * (1 - 1e-4):
            self._gain_loss, self._gain_epoch = value, epoch
        if on_epoch is not None and on_epoch(epoch, value) is False:
            self.ended = "callback"
        elif epoch - self._gain_epoch >= self._patience:
            self.ended = "plateau"
        return self.ended == "epochs"


def _loss_of(
    example: TrainingExample, loss: Loss, blocks: Blocks, evaluations: Positions | slice
) -> Callable[[Tensor], Float[Tensor, ""]]:
    """Return what computes an example's loss of tokens, all that stays the same in every epoch done."""
    size, counted = example.trace.image_size, example.counted
    if example.trace.joint is not None:
        stream = select_joint(example.trace, "concept", blocks, evaluations, "all")
        exact, maps_of = torch.float32, partial(joint_reduced, stream, reduction="mean", size=size)
    else:
        selected = select(example.trace, blocks, evaluations, "all")
        exact, maps_of = exact_type(selected[0].block.queries), partial(reduced, selected, reduction="mean", size=size)
    target = example.target.to(example.trace.device, exact)
    counted = None if counted is None else counted.to(target.device)

    def loss_of(tokens: Tensor) -> Tensor:
        maps = maps_of(tokens)
        return (bce if loss == "bce" else cross_entropy_minmax)(maps, target, counted)

    return loss_of


def _loss_and_gradient(losses: Sequence[Callable[[Tensor], Tensor]], tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Average loss and gradient over the examples, one after the other to hold one graph at a time.

    Asking for this one gradient leaves none on the model's own parameters.
    """
    value, gradient = torch.zeros((), dtype=torch.float64, device=tokens.device), torch.zeros_like(tokens)
    for loss_of in losses:
        loss = loss_of(tokens)
        slope = torch.autograd.grad(loss, tokens, allow_unused=True)[0] if loss.requires_grad else None
        if slope is None:
            raise UnsupportedModelError(
                "the key projections give no gradients, as quantised kernels do; learn with float weights"
            )
        gradient += slope / len(losses)
        value += loss.detach() / len(losses)
    return value, gradient


def _check_numbers(rate: float, epochs: int, patience: int | None) -> None:
    """Refuse numbers outside what is allowed."""
    if not (rate > 0 and math.isfinite(rate)):
        raise InvalidArgumentError("learning_rate", rate, "above 0")
    if epochs < 1:
        raise InvalidArgumentError("epochs", epochs, "1 or more")
    if patience is not None and patience < 1:
        raise InvalidArgumentError("patience", patience, "1 or more epochs, or none")


def _check_init(init: Tensor) -> None:
    """Refuse rows that cannot be learned from."""
    if init.ndim != 2 or init.shape[0] < 2 or not init.is_floating_point():
        raise InvalidArgumentError("init", tuple(init.shape), "(2 or more classes, width), floating")
    if not bool(init.isfinite().all()):
        raise EmbeddingNotFiniteError("init has values that are no numbers (NaN) or infinite; allowed: finite ones")
