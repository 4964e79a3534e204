"""Images and what is kept of them: generated ones, and real ones that the UNet looks at under noise."""

from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from contracts.schema.adapters import UsedAdapter
from contracts.schema.attribute import (
    FilledQuestion,
    InstanceOptions,
    Question,
    Segment,
    SemanticMap,
    SemanticOptions,
    TargetJob,
)
from contracts.schema.conditions import Conditions, FilledConditions, Upload
from contracts.schema.fields import (
    Artifact,
    Base64,
    Blocks,
    Branch,
    Keep,
    Name,
    Positions,
    Precision,
    Result,
    Schema,
    Split,
    Text,
)
from contracts.schema.previews import MAX_LIVE_TARGETS, Gate, Rejected
from contracts.schema.targets import Target
from ovam.core.methods import Softmax

SEEDS = 2**63
MAX_SEED = SEEDS - 64  # leaves room for the seeds of further images
TIMESTEPS = 1000  # of the diffusion that Stable Diffusion is trained with
NOISE_TIMESTEPS = (900, 800, 700, 600, 500, 400, 300, 200, 100)  # where noise is added to a real image, unless a request says
DDIM_STEPS = 30  # of a real image's inversion, unless a request says
Timesteps = Annotated[list[Annotated[int, Field(ge=0, lt=TIMESTEPS)]], Field(min_length=1, max_length=TIMESTEPS, fail_fast=True)]


class CaptureOptions(Schema):
    """What is kept of the attention of an image (Eq. 1). What is not kept is not available later."""

    branch: Branch = "conditional"
    """The guidance branch: attention to the prompt, or to the negative prompt."""
    blocks: Blocks = "all"
    """Cross-attention blocks, by part of their name or by resolution."""
    mid_block: bool = False
    """Keep the mid block too, which the paper leaves out."""
    evaluations: Positions = "all"
    """UNet evaluations."""
    heads: Positions = "all"
    """Attention heads of every block."""
    keep: Keep | None = None
    """`replay`: what the UNet was given (megabytes), from which the worker computes queries again when they are asked for and
    not in memory, as long as it serves the same weights. `queries`: the queries themselves (hundreds of megabytes), which
    outlive the weights. The deployment's default without it."""
    precision: Precision | None = None
    """Of queries that are kept; `int8` has a scale for each channel, and half the size of `float16`, the default."""
    self_attention: bool | None = None
    """With `keep: queries`: keep the self-attention of the largest grid too, for refinement; the model's own default without
    it. A replay has it anyway."""


class FilledCapture(CaptureOptions):
    """The same with nothing left to the model."""

    keep: Keep = "queries"
    self_attention: bool


class Drawing(Schema):
    """What images are to show, and how they are drawn."""

    prompt: Text
    """What to generate."""
    negative_prompt: Annotated[str, StringConstraints(max_length=2000)] = ""
    """What to avoid."""
    model: Name | None = None
    """A name from GET /v1/models; the deployment's default without it."""
    seed: Annotated[int, Field(ge=0, le=MAX_SEED)] | None = None
    """Image k has seed + k; random without it."""
    num_inference_steps: int = Field(30, ge=1, le=TIMESTEPS)
    """Steps of the scheduler."""
    guidance_scale: Annotated[float, Field(ge=0, le=50, allow_inf_nan=False)] | None = None
    """The model's own default without it."""
    height: Annotated[int, Field(ge=8)] | None = None
    """Pixels; the model's native size without it."""
    width: Annotated[int, Field(ge=8)] | None = None
    """Pixels; the model's native size without it."""
    num_images: int = Field(1, ge=1)
    """How many images."""
    scheduler: Annotated[str, StringConstraints(max_length=64)] | None = None
    """A diffusers class from the model's `schedulers`; the model's own without it."""
    capture: CaptureOptions = Field(default_factory=CaptureOptions)
    """What is kept of the images' attention."""


class Watch(Schema):
    """When to look, while an image is drawn, where its targets are."""

    every: int = Field(5, ge=1, le=TIMESTEPS)
    """Evaluations between two previews, which come with the job's `progress` events."""
    gate: Gate | None = None
    """Give up images in which a target covers too little or too much."""


class GenerateRequest(Watch, Question, Conditions, Drawing):
    """Generate images and keep their pixel queries; look for targets in them while they are drawn."""

    targets: list[Target] = Field([], max_length=MAX_LIVE_TARGETS)
    """What to look for: as in an attribute job, whose result each image then has, too. The settings are those of that job."""

    @model_validator(mode="after")
    def targets_for_settings(self) -> Self:
        """What is said of targets needs some, and the seeds that may be tried are numbers that a seed may be."""
        alone = [name for name in (*Question.model_fields, *Watch.model_fields) if self.is_changed(name)]
        if alone and not self.targets:
            raise ValueError(f"`{alone[0]}` has no effect without `targets`")
        most = SEEDS - self.num_images * (self.gate.seeds if self.gate else 1)
        if self.gate and self.seed is not None and self.seed > most:
            raise ValueError(f"`seed` is {self.seed}; allowed with so many images and `gate.seeds`: at most {most}")
        return self

    def is_changed(self, name: str) -> bool:
        """Whether a field is not as it is without being given."""
        return getattr(self, name) != type(self).model_fields[name].get_default(call_default_factory=True)


class GenerateJob(Watch, FilledQuestion, FilledConditions, Drawing):
    """The request filled in: run again, it gives the same images."""

    kind: Literal["generate"] = "generate"
    model: Name
    seed: int
    guidance_scale: float
    height: int
    width: int
    scheduler: str
    capture: FilledCapture
    targets: list[TargetJob] = Field([])
    softmax: Softmax = "each"
    distractors: list[Target] = Field([])
    maps: list[Split] = Field([])
    semantic: SemanticOptions | None = None
    instances: InstanceOptions | None = None


class ImageOptions(Schema):
    """How a real image is encoded, noised, and shown to the UNet."""

    prompt: Annotated[str, StringConstraints(strip_whitespace=True, max_length=2000)] = ""
    """A caption of the image; may stay empty."""
    model: Name | None = None
    """A name from GET /v1/models; the deployment's default without it."""
    height: Annotated[int, Field(ge=8)] | None = None
    """Pixels the image is resized to; near the model's native size without it."""
    width: Annotated[int, Field(ge=8)] | None = None
    """Pixels the image is resized to; near the model's native size without it."""
    seed: int = Field(0, ge=0, le=MAX_SEED)
    """Of the noise."""
    inversion: Literal["none", "ddim"] = "none"
    """Add noise at each timestep, or follow DDIM's deterministic path from the image."""
    timesteps: Timesteps | None = None
    """Where noise is added, for inversion `none`; 900, 800 ... 100 without it."""
    num_inference_steps: Annotated[int, Field(ge=1, le=TIMESTEPS)] | None = None
    """Steps of the DDIM inversion; 30 without it."""
    capture: CaptureOptions = Field(default_factory=CaptureOptions)
    """What is kept of the image's attention."""

    @model_validator(mode="after")
    def one_way(self) -> Self:
        """Timesteps are for noise, steps for an inversion."""
        if self.inversion == "ddim" and self.timesteps is not None:
            raise ValueError("`timesteps` belong to inversion 'none'; 'ddim' takes `num_inference_steps`")
        if self.inversion == "none" and self.num_inference_steps is not None:
            raise ValueError("`num_inference_steps` belongs to inversion 'ddim'; 'none' takes `timesteps`")
        if self.capture.branch != "conditional":
            raise ValueError("`capture.branch` is 'unconditional', but a real image has its caption's branch alone")
        return self


class ImageRequest(ImageOptions):
    """Keep the pixel queries of a real image."""

    image: Base64
    """PNG, JPEG or WebP, base64."""


class ImageJob(ImageOptions):
    """The request filled in, the image itself in the store."""

    kind: Literal["image"] = "image"
    model: Name
    height: int
    width: int
    capture: FilledCapture
    upload: Upload


class GeneratedImage(Schema):
    """One image of a job."""

    index: int
    seed: int
    image: Artifact
    trace_bytes: int
    """Size of what is kept of its attention: its replay, or its queries."""
    segments: list[Segment] = Field([])
    """Of the targets of its generation, as an attribute job has them."""
    semantic: SemanticMap | None = None
    """Of the targets of its generation."""


class BlockInfo(Schema):
    """A cross-attention block whose queries are kept."""

    name: str
    grid: tuple[int, int]
    """(height, width)."""
    heads: int


class ImagesResult(Result):
    """Images, generated or real, and the settings as they were used."""

    kind: Literal["generate", "image"]
    model: str
    weights: str = ""
    """Hash of its UNet's weights as the worker has them, 16 hexadecimal digits; empty where they could not be hashed."""
    height: int
    width: int
    num_inference_steps: int
    guidance_scale: float
    scheduler: str
    evaluations: int
    """UNet evaluations whose queries are kept."""
    timesteps: list[float]
    """The diffusion timestep of each of them."""
    blocks: list[BlockInfo]
    keep: Keep = "queries"
    """What is kept of their attention. `queries` although a replay was asked for: the generation could not be replayed."""
    self_attention: bool
    """Whether masks of these images can be refined by self-attention."""
    images: list[GeneratedImage]
    adapters: list[UsedAdapter] = Field([])
    """With what the model was changed for these images; a later question about them loads it again."""
    rejected: list[Rejected] = Field([])
    """Seeds whose images did not pass the gate."""
