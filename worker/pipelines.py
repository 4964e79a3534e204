"""Pipelines that start from something else than noise: other classes around a model's own parts."""

from inspect import signature
from typing import Any, Final, Literal

from diffusers import (
    StableDiffusionImg2ImgPipeline,
    StableDiffusionInpaintPipeline,
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLInpaintPipeline,
)

from ovam.tracing.model import Pipeline

Start = Literal["text", "image", "mask"]
"""From noise alone, from an image, or from an image that is painted anew inside a mask."""
KINDS: Final[dict[tuple[bool, Start], Any]] = {
    (False, "image"): StableDiffusionImg2ImgPipeline,
    (False, "mask"): StableDiffusionInpaintPipeline,
    (True, "image"): StableDiffusionXLImg2ImgPipeline,
    (True, "mask"): StableDiffusionXLInpaintPipeline,
}
"""By whether the model is one of SDXL's family."""
OPTIONS: Final = {"requires_safety_checker": False, "add_watermarker": False}
KEPT: Final = ("force_zeros_for_empty_prompt",)
"""Options of the model's own pipeline."""


def pipeline_of(pipeline: Pipeline, start: Start) -> Pipeline:
    """Return a pipeline that starts from something else, around the same parts."""
    kind = KINDS[hasattr(pipeline, "text_encoder_2"), start]
    own = {name: pipeline.config[name] for name in KEPT if name in pipeline.config}
    taken = signature(kind.__init__).parameters
    made = kind(**{name: part for name, part in (pipeline.components | OPTIONS | own).items() if name in taken})
    made.set_progress_bar_config(disable=True)
    return made
