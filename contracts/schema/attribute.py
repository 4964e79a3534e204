"""Where in an image is what: targets, settings, and the segments that come of them."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Annotated, Any, Literal, Self, get_args, get_type_hints

from pydantic import (
    BeforeValidator,
    Discriminator,
    Field,
    SerializerFunctionWrapHandler,
    Tag,
    TypeAdapter,
    create_model,
    model_serializer,
    model_validator,
)

from contracts.schema.fields import (
    MAX_WIDTH,
    Artifact,
    Blocks,
    JobId,
    Label,
    Name,
    Positions,
    Result,
    Rle,
    Schema,
    Split,
    Text,
    TokenRef,
    by_kind,
    suggestion,
)
from ovam.core.methods import METHODS, Method, MethodName, TargetKind
from ovam.errors import shown

MAX_TARGETS = 64
MAX_ROWS = 77
Row = Annotated[list[float], Field(max_length=MAX_WIDTH, fail_fast=True)]
BOUNDED = {"blocks": Blocks, "evaluations": Positions, "heads": Positions}  # the same as in `Method`, with limits of size
TAGGED = ("refine", "threshold")


def optional_fields() -> dict[str, Any]:
    """Declare every setting of a `Method` as a field that may be left out, with the description it has there."""
    described = TypeAdapter(Method).json_schema()["properties"]
    hints = get_type_hints(Method, include_extras=True)
    declared = {}
    for setting in fields(Method):
        kind = BOUNDED.get(setting.name, hints[setting.name])
        if setting.name in TAGGED:
            kind = Annotated[kind, Field(discriminator="kind"), by_kind(*get_args(kind))]
        declared[setting.name] = (kind | None, Field(None, description=described[setting.name].get("description")))
    return declared


class PartialSettings(Schema):
    """Changes of a method's settings. A setting that is left out stays the method's own."""

    def changes(self) -> dict[str, Any]:
        """Return the settings that are given. `crf` may be given as null: no CRF."""
        return {name: getattr(self, name) for name in self.model_fields_set if name == "crf" or getattr(self, name) is not None}

    @model_serializer(mode="wrap")
    def only_changes(self, serialize: SerializerFunctionWrapHandler):  # noqa: ANN201 - a return type would replace the schema
        """Write the settings that are given alone, so that what is read again changes the same."""
        written = serialize(self)
        return {name: written[name] for name in self.changes() if name in written}


Settings = create_model("Settings", __base__=PartialSettings, __doc__=PartialSettings.__doc__, **optional_fields())


class TargetOptions(Schema):
    """What every kind of target has."""

    settings: Settings | None = None  # type: ignore[valid-type]
    """For this target alone; they win over the request's."""


class WordsTarget(TargetOptions):
    """A word or phrase of an attribution prompt, which need not be the image's own."""

    label: Label | None = None
    """Its name in the answer; the word, or the prompt, without it."""
    prompt: Text | None = None
    """The attribution prompt; "a photograph of a <word>" without it."""
    word: Text | None = None
    """A word or phrase of the prompt; all words of the prompt without it."""
    occurrence: Annotated[int, Field(ge=0)] | None = None
    """The n-th occurrence of the word, from 0; all occurrences without it."""

    @property
    def kind(self) -> TargetKind:
        """Which of a method's settings it takes."""
        return "words"

    @model_validator(mode="after")
    def occurrence_of_a_word(self) -> Self:
        """An occurrence is one of a word."""
        if self.occurrence is not None and self.word is None:
            raise ValueError("`occurrence` needs a `word`")
        return self


class TokenTarget(TargetOptions):
    """A learned token."""

    label: Label | None = None
    """Its name in the answer; the token's class, or its name, without it."""
    token: TokenRef
    """`cat@2`, or `cat` for its newest version."""
    class_name: Text | None = None
    """Which class of a token that knows several; needed for those."""

    @property
    def kind(self) -> TargetKind:
        """Which of a method's settings it takes."""
        return "tokens"


class EmbeddingTarget(TargetOptions):
    """Rows of an embedding."""

    label: Label
    """Its name in the answer."""
    embedding: list[Row] = Field(min_length=1, max_length=MAX_ROWS, fail_fast=True)
    """Rows (tokens, text width) to take the softmax over."""
    rows: Annotated[list[int], Field(min_length=1, max_length=MAX_ROWS, fail_fast=True)] | None = None
    """Rows whose maps are averaged; all but the first without it."""

    @property
    def kind(self) -> TargetKind:
        """Which of a method's settings it takes: rows are looked for as learned tokens are."""
        return "tokens"

    @model_validator(mode="after")
    def rows_of_one_table(self) -> Self:
        """An embedding is a table, and the rows are in it."""
        widths, count = sorted({len(row) for row in self.embedding}), len(self.embedding)
        if len(widths) > 1:
            raise ValueError(f"the rows of `embedding` are {widths} long; allowed: one width")
        if self.rows is None and count == 1:
            raise ValueError("`embedding` has no row but the first; name it in `rows`")
        outside = [row for row in self.rows or () if not 0 <= row < count]
        if outside:
            raise ValueError(f"`rows` has {outside}; allowed: 0 to {count - 1}")
        return self


OTHER_TARGET = "a target takes one of `word` or `prompt` (or both), `token`, or `embedding`"


WORDS, TOKEN, EMBEDDING = "(words)", "(token)", "(embedding)"  # tags: not the names of fields, since they enter errors' paths


def tag_of(target: object) -> str | None:
    """Tell the kinds of targets apart by their fields."""
    if isinstance(target, Mapping):
        kinds = {WORDS: "prompt" in target or "word" in target, TOKEN: "token" in target, EMBEDDING: "embedding" in target}
        present = [kind for kind, given in kinds.items() if given]
        return present[0] if len(present) == 1 else None
    tags: dict[type, str] = {WordsTarget: WORDS, TokenTarget: TOKEN, EmbeddingTarget: EMBEDDING}
    return tags.get(type(target))


Target = Annotated[
    # words last: generated clients take the first kind whose required fields are there, and words have none
    Annotated[EmbeddingTarget, Tag(EMBEDDING)] | Annotated[TokenTarget, Tag(TOKEN)] | Annotated[WordsTarget, Tag(WORDS)],
    Discriminator(tag_of, custom_error_type="target", custom_error_message=OTHER_TARGET),
]


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


def known_method(name: object) -> object:
    """Refuse the name of no method, with the one that is close to it."""
    if isinstance(name, str) and name not in METHODS:
        raise ValueError(f"there is no method {shown(name)}; allowed: {', '.join(METHODS)}{suggestion(name, [*METHODS])}")
    return name


class AttributeRequest(Schema):
    """Ask where in an image some targets are."""

    job_id: JobId
    """A job that has images, and succeeded."""
    image: int = Field(0, ge=0)
    """Which of its images."""
    targets: list[Target] = Field(min_length=1, max_length=MAX_TARGETS)
    """What to look for."""
    method: Annotated[MethodName, BeforeValidator(known_method)] | None = None
    """A published method, see GET /v1/methods; the model's own best settings without it."""
    settings: Settings | None = None  # type: ignore[valid-type]
    """Changes of the method's settings, for every target."""
    maps: list[Split] = Field([], max_length=3)
    """Also the heatmaps of every single block, evaluation or head, as `.npy`."""
    semantic: SemanticOptions | None = None
    """Also one map of labels over all targets, an indexed PNG in Pascal VOC's palette."""
    instances: InstanceOptions | None = None
    """Also the connected regions of every mask."""

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


class TargetJob(Schema):
    """A target with the settings it is looked for with, nothing left open."""

    label: str
    target: Target
    method: str
    """The published method whose settings were taken."""
    settings: Method
    """All settings: sent again, they give the same mask."""


class AttributeJob(Schema):
    """The request filled in."""

    kind: Literal["attribute"] = "attribute"
    job_id: JobId
    image: int
    model: Name
    targets: list[TargetJob]
    maps: list[Split]
    semantic: SemanticOptions | None
    instances: InstanceOptions | None


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
    terms: list[int]
    """How many maps of attention each is made of."""
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
    """What each label stands for: 0 the background, 255 ambiguous."""
    areas: dict[int, int]
    """Pixels of each label that occurs."""


class AttributeResult(Result):
    """A segment for every target, in the order of the request."""

    kind: Literal["attribute"] = "attribute"
    model: str
    height: int
    width: int
    segments: list[Segment]
    semantic: SemanticMap | None = None


class MethodCard(Schema):
    """A published method: its settings for words and for learned tokens."""

    name: Name
    source: str
    """Where it was published."""
    words: Method
    tokens: Method
