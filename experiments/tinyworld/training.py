"""What both trainings share: data-parallel processes, a time budget, a moving average of weights, checkpoints.

On a CPU two single-threaded processes that average their gradients are several times faster than two threads in one
process, so data parallelism is the only kind of parallelism here; on a GPU one process does it all.
"""

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn


@dataclass
class Progress:
    """How far a training is. Time is the budget; it is carried through checkpoints, so a resumed run ends where it would have."""

    budget: float  # seconds of training in all
    elapsed: float = 0.0  # seconds trained so far, over all runs
    samples: int = 0
    resumed_at: float = field(default_factory=time.monotonic)
    before: float = 0.0

    def tick(self, samples: int) -> None:
        """Count the samples of a step and the time since the last start."""
        self.samples += samples
        self.elapsed = self.before + time.monotonic() - self.resumed_at

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
        half_cosine = 0.5 * (1 + float(torch.cos(torch.tensor(late * torch.pi))))
        return peak * warm * max(0.01, half_cosine)


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


def save(path: Path, state: dict[str, object]) -> None:
    """Write a checkpoint beside the old one, then replace it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".partial")
    torch.save(state, beside)
    beside.replace(path)


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
    # glibc otherwise returns every large tensor to the kernel and faults it in again: a tenth of the time.
    os.environ |= {"MALLOC_MMAP_THRESHOLD_": str(2**25), "MALLOC_TRIM_THRESHOLD_": str(2**34)}
    if processes == 1:
        worker(0, 1, port, task, arguments)
    else:
        mp.spawn(worker, args=(processes, port, task, arguments), nprocs=processes)


def device() -> torch.device:
    """The GPU if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
