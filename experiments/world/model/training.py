"""What both trainings share: a time budget, optimisers, a moving average of weights, checkpoints."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn

from experiments.world.model.muon import Muon, is_matrix
from experiments.world.model.parallel import averaged, clock, device

AVERAGE_DECAY = 0.999
SECONDS_BETWEEN_CHECKPOINTS = 240
FINAL = 0.01  # the last learning rate as a share of the peak


class CheckpointError(ValueError):
    """A checkpoint that cannot be gone on from."""


@dataclass
class Progress:
    """How far a training is. Time of work (see `clock`) is the budget; a resumed run ends where it would have ended."""

    budget: float  # seconds of each process's work in all
    elapsed: float = 0.0  # seconds trained so far, over all runs
    samples: int = 0
    last_tick: float = field(default_factory=clock)

    def tick(self, samples: int) -> None:
        """Count the samples of a step and the time since the last one."""
        now = clock()
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

    def share_of_peak(self, decay_from: float) -> float:
        """The learning rate as a share of its peak: warm-up, a plateau, a half cosine from `decay_from` on."""
        warm = min(1.0, self.fraction / 0.01 + 0.02)
        late = max(0.0, (self.fraction - decay_from) / (1 - decay_from))
        return warm * max(FINAL, 0.5 * (1 + math.cos(late * math.pi)))

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


@dataclass(frozen=True)
class Plan:
    """How a training goes: its time, its learning rates, how long weights are averaged."""

    budget: float  # seconds of training in all
    rate: float = 2e-3  # of Muon; AdamW, which takes vectors and embeddings, has `rest`
    rest: float = 1e-3
    decay_from: float = 0.5
    average: float = AVERAGE_DECAY
    muon: bool = True
    apart: int = 1
    """Steps that each process takes alone before weights are averaged; 1: gradients are averaged at every step."""


def new_optimizers(modules: list[nn.Module], plan: Plan) -> list[torch.optim.Optimizer]:
    """Muon for matrices and kernels, AdamW for vectors and embeddings."""
    parameters = trained(modules)
    tables = {id(part.weight) for module in modules for part in module.modules() if isinstance(part, nn.Embedding)}
    matrices = [p for p in parameters if plan.muon and is_matrix(p) and id(p) not in tables]
    chosen = {id(p) for p in matrices}
    others = [p for p in parameters if id(p) not in chosen]
    adam = torch.optim.AdamW(others, lr=plan.rest, betas=(0.9, 0.99), weight_decay=0.01, fused=True)
    return [adam, Muon(matrices, lr=plan.rate)] if matrices else [adam]


@dataclass
class Training:
    """A training under way. It can be put down at any time and taken up again from its last checkpoint."""

    modules: list[nn.Module]
    optimizers: list[torch.optim.Optimizer]
    average: MovingAverage
    progress: Progress
    checkpoint: Path
    plan: Plan
    marks: dict[str, str] = field(default_factory=dict)
    """What a checkpoint must agree with, such as the atlas's version."""
    step: int = 0
    saved_at: float = 0.0  # seconds of training

    @staticmethod
    def begin(modules: list[nn.Module], checkpoint: Path, plan: Plan, marks: dict[str, str] | None = None) -> "Training":
        """Begin, or go on from `checkpoint` if it is there; every process starts from process 0's weights."""
        parameters = trained(modules)
        optimizers, average = new_optimizers(modules, plan), MovingAverage(parameters, plan.average)
        training = Training(modules, optimizers, average, Progress(plan.budget), checkpoint, plan, marks or {})
        if checkpoint.exists():
            training.load()
        elif dist.is_initialized():
            for parameter in parameters:
                dist.broadcast(parameter.data, 0)
        return training

    @property
    def parameters(self) -> list[nn.Parameter]:
        """What is trained."""
        return trained(self.modules)

    def advance(self, loss: Tensor, samples: int) -> bool:
        """Take one step down the loss of this process's samples; False when the budget is used up, in all processes alike."""
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        loss.backward()
        self.progress.tick(samples)
        if self.plan.apart == 1:
            self.progress.elapsed = averaged([p.grad for p in self.parameters if p.grad is not None], self.progress.elapsed)
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        share = self.progress.share_of_peak(self.plan.decay_from)
        for optimizer, peak in zip(self.optimizers, (self.plan.rest, self.plan.rate), strict=False):
            optimizer.param_groups[0]["lr"] = peak * share
            optimizer.step()
        self.step += 1
        together = self.step % self.plan.apart == 0
        if self.plan.apart > 1 and together:
            self.progress.elapsed = averaged([p.data for p in self.parameters], self.progress.elapsed)
        self.average.update(self.parameters, self.step)
        return not (together and self.progress.done)

    @property
    def save_is_due(self) -> bool:
        """Whether the last checkpoint is old, or the end is reached."""
        return self.progress.done or self.progress.elapsed - self.saved_at > SECONDS_BETWEEN_CHECKPOINTS

    def save(self) -> None:
        """Write the checkpoint beside the old one, then replace it."""
        self.saved_at = self.progress.elapsed
        state = {
            "modules": [module.state_dict() for module in self.modules],
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "average": self.average.values,
            "elapsed": self.progress.elapsed,
            "samples": self.progress.samples,
            "step": self.step,
            "marks": self.marks,
        }
        self.checkpoint.parent.mkdir(parents=True, exist_ok=True)
        beside = self.checkpoint.with_suffix(".partial")
        torch.save(state, beside)
        beside.replace(self.checkpoint)

    def load(self) -> None:
        """Go on from the checkpoint.

        Raises CheckpointError if it is damaged, of another architecture, or made with other marks.
        """
        state = read(self.checkpoint)
        for name, value in self.marks.items():
            if state["marks"].get(name) != value:
                raise CheckpointError(f"{self.checkpoint}: made with {name} {state['marks'].get(name)}, here it is {value}")
        try:
            for module, weights in zip(self.modules, state["modules"], strict=True):
                module.load_state_dict(weights)
            for optimizer, inner in zip(self.optimizers, state["optimizers"], strict=True):
                optimizer.load_state_dict(inner)
        except (RuntimeError, ValueError) as error:
            raise CheckpointError(f"{self.checkpoint}: of another architecture; train in another folder") from error
        self.average.values = state["average"]
        self.progress = Progress(self.progress.budget, elapsed=state["elapsed"], samples=state["samples"])
        self.step, self.saved_at = state["step"], state["elapsed"]


def read(checkpoint: Path) -> dict:
    """The contents of a checkpoint; raises CheckpointError if it cannot be read."""
    try:
        return torch.load(checkpoint, map_location=device(), weights_only=True)
    except Exception as error:
        raise CheckpointError(f"{checkpoint}: damaged; delete it to begin again") from error


def trained(modules: list[nn.Module]) -> list[nn.Parameter]:
    """The parameters that are trained; frozen ones are left out."""
    return [parameter for module in modules for parameter in module.parameters() if parameter.requires_grad]
