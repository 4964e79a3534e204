"""Pipelines that start from something else than noise: other classes around a model's own parts."""

from inspect import signature
from typing import Any, Final, Literal

from diffusers import (
    StableDiffusionControlNetImg2ImgPipeline,
    StableDiffusionControlNetInpaintPipeline,
    StableDiffusionControlNetPipeline,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionInpaintPipeline,
    StableDiffusionXLControlNetImg2ImgPipeline,
    StableDiffusionXLControlNetInpaintPipeline,
    StableDiffusionXLControlNetPipeline,
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLInpaintPipeline,
)

from ovam.tracing.model import Pipeline

Start = Literal["text", "image", "mask"]
"""From noise alone, from an image, or from an image that is painted anew inside a mask."""
KINDS: Final[dict[tuple[bool, bool, Start], Any]] = {
    (False, False, "image"): StableDiffusionImg2ImgPipeline,
    (False, False, "mask"): StableDiffusionInpaintPipeline,
    (False, True, "text"): StableDiffusionControlNetPipeline,
    (False, True, "image"): StableDiffusionControlNetImg2ImgPipeline,
    (False, True, "mask"): StableDiffusionControlNetInpaintPipeline,
    (True, False, "image"): StableDiffusionXLImg2ImgPipeline,
    (True, False, "mask"): StableDiffusionXLInpaintPipeline,
    (True, True, "text"): StableDiffusionXLControlNetPipeline,
    (True, True, "image"): StableDiffusionXLControlNetImg2ImgPipeline,
    (True, True, "mask"): StableDiffusionXLControlNetInpaintPipeline,
}
"""By whether the model is one of SDXL's family, and whether there is a ControlNet."""
OPTIONS: Final = {"requires_safety_checker": False, "add_watermarker": False}
KEPT: Final = ("force_zeros_for_empty_prompt",)
"""Options of the model's own pipeline."""


def pipeline_of(pipeline: Pipeline, start: Start, controlnet: Any = None) -> Pipeline:  # noqa: ANN401  # a ControlNet
    """Return a pipeline that starts from something else, or follows a ControlNet, around the same parts."""
    kind = KINDS[hasattr(pipeline, "text_encoder_2"), controlnet is not None, start]
    own = {name: pipeline.config[name] for name in KEPT if name in pipeline.config}
    parts = pipeline.components | OPTIONS | own | {"controlnet": controlnet}
    taken = signature(kind.__init__).parameters
    made = kind(**{name: part for name, part in parts.items() if name in taken})
    made.set_progress_bar_config(disable=True)
    return made
