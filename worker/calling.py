"""Calling a pipeline in one way, whichever family's it is."""

from collections.abc import Callable
from inspect import signature
from typing import Any, Final

from torch import Tensor

from ovam.tracing.model import Pipeline

StepEnded = Callable[[Pipeline, int], None]
"""Told of a pipeline's steps, from 0."""

ALWAYS: Final = {"use_resolution_binning": False, "clean_caption": False}
"""Where a pipeline has them: the image is of the size that is asked for, the prompt is the one that is looked into later."""


def called(pipeline: Pipeline, *, step_ended: StepEnded | None = None, **given: Any) -> Any:  # noqa: ANN401  # diffusers' output
    """Call a pipeline with what is given and not `None`; what some have under other names, or not at all, is seen to."""
    known = signature(type(pipeline).__call__).parameters
    options = {name: value for name, value in given.items() if value is not None}
    options |= {name: value for name, value in ALWAYS.items() if name in known}
    if step_ended is not None:
        options |= watched(pipeline, step_ended, plainly="callback_on_step_end" not in known)
    return pipeline(**options)


def steps_of(pipeline: Pipeline) -> int:
    """Return how many steps the running call makes."""
    return pipeline.num_timesteps if hasattr(pipeline, "num_timesteps") else len(pipeline.scheduler.timesteps)


def watched(pipeline: Pipeline, step_ended: StepEnded, *, plainly: bool) -> dict[str, Any]:
    """Return the arguments by which a pipeline tells of its steps; PixArt's does so `plainly`."""

    def told(running: Pipeline, step: int, _timestep: object, tensors: dict[str, Any]) -> dict[str, Any]:
        step_ended(running, step)
        return tensors

    def told_plainly(step: int, _timestep: object, _latents: Tensor) -> None:
        step_ended(pipeline, step)

    return {"callback": told_plainly} if plainly else {"callback_on_step_end": told, "callback_on_step_end_tensor_inputs": []}
