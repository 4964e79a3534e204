"""Learning the tokens whose heatmaps match given masks (section 3.3, Eq. 6 and 7)."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import cross_entropy

from ovam.errors import InvalidArgumentError, OptimizationError, UnusableMaskError
from ovam.heatmaps import heatmaps
from ovam.masks import min_max
from ovam.model import Pipeline
from ovam.selection import Blocks, Indices
from ovam.text import encode, word_tokens
from ovam.trace import Trace

Loss = Literal["bce", "cross_entropy_minmax"]
Optimizer = Literal["sgd", "adam"]
Example = tuple[Trace, Tensor | np.ndarray]

_LEARNING_RATES = {"sgd": 100.0, "adam": 0.1}
_BCE_MARGIN = 1e-6


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
    """The epoch that ``embedding`` is from, counted from 0."""
    ended: Literal["epochs", "plateau", "callback", "diverged"]
    """Why it ended: all epochs done, no more gain, ``on_epoch`` said so, or the loss was no number."""
    loss: Loss
    optimizer: Optimizer
    learning_rate: float

    @property
    def best_loss(self) -> float:
        """Loss of ``embedding``."""
        return self.losses[self.best_epoch]


def initial_tokens(pipeline: Pipeline, *words: str) -> Float[Tensor, "classes text_width"]:
    """Take <SoT> for the background and each word's last sub-token in "A photograph of a <word>"."""
    rows = []
    for word in words:
        prompt = f"A photograph of a {word}"
        embedding, tokens = encode(pipeline, prompt)
        last = word_tokens(tokens, prompt, word)[-1].index
        rows += [embedding[last]] if rows else [embedding[0], embedding[last]]
    if not rows:
        raise InvalidArgumentError("words", words, "at least one")
    return torch.stack(rows)


def optimize_tokens(  # noqa: PLR0913 - every choice of the method is one keyword
    examples: Sequence[Example],
    init: Float[Tensor, "classes text_width"],
    *,
    loss: Loss = "bce",
    optimizer: Optimizer = "sgd",
    learning_rate: float | None = None,
    epochs: int = 500,
    decay_every: int = 120,
    decay: float = 0.7,
    patience: int | None = 60,
    blocks: Blocks = None,
    evaluations: Indices = None,
    on_epoch: Callable[[int, float], bool | None] | None = None,
) -> TokenFit:
    """Find the embedding whose heatmaps are nearest to the examples' masks, by gradient descent (Eq. 6).

    An example is a trace and its mask: (height, width), bool or in [0, 1], for background and one class, or
    (classes, height, width) with row 0 the background. ``init`` has a row per class, see `initial_tokens`.
    ``loss="bce"`` is Eq. 7 on the mean heatmap, summed over classes, averaged over pixels and examples;
    ``"cross_entropy_minmax"`` is the published code's, for comparison: its floor for two classes is 0.3133.

    The learning rate (default 100 for "sgd", 0.1 for "adam") falls by ``decay`` every ``decay_every``
    epochs. It ends early after ``patience`` epochs without gain. ``on_epoch(epoch, loss)`` may return False
    to end with the best so far; an exception it raises goes through. The same input gives the same result.

    Raises `InvalidArgumentError`, `UnusableMaskError` for a mask that is empty, full or out of range,
    `SelectionError`, `OptimizationError`.
    """
    rate = _LEARNING_RATES.get(optimizer, 0.0) if learning_rate is None else learning_rate
    _check_options(loss, optimizer, rate, epochs, init)
    with torch.inference_mode(mode=False), torch.enable_grad():
        tokens = init.detach().clone()
        tokens = (tokens if tokens.dtype == torch.float64 else tokens.float()).requires_grad_()
        targets = _targets(examples, tokens.shape[0])

        def loss_of(trace: Trace, target: Tensor) -> Tensor:
            size = (target.shape[1], target.shape[2])
            maps = heatmaps(trace, tokens, size=size, blocks=blocks, evaluations=evaluations)
            target = target.to(maps)
            return bce(maps, target) if loss == "bce" else cross_entropy_minmax(maps, target)

        steps: torch.optim.Optimizer = (
            torch.optim.SGD([tokens], lr=rate) if optimizer == "sgd" else torch.optim.Adam([tokens], lr=rate)
        )
        schedule = torch.optim.lr_scheduler.StepLR(steps, step_size=decay_every, gamma=decay)
        course = _Course(patience)
        for epoch in range(epochs):
            value, tokens.grad = _loss_and_gradient(loss_of, tokens, targets)
            if not course.goes_on(epoch, value, tokens, on_epoch):
                break
            steps.step()
            schedule.step()
    return TokenFit(course.best, tuple(course.losses), course.best_epoch, course.ended, loss, optimizer, rate)


def bce(maps: Float[Tensor, "classes height width"], target: Float[Tensor, "classes height width"]) -> Float[Tensor, ""]:
    """Binary cross-entropy of mean heatmaps and masks, summed over classes, averaged over pixels (Eq. 7)."""
    heat = maps.clamp(_BCE_MARGIN, 1 - _BCE_MARGIN)
    return -(target * heat.log() + (1 - target) * (1 - heat).log()).sum(dim=0).mean()


def cross_entropy_minmax(
    maps: Float[Tensor, "classes height width"], target: Float[Tensor, "classes height width"]
) -> Float[Tensor, ""]:
    """Cross-entropy with the maps, stretched to [0, 1] all together, for logits: the published code's."""
    stretched = min_max(maps.flatten(1)).view_as(maps)
    return cross_entropy(stretched[None], target[None])


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
        """Note an epoch's loss, keep its tokens if they are the best, and say whether to take its step."""
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


def _loss_and_gradient(
    loss_of: Callable[[Trace, Tensor], Tensor], tokens: Tensor, targets: list[tuple[Trace, Tensor]]
) -> tuple[float, Tensor]:
    """Average loss and gradient over the examples, one after the other to hold one graph at a time.

    Asking for this one gradient leaves none on the model's own parameters.
    """
    value, gradient = 0.0, torch.zeros_like(tokens)
    for trace, target in targets:
        loss = loss_of(trace, target)
        gradient += torch.autograd.grad(loss, tokens)[0] / len(targets)
        value += float(loss.detach()) / len(targets)
    return value, gradient


def _targets(examples: Sequence[Example], classes: int) -> list[tuple[Trace, Tensor]]:
    """Bring every mask to (classes, height, width) and refuse those that teach nothing."""
    if not examples:
        raise InvalidArgumentError("examples", examples, "at least one (trace, mask)")
    targets = [(trace, _target(mask, classes, number)) for number, (trace, mask) in enumerate(examples)]
    for row in range(classes):
        if not any(bool(target[row].any()) for _, target in targets):
            raise UnusableMaskError(f"class {row} has no pixel in any of {len(targets)} masks")
    return targets


def _target(mask: Tensor | np.ndarray, classes: int, number: int) -> Float[Tensor, "classes height width"]:
    """Bring one mask to (classes, height, width)."""
    target = torch.as_tensor(mask).detach().to(torch.float32)
    if target.ndim == 2 and classes == 2:
        target = torch.stack([1 - target, target])
    if target.ndim != 3 or target.shape[0] != classes or target.numel() == 0:
        allowed = f"({classes}, height, width)" + (" or (height, width)" if classes == 2 else "")
        field = f"mask {number}"
        raise InvalidArgumentError(field, tuple(target.shape), allowed)
    if not bool(target.isfinite().all()) or float(target.min()) < 0 or float(target.max()) > 1:
        raise UnusableMaskError(f"mask {number} has values outside of 0 to 1")
    for row, pixels in enumerate(target):
        if bool((pixels == 1).all()):
            message = f"mask {number}: class {row} covers the whole image; allowed: at least two classes in it"
            raise UnusableMaskError(message)
    return target


def _check_options(loss: str, optimizer: str, rate: float, epochs: int, init: Tensor) -> None:
    """Refuse options outside what is allowed."""
    if loss not in get_args(Loss):
        raise InvalidArgumentError("loss", loss, f"one of {get_args(Loss)}")
    if optimizer not in get_args(Optimizer):
        raise InvalidArgumentError("optimizer", optimizer, f"one of {get_args(Optimizer)}")
    if not (rate > 0 and math.isfinite(rate)):
        raise InvalidArgumentError("learning_rate", rate, "above 0")
    if epochs < 1:
        raise InvalidArgumentError("epochs", epochs, "1 or more")
    if init.ndim != 2 or init.shape[0] < 2 or not init.is_floating_point():
        raise InvalidArgumentError("init", tuple(init.shape), "(2 or more classes, width), floating")
