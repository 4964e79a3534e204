"""Where in an image some targets are: requests, jobs, and the segments that answer them."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from contracts.schema.comparing import MAX_CAUSAL, Causal, CausalChange, CausalOptions, Difference
from contracts.schema.fields import Artifact, JobId, Name, Result, Rle, Schema, Split, Text
from contracts.schema.methods import KnownMethod, Settings
from contracts.schema.targets import Target
from ovam.core.confidence import Calibration, Confidence
from ovam.core.methods import Method, Softmax

MAX_TARGETS = 64
MAX_DISTRACTORS = 64


class SemanticOptions(Schema):
    """One map of labels: each pixel gets the target with the largest margin over its threshold, or the background."""

    least_gap: float = Field(0.0, ge=0, le=1, allow_inf_nan=False)
    """A pixel whose winner is ahead of the second by less is ambiguous and gets the label 255."""
    labels: Annotated[list[Annotated[int, Field(ge=1, le=254)]], Field(min_length=1, max_length=MAX_TARGETS)] | None = None
    """The label of each target, such as Pascal VOC's 7 for a car; 1, 2, ... without it."""


class InstanceOptions(Schema):
    """Split masks into connected regions."""

    minimum_area: int = Field(1, ge=1, le=2**30)
    """Pixels; smaller regions are left out."""
    connectivity: Literal[4, 8] = 8
    """Whether regions may touch at corners (8) or not (4)."""
    most: int = Field(100, ge=1, le=250)
    """Regions of a mask, the largest first; further ones are left out."""


class AppraisalOptions(Schema):
    """What to say of the image as a whole."""

    clip: list[Text] = Field([], max_length=2 * MAX_TARGETS)
    """Texts that CLIP compares to the image; the model's workers need one (`clip` of its card)."""


class Question(Schema):
    """What to look for in an image, and how."""

    targets: list[Target] = Field(min_length=1, max_length=MAX_TARGETS)
    """What to look for."""
    softmax: Softmax = "each"
    """Over a target's own prompt, or its token's rows (`each`); or over all targets and distractors (`together`): each pixel's
    attention is divided among them, so that what one claims the others lose."""
    distractors: list[Target] = Field([], max_length=MAX_DISTRACTORS)
    """Further targets that compete and get no segment, with `softmax` `together`. They take no `settings`."""
    method: KnownMethod | None = None
    """A published method, see GET /v1/methods; the model's own best settings without it."""
    settings: Settings | None = None  # type: ignore[valid-type]
    """Changes of the method's settings, for every target."""
    maps: list[Split] = Field([], max_length=3)
    """Also the heatmaps of every single block, evaluation or head, as `.npy`."""
    semantic: SemanticOptions | None = None
    """Also one map of labels over all targets, an indexed PNG in Pascal VOC's palette."""
    instances: InstanceOptions | None = None
    """Also the connected regions of every mask."""
    confidence: bool = False
    """Also how sure each mask is: how far halves of the attention agree with it, and which IoU to expect of that."""

    @model_validator(mode="after")
    def lists_agree(self) -> Self:
        """A kind of maps is named once, and a label goes to one target."""
        if len(set(self.maps)) != len(self.maps):
            raise ValueError("`maps` names a kind twice")
        numbers = self.semantic.labels if self.semantic else None
        if numbers is not None and (len(numbers) != len(self.targets) or len(set(numbers)) != len(numbers)):
            raise ValueError(
                f"`semantic.labels` is {numbers}; allowed: a different number for each of {len(self.targets)} targets"
            )
        return self


class AttributeRequest(Question):
    """Ask where in an image some targets are."""

    job_id: JobId
    """A job that has images, and succeeded."""
    image: int = Field(0, ge=0)
    """Which of its images."""
    appraisal: AppraisalOptions | None = None
    """Also what the image as a whole is like: what data sets are filtered by."""
    against: JobId | None = None
    """Another job with an image of the same model and size, in which the same is looked for: how do its heat and masks differ?"""
    against_image: int = Field(0, ge=0)
    """Which of that job's images."""
    causal: CausalOptions | None = None
    """Also draw the image again without each target's word: what changes, inside of its mask and outside? It takes as long as to
    generate an image for each target, and one more."""

    @model_validator(mode="after")
    def compared(self) -> Self:
        """An image of another job needs the job, and images are drawn again for few targets."""
        if self.against is None and self.against_image:
            raise ValueError("`against_image` has no effect without `against`")
        if self.causal and len(self.targets) > MAX_CAUSAL:
            raise ValueError(f"`causal` has {len(self.targets)} targets; allowed: at most {MAX_CAUSAL}, with an image for each")
        return self


class TargetJob(Schema):
    """A target with the settings it is looked for with, nothing left open."""

    label: str
    target: Target
    method: str
    """The published method whose settings were taken."""
    settings: Method
    """All settings: sent again, they give the same mask."""


class FilledQuestion(Schema):
    """The question with nothing left open."""

    targets: list[TargetJob]
    softmax: Softmax
    distractors: list[Target]
    maps: list[Split]
    semantic: SemanticOptions | None
    instances: InstanceOptions | None
    confidence: bool = False
    calibrations: list[Calibration | None] = Field([])
    """For each target, where `confidence` is asked for: what to expect of its mask; null where nothing is known."""


class AttributeJob(FilledQuestion):
    """The request filled in."""

    kind: Literal["attribute"] = "attribute"
    job_id: JobId
    image: int
    model: Name
    appraisal: AppraisalOptions | None = None
    against: JobId | None = None
    against_image: int = 0
    causal: CausalOptions | None = None

    @property
    def paced_as(self) -> Literal["attribute", "generate"]:
        """The kind of job whose pace it has: to draw images again takes most of the time."""
        return "generate" if self.causal else "attribute"


class Region(Schema):
    """A connected region of a mask."""

    area: int
    """Pixels."""
    bbox: tuple[int, int, int, int]
    """x, y, width, height; zeros if it is empty."""
    rle: Rle
    polygons: list[list[float]]
    """Outlines as x0, y0, x1, y1, ..."""


class SplitMaps(Schema):
    """A target's heatmaps, part by part."""

    by: Split
    parts: list[str]
    """What the maps along the first axis are of: blocks by name, the others by position."""
    terms: list[float]
    """How many attention maps each sums up; with `automatic` aggregation, how much these weigh together."""
    file: Artifact
    """`.npy` of (parts, height, width), float32. Their mean weighted by `terms` (for reduction `sum`: their sum) is the heatmap
    before it is resized to the image."""


class Segment(Region):
    """Where one target is."""

    label: str
    target: Target
    method: str
    """The published method whose settings were taken."""
    settings: Method
    """All settings, as used: sent again, they give the same mask."""
    score: float
    """How sure the mask is: the mean refined heat inside it as a fraction of the hottest pixel's, 0..1."""
    leakage: float | None = None
    """Estimate of how far its heat leaks to the targets that it competes with: 0 told apart, 1 as hot on their places in a map of
    labels as on its own. Null if it competes with no other target, or one of these places is empty."""
    confidence: Confidence | None = None
    """Null unless asked for, or where one attention map is all there is."""
    difference: Difference | None = None
    """From `against`'s image; null without it."""
    causal: CausalChange | None = None
    """Null unless asked for."""
    heatmap: Artifact
    heatmap_npy: Artifact
    refined_npy: Artifact | None = None
    """What the threshold cuts, where that is not the heatmap itself but stretched, spread or weighted heat."""
    mask: Artifact
    overlay: Artifact
    maps: list[SplitMaps] = Field([])
    instances: list[Region] | None = None


class SemanticMap(Schema):
    """Labels of all targets in one picture."""

    map: Artifact
    labels: dict[int, str]
    """The meaning of each label: 0 the background, 255 ambiguous."""
    areas: dict[int, int]
    """Pixels of each label that occurs."""


class Appraisal(Schema):
    """What an image as a whole is like."""

    single_colour: bool
    """Whether all its pixels have the same colour."""
    looks: str
    """A difference hash of 64 bits, in hexadecimal digits: images that look the same have the same."""
    clip: list[float] = Field([])
    """CLIP's cosine of the image with each text, -1..1."""
    clip_scale: float | None = None
    """CLIP's own factor of these cosines, before a softmax over texts."""


class AttributeResult(Result):
    """A segment for every target, in the order of the request."""

    kind: Literal["attribute"] = "attribute"
    model: str
    height: int
    width: int
    segments: list[Segment]
    semantic: SemanticMap | None = None
    appraisal: Appraisal | None = None
    causal: Causal | None = None
