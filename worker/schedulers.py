"""The schedulers a model can be run with: its own, and those that its own one's configuration suits."""

from collections.abc import Collection
from inspect import signature
from typing import Any

import diffusers

from ovam.looking import flows

Scheduler = Any
"""A diffusers scheduler."""

EVALUATIONS = {
    "HeunDiscreteScheduler": (2, -1),
    "KDPM2AncestralDiscreteScheduler": (2, -1),
    "KDPM2DiscreteScheduler": (2, -1),
    "PNDMScheduler": (1, 1),
}
"""Of the schedulers that do not evaluate the UNet once a step: how often a step, and how often besides."""

UNSUITED = ("EDMEulerScheduler", "DPMSolverSDEScheduler")
"""The first has noise levels of its own, whatever the configuration says; the second draws noise from no seed."""


def read_scheduler(source: str, kind: str) -> Scheduler:
    """Read the model's own scheduler."""
    return getattr(diffusers, kind).from_pretrained(source, subfolder="scheduler")


def names(own: Scheduler) -> list[str]:
    """List the classes that the model's own configuration suits, its own class first."""
    first, flow = type(own).__name__, flows(own)
    # Diffusers puts a placeholder, which is no scheduler, for a class whose package is not installed.
    installed = [kind.__name__ for kind in own.compatibles if issubclass(kind, diffusers.SchedulerMixin)]
    suited = [name for name in installed if not flow or "use_flow_sigmas" in parameters_of(name)]
    return [first, *sorted({*suited} - {first, *UNSUITED})]


def parameters_of(name: str) -> Collection[str]:
    """Name the settings of a class."""
    return signature(getattr(diffusers, name).__init__).parameters


def new_scheduler(name: str, own: Scheduler) -> Scheduler:
    """Return a scheduler of a class, with the noise levels of the model's own."""
    # PNDM starts with Runge-Kutta steps unless configured otherwise; Stable Diffusion skips them.
    return getattr(diffusers, name).from_config({"skip_prk_steps": True} | dict(own.config))


def set_steps(scheduler: Scheduler, steps: int) -> None:
    """Set a number of steps, with whatever shift of its noise: how many evaluations these are does not depend on it.

    ValueError for a number that it does not take.
    """
    shifted = scheduler.config.get("use_dynamic_shifting", False)
    scheduler.set_timesteps(steps, **({"mu": 1.0} if shifted else {}))
