"""A training under way: steps, a checkpoint from which it goes on exactly, and how long it will take."""

import pickle
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from experiments.evaluation.tasks import minutes

CHECKPOINT_STEPS = 50
RECENT = 200
"""Losses that are averaged when progress is told."""
Loss = Callable[[np.random.Generator], Tensor]
"""Draws a batch and returns its loss."""


class TrainingError(Exception):
    """A training cannot go on; the message says why."""


@dataclass(frozen=True)
class Schedule:
    """How many steps, and how fast."""

    steps: int
    rate: float
    """Of Adam."""
    drop: float = 1.0
    """From which share of the steps on the rate is a tenth."""

    def rate_at(self, step: int) -> float:
        """The rate of a step."""
        return self.rate if step < self.drop * self.steps else 0.1 * self.rate


class Training:
    """A network and its optimiser, from the checkpoint on if there is one."""

    def __init__(self, module: nn.Module, schedule: Schedule, checkpoint: Path, seed: int = 0) -> None:
        self.module, self.schedule, self.checkpoint, self.seed = module, schedule, checkpoint, seed
        self.optimizer = torch.optim.Adam(module.parameters(), lr=schedule.rate)
        self.step, self.losses = 0, list[float]()
        if checkpoint.exists():
            self._load()

    def run(self, loss: Loss, until: int | None = None) -> None:
        """Take the steps that are left, saying from time to time how far it is."""
        first, began = self.step, time.monotonic()
        for value in self._steps(loss, min(until or self.schedule.steps, self.schedule.steps)):
            self.losses.append(value)
            if self.step % CHECKPOINT_STEPS == 0 or self.step == self.schedule.steps:
                self.save()
                left = (self.schedule.steps - self.step) * (time.monotonic() - began) / (self.step - first)
                recent = float(np.mean(self.losses[-RECENT:]))
                print(f"step {self.step} of {self.schedule.steps}: loss {recent:.4f}, {minutes(left)} left", flush=True)

    def save(self) -> None:
        """Write the checkpoint beside the old one, then replace it."""
        state = {
            "module": self.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "losses": self.losses,
        }
        self.checkpoint.parent.mkdir(parents=True, exist_ok=True)
        beside = self.checkpoint.with_suffix(".partial")
        torch.save(state, beside)
        beside.replace(self.checkpoint)

    def _steps(self, loss: Loss, until: int) -> Iterator[float]:
        """Take steps; the randomness of each is of its number alone."""
        while self.step < until:
            for group in self.optimizer.param_groups:
                group["lr"] = self.schedule.rate_at(self.step)
            torch.manual_seed(1_000_000 * self.seed + self.step)
            value = loss(np.random.default_rng((self.seed, self.step)))
            self.optimizer.zero_grad()
            value.backward()
            self.optimizer.step()
            self.step += 1
            yield value.item()

    def _load(self) -> None:
        try:
            state = torch.load(self.checkpoint, map_location="cpu", weights_only=True)
            self.module.load_state_dict(state["module"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.step, self.losses = state["step"], state["losses"]
        except (RuntimeError, KeyError, EOFError, ValueError, pickle.UnpicklingError) as error:
            raise TrainingError(f"the checkpoint {self.checkpoint} is damaged, or of another network: remove it") from error
