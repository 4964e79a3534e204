"""What a client may ask for. Field names follow diffusers; limits that depend on a model or a deployment are checked later."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
JobId = Annotated[str, StringConstraints(pattern=r"^[0-9a-z]{26}$")]
Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=2000)]
MAX_SEED = 2**63 - 64  # leaves room for the seeds of further images

Padding = Literal["none", "max_length"]
Normalize = Literal["max", "minmax"]


class Request(BaseModel):
    """A frozen request without unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class GenerateRequest(Request):
    """Generate images and keep their pixel queries."""

    prompt: Text = Field(description="what to draw")
    negative_prompt: Annotated[str, StringConstraints(max_length=2000)] = ""
    model: Name | None = Field(None, description="a name from GET /v1/models; the deployment's default without it")
    seed: int | None = Field(None, ge=0, le=MAX_SEED, description="image k is drawn from seed + k; random without it")
    num_inference_steps: int = Field(30, ge=1)
    guidance_scale: float | None = Field(None, ge=0, le=50, allow_inf_nan=False, description="the model's own default without it")
    height: int | None = Field(None, ge=8, description="pixels; the model's native size without it")
    width: int | None = Field(None, ge=8, description="pixels; the model's native size without it")
    num_images: int = Field(1, ge=1)


class Target(Request):
    """Something to look for: words of an attribution prompt, or a learned token."""

    label: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100)]
    prompt: Text | None = Field(None, description="the attribution prompt; need not be the image's own")
    word: Text | None = Field(None, description="a word or phrase of the prompt; the mean of all its words without it")
    occurrence: int | None = Field(None, ge=0, description="the n-th occurrence of the word (from 0); all without it")
    token: Name | None = Field(None, description="a learned token, by name")

    @model_validator(mode="after")
    def either_words_or_token(self) -> Self:
        """A target is described in one way."""
        if (self.prompt is None) == (self.token is None):
            msg = "a target takes either `prompt` (with an optional `word`) or `token`"
            raise ValueError(msg)
        if self.token is not None and (self.word is not None or self.occurrence is not None):
            msg = "`word` and `occurrence` belong to a `prompt`, not to a `token`"
            raise ValueError(msg)
        if self.occurrence is not None and self.word is None:
            msg = "`occurrence` needs a `word`"
            raise ValueError(msg)
        return self


class AttributeRequest(Request):
    """The question where in a generated image some targets are."""

    job_id: JobId = Field(description="a generate job that succeeded")
    image: int = Field(0, ge=0, description="which of its images")
    targets: list[Target] = Field(min_length=1, max_length=64)
    padding: Padding = Field("none", description="softmax over the prompt's own tokens, or over all 77 as in generation")
    tau: float | None = Field(
        None,
        gt=0,
        le=1,
        description="threshold : a share of the heatmap; the model's own for words and tokens without it",
    )
    normalize: Normalize | None = Field(
        None, description="a share of the maximum, or of the range after min-max; the model's own for words or tokens without it"
    )
    dcrf: bool = Field(False, description="refine the mask with a dense CRF on the image")

    @model_validator(mode="after")
    def labels_differ(self) -> Self:
        """A label names one target of the answer."""
        labels = [target.label for target in self.targets]
        if len(set(labels)) != len(labels):
            msg = "every target needs a `label` of its own"
            raise ValueError(msg)
        return self


class Example(Request):
    """One annotated image."""

    job_id: JobId = Field(description="a generate job that succeeded")
    image: int = Field(0, ge=0)
    mask: str = Field(min_length=1, description="PNG of the image's size, base64; pixels above 127 belong to the class")


class OptimizeRequest(Request):
    """Learn a token from annotated images (OVAM, section 3.3)."""

    name: Name = Field(description="the token is asked for by this name later")
    classes: list[Text] = Field(min_length=1, max_length=1, description="the word the token starts from; one class a token")
    examples: list[Example] = Field(min_length=1, max_length=16)
    epochs: int = Field(300, ge=1, le=5000)
    optimizer: Literal["sgd", "adam"] = "adam"
    learning_rate: float | None = Field(
        None, gt=0, le=1e4, allow_inf_nan=False, description="the optimiser's own default without it"
    )
    loss: Literal["bce", "cross_entropy_minmax"] = "bce"


AnyRequest = GenerateRequest | AttributeRequest | OptimizeRequest
