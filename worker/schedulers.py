"""The schedulers a model can be run with: its own, and those that its own one's configuration suits."""

from typing import Any

import diffusers

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
    first = type(own).__name__
    # Diffusers puts a placeholder, which is no scheduler, for a class whose package is not installed.
    installed = [kind.__name__ for kind in own.compatibles if issubclass(kind, diffusers.SchedulerMixin)]
    return [first, *sorted({*installed} - {first, *UNSUITED})]


def new_scheduler(name: str, own: Scheduler) -> Scheduler:
    """Return a scheduler of a class, with the noise levels of the model's own."""
    # PNDM starts with Runge-Kutta steps unless configured otherwise; Stable Diffusion skips them.
    return getattr(diffusers, name).from_config({"skip_prk_steps": True} | dict(own.config))
