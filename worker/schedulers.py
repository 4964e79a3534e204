"""The schedulers a model can be run with: its own, and those that its own one's configuration suits."""

from typing import Any

import diffusers

Scheduler = Any
"""A diffusers scheduler."""

UNSUITED = ("EDMEulerScheduler", "DPMSolverSDEScheduler")
"""The first has noise levels of its own, whatever the configuration says; the second draws noise from no seed."""


def read_scheduler(source: str, kind: str) -> Scheduler:
    """The model's own scheduler, by its configuration."""
    return getattr(diffusers, kind).from_pretrained(source, subfolder="scheduler")


def names(own: Scheduler) -> list[str]:
    """The classes that a scheduler like the model's own can be made of, its own first."""
    first = type(own).__name__
    # What lacks a package of its own is stood in for by a class that is no scheduler.
    installed = [kind.__name__ for kind in own.compatibles if issubclass(kind, diffusers.SchedulerMixin)]
    return [first, *sorted({*installed} - {first, *UNSUITED})]


def made(name: str, own: Scheduler) -> Scheduler:
    """A new scheduler of a class, with the noise of the model's own."""
    # Without a word in the configuration PNDM begins with Runge-Kutta steps, which Stable Diffusion leaves out.
    return getattr(diffusers, name).from_config({"skip_prk_steps": True} | dict(own.config))
