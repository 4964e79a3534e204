"""What both trainings share: data-parallel processes, a time budget, a moving average of weights, checkpoints.

On a CPU that is busy with other work too, two threads of one process wait for each other at every operation; two
single-threaded processes that average their gradients do so once a step. Hence data parallelism is the only kind of
parallelism here. On a GPU one process does it all.
"""

import math
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn

AVERAGE_DECAY = 0.999
SECONDS_BETWEEN_CHECKPOINTS = 240


@dataclass
class Progress:
    """How far a training is. Time is the budget; a resumed run ends where it would have ended."""

    budget: float  # seconds of training in all
    elapsed: float = 0.0  # seconds trained so far, over all runs
    samples: int = 0
    last_tick: float = field(default_factory=time.monotonic)

    def tick(self, samples: int) -> None:
        """Count the samples of a step and the time since the last one."""
        now = time.monotonic()
        self.elapsed += now - self.last_tick
        self.last_tick = now
        self.samples += samples

    @property
    def fraction(self) -> float:
        """The share of the budget used, 0..1."""
        return min(1.0, self.elapsed / self.budget)

    @property
    def done(self) -> bool:
        """Whether the budget is used up."""
        return self.fraction >= 1.0

    def learning_rate(self, peak: float, *, decay_from: float) -> float:
        """Warm up over 1 % of the budget, hold, then a half cosine down to a hundredth from `decay_from` on."""
        warm = min(1.0, self.fraction / 0.01 + 0.02)
        late = max(0.0, (self.fraction - decay_from) / (1 - decay_from))
        return peak * warm * max(0.01, 0.5 * (1 + math.cos(late * math.pi)))

    def __str__(self) -> str:
        """Samples, speed and time left."""
        speed = self.samples / max(self.elapsed, 1e-9)
        left = max(0.0, self.budget - self.elapsed) / 60
        return f"{self.samples} samples ({speed:.0f}/s), {left:.1f} min left"


class MovingAverage:
    """An exponential moving average of a model's parameters, with a warm-up so that it forgets the start."""

    def __init__(self, parameters: Iterable[Tensor], decay: float) -> None:
        self.decay = decay
        self.values = [p.detach().clone() for p in parameters]

    def update(self, parameters: Iterable[Tensor], step: int) -> None:
        """Move towards the parameters."""
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self.values, [p.detach() for p in parameters], 1 - decay)

    def copy_to(self, parameters: Iterable[Tensor]) -> None:
        """Overwrite the parameters with the average."""
        with torch.no_grad():
            for value, parameter in zip(self.values, parameters, strict=True):
                parameter.copy_(value)


@dataclass
class Training:
    """A training under way. It can be put down at any time and taken up again from its last checkpoint."""

    modules: list[nn.Module]
    optimizer: torch.optim.Optimizer
    average: MovingAverage
    progress: Progress
    checkpoint: Path
    learning_rate: float
    decay_from: float
    step: int = 0
    saved_at: float = 0.0  # seconds of training

    @staticmethod
    def begin(
        modules: list[nn.Module], checkpoint: Path, *, budget: float, learning_rate: float, decay_from: float
    ) -> "Training":
        """Begin, or go on from `checkpoint` if it is there; every process starts from process 0's weights."""
        parameters = [parameter for module in modules for parameter in module.parameters()]
        optimizer = torch.optim.AdamW(parameters, lr=learning_rate, betas=(0.9, 0.99), weight_decay=0.01, fused=True)
        progress = Progress(budget)
        training = Training(
            modules, optimizer, MovingAverage(parameters, AVERAGE_DECAY), progress, checkpoint, learning_rate, decay_from
        )
        if checkpoint.exists():
            training.load()
        elif dist.is_initialized():
            for parameter in parameters:
                dist.broadcast(parameter.data, 0)
        return training

    @property
    def parameters(self) -> list[nn.Parameter]:
        """What is trained."""
        return [parameter for module in self.modules for parameter in module.parameters()]

    def advance(self, loss: Tensor, samples: int) -> bool:
        """Take one step down the loss of this process's samples; False when the budget is used up, in all processes alike."""
        self.optimizer.zero_grad()
        loss.backward()
        self.progress.tick(samples)
        self.progress.elapsed = average_gradients(self.parameters, self.progress.elapsed)
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.param_groups[0]["lr"] = self.progress.learning_rate(self.learning_rate, decay_from=self.decay_from)
        self.optimizer.step()
        self.average.update(self.parameters, self.step)
        self.step += 1
        return not self.progress.done

    @property
    def save_is_due(self) -> bool:
        """Whether the last checkpoint is old, or the end is reached."""
        return self.progress.done or self.progress.elapsed - self.saved_at > SECONDS_BETWEEN_CHECKPOINTS

    def save(self) -> None:
        """Write the checkpoint beside the old one, then replace it."""
        self.saved_at = self.progress.elapsed
        state = {
            "modules": [module.state_dict() for module in self.modules],
            "optimizer": self.optimizer.state_dict(),
            "average": self.average.values,
            "elapsed": self.progress.elapsed,
            "samples": self.progress.samples,
            "step": self.step,
        }
        self.checkpoint.parent.mkdir(parents=True, exist_ok=True)
        beside = self.checkpoint.with_suffix(".partial")
        torch.save(state, beside)
        beside.replace(self.checkpoint)

    def load(self) -> None:
        """Go on from the checkpoint."""
        state = torch.load(self.checkpoint, map_location=device(), weights_only=True)
        for module, weights in zip(self.modules, state["modules"], strict=True):
            module.load_state_dict(weights)
        self.optimizer.load_state_dict(state["optimizer"])
        self.average.values = state["average"]
        self.progress = Progress(self.progress.budget, elapsed=state["elapsed"], samples=state["samples"])
        self.step, self.saved_at = state["step"], state["elapsed"]


def average_gradients(parameters: list[nn.Parameter], clock: float) -> float:
    """Average the gradients over all processes in one message; returns the average clock, so that all agree on the time."""
    if not dist.is_initialized():
        return clock
    gradients = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([g.reshape(-1) for g in gradients] + [torch.tensor([clock])])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    for gradient, piece in zip(gradients, flat[:-1].split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(piece.view_as(gradient))
    return float(flat[-1])


def wait_for_all() -> None:
    """Wait until every process has come here."""
    if dist.is_initialized():
        dist.barrier()


def worker(rank: int, processes: int, port: int, task: Callable[..., None], arguments: tuple[object, ...]) -> None:
    """One process of a data-parallel training."""
    torch.set_num_threads(1)
    if processes > 1:
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
        dist.init_process_group("gloo", rank=rank, world_size=processes)
    try:
        task(rank, processes, *arguments)
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def launch(task: Callable[..., None], processes: int, port: int, *arguments: object) -> None:
    """Run task(rank, processes, *arguments) in that many processes and wait for them."""
    # glibc otherwise returns every large tensor to the kernel and faults it in again.
    os.environ |= {"MALLOC_MMAP_THRESHOLD_": str(2**25), "MALLOC_TRIM_THRESHOLD_": str(2**34)}
    if processes == 1:
        worker(0, 1, port, task, arguments)
    else:
        mp.spawn(worker, args=(processes, port, task, arguments), nprocs=processes)


def device() -> torch.device:
    """The GPU if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
