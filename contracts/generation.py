"""Images and what is kept of them: generated ones, and real ones that are noised and looked at by the UNet."""

from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from contracts.fields import Artifact, Base64, Blocks, Evaluations, Frozen, Half, Indices, Name, Request, Text

MAX_SEED = 2**63 - 64  # leaves room for the seeds of further images
TIMESTEPS = 1000  # of the diffusion that Stable Diffusion is trained with


class CaptureOptions(Request):
    """What is kept of the attention of an image (Eq. 1); all that is not kept cannot be asked for later."""

    half: Half = Field("conditional", description="of the guidance batch: attention to the prompt, or to the negative prompt")
    blocks: Blocks | None = Field(None, description="cross-attentions, by part of the name or by resolution; all without it")
    mid_block: bool = Field(False, description="keep the mid block too, which the paper leaves out")
    evaluations: Evaluations | None = Field(None, description="UNet evaluations; all without it")
    heads: Indices | None = Field(None, description="attention heads of every block; all without it")
    self_attention: bool | None = Field(
        None, description="keep the self-attention of the largest grid, for refinement; the model's own default without it"
    )


class GenerateRequest(Request):
    """Generate images and keep their pixel queries."""

    prompt: Text = Field(description="what to draw")
    negative_prompt: Annotated[str, StringConstraints(max_length=2000)] = ""
    model: Name | None = Field(None, description="a name from GET /v1/models; the deployment's default without it")
    seed: int | None = Field(None, ge=0, le=MAX_SEED, description="image k is drawn from seed + k; random without it")
    num_inference_steps: int = Field(30, ge=1, le=TIMESTEPS)
    guidance_scale: float | None = Field(None, ge=0, le=50, allow_inf_nan=False, description="the model's own default without it")
    height: int | None = Field(None, ge=8, description="pixels; the model's native size without it")
    width: int | None = Field(None, ge=8, description="pixels; the model's native size without it")
    num_images: int = Field(1, ge=1)
    scheduler: str | None = Field(
        None, max_length=64, description="a diffusers class from the model's `schedulers`; the model's own without it"
    )
    capture: CaptureOptions = CaptureOptions()


class FilledCapture(CaptureOptions):
    """The same with nothing left to the model."""

    self_attention: bool


class FilledRequest(GenerateRequest):
    """The same with nothing left to the model or to chance: run again, it gives the same images."""

    model: Name
    seed: int = Field(ge=0)
    guidance_scale: float
    height: int
    width: int
    scheduler: str
    capture: FilledCapture


class ImageOptions(Request):
    """How a real image is encoded, noised, and looked at by the UNet."""

    prompt: Annotated[str, StringConstraints(strip_whitespace=True, max_length=2000)] = Field(
        "", description="what is in the image; need not be said"
    )
    model: Name | None = Field(None, description="a name from GET /v1/models; the deployment's default without it")
    height: int | None = Field(None, ge=8, description="pixels the image is resized to; near the model's native size without it")
    width: int | None = Field(None, ge=8, description="pixels the image is resized to; near the model's native size without it")
    seed: int = Field(0, ge=0, le=MAX_SEED, description="of the noise")
    inversion: Literal["none", "ddim"] = Field(
        "none", description="add noise at each timestep, or follow the deterministic path of DDIM from the image"
    )
    timesteps: list[Annotated[int, Field(ge=0, lt=TIMESTEPS)]] | None = Field(
        None, min_length=1, max_length=TIMESTEPS, description="where noise is added; 900, 800 ... 100 without it"
    )
    num_inference_steps: int | None = Field(None, ge=1, le=TIMESTEPS, description="steps of the DDIM inversion; 30 without it")
    capture: CaptureOptions = CaptureOptions()

    @model_validator(mode="after")
    def one_way(self) -> Self:
        """Timesteps are for noise, steps for an inversion."""
        if self.inversion == "ddim" and self.timesteps is not None:
            raise ValueError("`timesteps` belong to inversion 'none'; 'ddim' takes `num_inference_steps`")
        if self.inversion == "none" and self.num_inference_steps is not None:
            raise ValueError("`num_inference_steps` belongs to inversion 'ddim'; 'none' takes `timesteps`")
        if self.capture.half != "conditional":
            raise ValueError("`capture.half` is 'unconditional', but a real image is looked at with its prompt alone")
        return self


class ImageUpload(ImageOptions):
    """Keep the pixel queries of a real image."""

    image: Base64 = Field(description="PNG, JPEG or WebP, base64")


class Upload(Frozen):
    """A file that came with a request: it is stored, its record keeps what it was."""

    media_type: Literal["image/png", "image/jpeg", "image/webp"]
    size: int = Field(description="bytes")
    sha256: str
    height: int = Field(description="pixels, upright")
    width: int


class ImageRequest(ImageOptions):
    """The same as it is kept: nothing left to the model, and the image itself in the store."""

    model: Name
    height: int
    width: int
    capture: FilledCapture
    upload: Upload


class GeneratedImage(Frozen):
    """One image of a job."""

    index: int
    seed: int
    image: Artifact
    trace_bytes: int = Field(description="size of the pixel queries kept for it")


class BlockInfo(Frozen):
    """A cross-attention block whose queries are kept."""

    name: str
    grid: tuple[int, int] = Field(description="(height, width)")
    heads: int


class GenerateResult(Frozen):
    """Images, and the settings as they were used."""

    model: str
    height: int
    width: int
    num_inference_steps: int
    guidance_scale: float
    scheduler: str = ""
    evaluations: int = Field(description="UNet evaluations whose queries are kept")
    timesteps: list[float] = Field([], description="the diffusion timestep of each of them")
    blocks: list[BlockInfo] = Field([])
    self_attention: bool = Field(False, description="whether masks of these images can be refined by self-attention")
    images: list[GeneratedImage]
