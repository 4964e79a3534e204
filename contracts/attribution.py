"""Where in an image is what: targets, every choice of the method, and the segments that come of them."""

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from contracts.fields import (
    Artifact,
    Blocks,
    Evaluations,
    Frozen,
    Indices,
    JobId,
    Label,
    Name,
    Normalize,
    Padding,
    Request,
    Rle,
    Text,
    TokenRef,
)

MAX_TARGETS = 64
Refine = Literal["none", "attention", "affinity", "both"]
Threshold = Literal["share", "absolute", "otsu"]
MethodName = Literal["ovam", "daam", "attn2mask"]
Split = Literal["block", "evaluation", "head"]
NEEDS_SELF_ATTENTION = ("attention", "affinity", "both")
COUNTS_BESIDE = {  # a setting that counts only beside some values of another one
    "alpha": ("refine", ("attention", "both")),
    "sign": ("refine", ("attention", "both")),
    "affinity_steps": ("refine", ("affinity", "both")),
    "normalize": ("threshold", ("share",)),
    "tau": ("threshold", ("share", "absolute")),
}


class CrfSettings(Request):
    """What the dense CRF is run with; the defaults are the paper's."""

    bilateral_weight: float = Field(10.0, ge=0, le=1000)
    bilateral_distance: float = Field(80.0, gt=0, le=1000, description="standard deviation in pixels")
    bilateral_colour: float = Field(13.0, gt=0, le=255, description="standard deviation in steps of 0 to 255")
    gaussian_weight: float = Field(3.0, ge=0, le=1000)
    gaussian_distance: float = Field(3.0, gt=0, le=1000, description="standard deviation in pixels")
    iterations: int = Field(5, ge=1, le=100)


class Settings(Request):
    """Every choice between a trace and a mask. What is left out is the method's own, see `GET /v1/methods`."""

    padding: Padding | None = Field(None, description="softmax over the prompt's own tokens, or over all 77 as in generation")
    reduction: Literal["mean", "sum"] | None = Field(None, description="of blocks, evaluations and heads (Eq. 5)")
    blocks: Blocks | None = Field(None, description="blocks of the trace; all without it")
    evaluations: Evaluations | None = Field(None, description="evaluations of the trace, by position in it; all without it")
    heads: Indices | None = Field(None, description="heads of every block; all without it")
    refine: Refine | None = Field(None, description="weights by attention received (Eq. 8), spread along self-attention, or both")
    alpha: float | None = Field(None, ge=0, le=1, description="least weight of attention received (Eq. 8)")
    sign: Literal[1, -1] | None = Field(None, description="whether much attention received means more heat, or less")
    affinity_steps: int | None = Field(None, ge=1, le=4, description="how often heat is spread")
    threshold: Threshold | None = Field(None, description="a share of the hottest pixel (Eq. 9), a level, or Otsu's")
    tau: float | None = Field(None, ge=0, allow_inf_nan=False, description="the share (at most 1), or the absolute level")
    normalize: Normalize | None = Field(None, description="the share is of the maximum, or of the range after min-max")
    crf: bool | CrfSettings | None = Field(None, description="refine the mask with a dense CRF on the image")
    minimum_area: int | None = Field(None, ge=0, le=2**30, description="drop regions of fewer pixels")
    fill_holes: bool | None = None

    @model_validator(mode="after")
    def consistent(self) -> Self:
        """Choices that exclude each other are not both made."""
        for field, (other, values) in COUNTS_BESIDE.items():
            said = getattr(self, other)
            if getattr(self, field) is not None and said is not None and said not in values:
                raise ValueError(f"`{field}` belongs to {other} {' or '.join(map(repr, values))}, not to {said!r}")
        if self.threshold in (None, "share") and self.tau is not None and not 0 < self.tau <= 1:
            raise ValueError(f"`tau` is {self.tau}; allowed: above 0, at most 1, for a share")
        return self


class Target(Request):
    """Something to look for: words of an attribution prompt, a learned token, or rows of an embedding."""

    label: Label
    prompt: Text | None = Field(None, description="the attribution prompt; need not be the image's own")
    word: Text | None = Field(None, description="a word or phrase of the prompt; the mean of all its words without it")
    occurrence: int | None = Field(None, ge=0, description="the n-th occurrence of the word (from 0); all without it")
    token: TokenRef | None = Field(None, description="a learned token: `cat@2`, or `cat` for its newest version")
    class_name: Text | None = Field(None, description="which class of a token that knows several; needed for those")
    embedding: list[list[float]] | None = Field(
        None, min_length=1, max_length=77, description="rows (tokens, text width) to take the softmax over"
    )
    rows: list[int] | None = Field(
        None,
        min_length=1,
        max_length=77,
        description="rows whose maps are averaged; all but the first without it",
    )
    settings: Settings | None = Field(None, description="for this target; they go before those of the request")

    @property
    def kind(self) -> Literal["words", "tokens"]:
        """Which of a method's settings it takes; rows of an embedding are looked for as learned tokens are."""
        return "tokens" if self.prompt is None else "words"

    @model_validator(mode="after")
    def one_description(self) -> Self:
        """A target is described in one way."""
        if sum(each is not None for each in (self.prompt, self.token, self.embedding)) != 1:
            raise ValueError("a target takes one of `prompt` (with an optional `word`), `token` or `embedding`")
        if self.prompt is None and (self.word is not None or self.occurrence is not None):
            raise ValueError("`word` and `occurrence` belong to a `prompt`")
        if self.occurrence is not None and self.word is None:
            raise ValueError("`occurrence` needs a `word`")
        if self.token is None and self.class_name is not None:
            raise ValueError("`class_name` belongs to a `token`")
        if self.embedding is None and self.rows is not None:
            raise ValueError("`rows` belong to an `embedding`")
        return self

    @model_validator(mode="after")
    def rows_of_one_embedding(self) -> Self:
        """An embedding is a table, and what is looked for is in it."""
        if self.embedding is None:
            return self
        widths, count = sorted({len(row) for row in self.embedding}), len(self.embedding)
        if len(widths) > 1:
            raise ValueError(f"the rows of `embedding` are {widths} long; allowed: one width")
        if self.rows is None and count == 1:
            raise ValueError("`embedding` has no row but the first; say which with `rows`")
        outside = [row for row in self.rows or () if not 0 <= row < count]
        if outside:
            raise ValueError(f"`rows` has {outside}; allowed: 0 to {count - 1}")
        return self


class SemanticOptions(Request):
    """One map over all targets: every pixel gets the target that leads its threshold by most, or the background."""

    margin: float = Field(
        0.0, ge=0, le=1, allow_inf_nan=False, description="pixels whose winner leads by less are unsure and get the label 255"
    )


class InstanceOptions(Request):
    """Split masks into connected regions."""

    minimum_area: int = Field(1, ge=1, le=2**30, description="pixels; smaller regions are left out")
    connectivity: Literal[4, 8] = 8


class AttributeRequest(Settings):
    """The question where in an image some targets are. Its settings are those of every target."""

    job_id: JobId = Field(description="a job that made or took images, and succeeded")
    image: int = Field(0, ge=0, description="which of its images")
    targets: list[Target] = Field(min_length=1, max_length=MAX_TARGETS)
    method: MethodName | None = Field(None, description="a published method's settings; the model's own best ones without it")
    maps: list[Split] = Field([], max_length=3, description="also heatmaps of every single block, evaluation or head, as .npy")
    semantic: SemanticOptions | None = Field(None, description="also one map of labels, an indexed PNG in Pascal VOC's palette")
    instances: InstanceOptions | None = Field(None, description="also the connected regions of every mask")

    @model_validator(mode="after")
    def labels_differ(self) -> Self:
        """A label names one target of the answer."""
        labels = [target.label for target in self.targets]
        if len(set(labels)) != len(labels):
            raise ValueError("every target needs a `label` of its own")
        if len(set(self.maps)) != len(self.maps):
            raise ValueError("`maps` names a kind twice")
        return self


class Region(Frozen):
    """A connected region of a mask."""

    area: int = Field(description="pixels")
    bbox: tuple[int, int, int, int] = Field(description="x, y, width, height; zeros if it is empty")
    rle: Rle
    polygons: list[list[float]] = Field(description="outlines as x0, y0, x1, y1, ...")


class SplitMaps(Frozen):
    """A target's heatmaps, part by part."""

    by: Split
    parts: list[str] = Field(description="what the maps along the first axis are of: blocks by name, the others by position")
    terms: list[int] = Field(description="how many maps of attention each is made of")
    file: Artifact = Field(
        description=".npy of (parts, height, width), float32; their mean weighted by terms (for reduction `sum`: their sum) "
        "is the heatmap before it is resized to the image"
    )


class Segment(Region):
    """Where one target is."""

    target: Target
    method: str = Field(description="whose settings were taken")
    settings: dict[str, Any] = Field(description="all settings, as used: sent again, they give the same mask")
    score: float = Field(description="mean of the heatmap inside the mask over its maximum, 0..1")
    heatmap: Artifact
    heatmap_npy: Artifact
    refined_npy: Artifact | None = Field(
        None, description="what the threshold cuts, where that is not the heatmap itself but stretched, spread or weighed heat"
    )
    mask: Artifact
    overlay: Artifact
    maps: list[SplitMaps] = Field([])
    instances: list[Region] | None = None


class SemanticMap(Frozen):
    """Labels of all targets in one picture: 0 is the background, k + 1 target k, 255 unsure."""

    map: Artifact
    labels: dict[int, str]
    areas: dict[int, int] = Field(description="pixels of each label, 0 and 255 included where they occur")


class AttributeResult(Frozen):
    """A segment for every target, in the order asked for."""

    model: str
    height: int
    width: int
    segments: list[Segment]
    semantic: SemanticMap | None = None


class MethodCard(Frozen):
    """A published method: its settings for words and for learned tokens."""

    name: Name
    source: str
    words: dict[str, Any]
    tokens: dict[str, Any]
