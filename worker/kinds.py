"""The pipelines that workers serve, as data: which family each is of, what cuts its prompts, and what it cannot do."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from inspect import signature
from types import MappingProxyType
from typing import Any, Final

import diffusers
import torch

from contracts.schema.models import UNETS, Ability, Family

Reasons = Mapping[Ability, str]

PIXEL_MULTIPLE: Final = 8  # the pipelines take no other sizes
UNCHECKED: Final = {"safety_checker": None, "requires_safety_checker": False}
UNMARKED: Final = {"add_watermarker": False}

FROM_NOISE: Final = "images of its family are drawn from noise and a prompt alone"
BESIDE: Final = "it is loaded into UNets alone, and the model has a transformer"
TRANSFORMERS: Final[Reasons] = MappingProxyType({
    "image": FROM_NOISE,
    "mask": FROM_NOISE,
    "emphasis": "words are emphasised in the rows of CLIP alone, and its text has others",
    "causal": "a word is left out of what a UNet is given alone",
    "textual-inversion": BESIDE,
    "controlnet": BESIDE,
    "ip-adapter": BESIDE,
})  # fmt: skip
NO_LORA: Final[Reasons] = MappingProxyType({"lora": "diffusers loads none into its transformer"})
NO_CLIP: Final[Reasons] = MappingProxyType({"clip_skip": "the text that it attends to is not CLIP's"})
JOINT: Final[Reasons] = MappingProxyType({
    "queries": "its pixels and text attend together, and any attention is computed from a replay",
    "aggregation": "its pixels and text attend together, and a head writes what it reads of both as one",
})  # fmt: skip
BY_INPUT: Final[Reasons] = MappingProxyType({
    "negative_prompt": "its guidance is an input of the model, without a second half that a prompt could fill",
})  # fmt: skip
EMPTY_NEGATIVE: Final[Reasons] = MappingProxyType({"negative_prompt": "its pipeline guides away from an empty prompt alone"})
NOTHING: Final[Reasons] = MappingProxyType({})


@dataclass(frozen=True)
class Kind:
    """A pipeline that is served: from text to image."""

    name: str
    """Of its class in diffusers."""
    family: Family | None = None
    """`None`: the UNet's configuration tells."""
    drawn_by: str = ""
    """The class that draws in its place: it takes the same parts, makes the same of them, and can do more."""
    loading: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    """Options of `from_pretrained`: images come as they are drawn."""
    tokenizer: str = "tokenizer"
    """The part that cuts prompts into the tokens that words are found by."""
    cannot: Reasons = field(default_factory=lambda: NOTHING)
    guided: bool = True
    """Whether guidance has a half without the prompt; else the scale is an input of the model."""

    @property
    def pipeline(self) -> Any:  # noqa: ANN401  # a class, which takes a while to import
        """The class that draws, in diffusers."""
        return getattr(diffusers, self.drawn_by or self.name)

    @property
    def transformer(self) -> bool:
        """Whether a transformer predicts noise, and no UNet."""
        return self.family is not None and self.family not in UNETS

    @property
    def guidance_scale(self) -> float:
        """Diffusers' own default."""
        return float(self.default("guidance_scale"))

    def dtype(self, wanted: torch.dtype) -> torch.dtype:
        """Return the floating type of the weights: half precision of a transformer is bfloat16, whose range it was trained in."""
        return torch.bfloat16 if self.transformer and wanted == torch.float16 else wanted

    def default(self, name: str) -> Any:  # noqa: ANN401  # whatever it is
        """Return the default of an argument of the pipeline's call; `None` if it has no such argument."""
        found = signature(getattr(diffusers, self.name).__call__).parameters.get(name)
        return None if found is None else found.default


_SERVED: Final = (
    Kind("StableDiffusionPipeline", loading=UNCHECKED),
    Kind("StableDiffusionXLPipeline", "sdxl", loading=UNMARKED),
    Kind("LatentConsistencyModelPipeline", drawn_by="StableDiffusionPipeline", loading=UNCHECKED),
    Kind("PixArtAlphaPipeline", "pixart", cannot={**TRANSFORMERS, **NO_CLIP, **NO_LORA}),
    Kind("PixArtSigmaPipeline", "pixart", cannot={**TRANSFORMERS, **NO_CLIP, **NO_LORA}),
    Kind("SanaPipeline", "sana", cannot={**TRANSFORMERS, **NO_CLIP}),
    Kind("StableDiffusion3Pipeline", "sd3", cannot={**TRANSFORMERS, **JOINT}),
    Kind("FluxPipeline", "flux", tokenizer="tokenizer_2", cannot={**TRANSFORMERS, **NO_CLIP, **JOINT, **BY_INPUT}, guided=False),
    Kind("Flux2Pipeline", "flux2", cannot={**TRANSFORMERS, **NO_CLIP, **JOINT, **BY_INPUT}, guided=False),
    Kind("Flux2KleinPipeline", "flux2", cannot={**TRANSFORMERS, **NO_CLIP, **JOINT, **EMPTY_NEGATIVE}),
)
KINDS: Final[Mapping[str, Kind]] = MappingProxyType({kind.name: kind for kind in _SERVED})
"""By the class that a model's index names."""
