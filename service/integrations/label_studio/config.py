"""A project's label config: on which image which labels are drawn how, and what of ours each label stands for."""

from collections.abc import Iterator
from dataclasses import dataclass
from xml.etree import ElementTree as ET  # it declares no entities: see `parsed`

from pydantic import TypeAdapter, ValidationError

from contracts.schema.attribute import MAX_TARGETS
from contracts.schema.errors import Code, ServiceError
from contracts.schema.fields import Label as LabelText
from contracts.schema.fields import Text

DRAWN = ("brushlabels", "polygonlabels")
BOXED = "rectanglelabels"
PLACED = ("keypointlabels", BOXED)  # what smart tools ask with
FORBIDDEN = ("<!doctype", "<!entity")
NAME = TypeAdapter(LabelText)
WANTED = TypeAdapter(Text)
EXAMPLE = (
    '<View><Image name="image" value="$image"/><BrushLabels name="mask" toName="image"><Label value="car"/></BrushLabels></View>'
)


@dataclass(frozen=True)
class Label:
    """A label of a project."""

    name: str
    """As results name it."""
    wanted: str
    """The word or the learned token to look for; empty: none, the label is for people alone."""


@dataclass(frozen=True)
class Control:
    """A tag by which labels are drawn."""

    kind: str
    """`brushlabels`, as results name it."""
    name: str
    labels: tuple[Label, ...]


@dataclass(frozen=True)
class LabelConfig:
    """What of a config concerns one image."""

    image: str
    """The name of its tag."""
    key: str
    """Where a task's data has it."""
    controls: tuple[Control, ...]

    @property
    def outputs(self) -> list[Control]:
        """The controls that get predictions: brushes and polygons, and boxes where there are neither."""
        drawn = [control for control in self.controls if control.kind in DRAWN]
        return drawn or [control for control in self.controls if control.kind == BOXED]

    @property
    def labels(self) -> dict[str, Label]:
        """The labels that are looked for, by name."""
        return {label.name: label for control in self.outputs for label in control.labels if label.wanted}

    def drawn_by(self, label: str) -> Control | None:
        """The control that draws a label."""
        return next((control for control in self.outputs if label in [each.name for each in control.labels]), None)


def parsed(text: str, *, field: str) -> LabelConfig:
    """Read a config. ServiceError (invalid-argument) for none that anything can be predicted for."""
    if any(mark in text.lower() for mark in FORBIDDEN):
        raise wrong("declares a document type or entities", field)
    try:
        tags = [*ET.fromstring(text).iter()]  # noqa: S314
    except ET.ParseError as error:
        raise wrong(f"is not XML: {error}", field) from error
    images = {tag.get("name", ""): tag.get("value", "") for tag in tags if tag.tag.lower() == "image"}
    found = [control for tag in tags if (control := control_of(tag, images, field))]
    for image, value in images.items():
        config = LabelConfig(image, value.removeprefix("$"), tuple(control for name, control in found if name == image))
        if config.outputs:
            if len(config.labels) > MAX_TARGETS:
                raise wrong(f"has {len(config.labels)} labels; allowed: {MAX_TARGETS}", field)
            return config
    raise wrong("has no image with brush, polygon or rectangle labels", field)


def control_of(tag: ET.Element, images: dict[str, str], field: str) -> tuple[str, Control] | None:
    """A control and the image that it belongs to, if the tag is one."""
    kind = tag.tag.lower()
    if kind not in (*DRAWN, *PLACED):
        return None
    image = next((name for name in map(str.strip, tag.get("toName", "").split(",")) if name in images), None)
    return None if image is None else (image, Control(kind, tag.get("name", ""), tuple(labels_of(tag, field))))


def labels_of(tag: ET.Element, field: str) -> Iterator[Label]:
    """A control's labels."""
    for each in tag.iter():
        if each.tag.lower() == "label":
            name = each.get("alias") or each.get("value", "")
            try:
                NAME.validate_python(name)
            except ValidationError as error:
                raise wrong(f"has a label {name[:40]!r}; allowed: 1 to 100 characters", field) from error
            wanted = each.get("ovam", each.get("value", "")).strip()
            try:
                yield Label(name, WANTED.validate_python(wanted) if wanted else "")
            except ValidationError as error:
                raise wrong(f"has a label {name[:40]!r} whose `ovam` is longer than 2000 characters", field) from error


def wrong(what: str, field: str) -> ServiceError:
    """The problem of a config."""
    return ServiceError(Code.INVALID_ARGUMENT, f"the label config {what}; a small one: {EXAMPLE}", field=field)
