"""The forms in which labelled images are exported, as values: settings of a form stand in its own class."""

from dataclasses import dataclass
from difflib import get_close_matches
from typing import Annotated, Final, Literal

from annotated_types import Interval

from ovam.core.settings import Checked
from ovam.errors import InvalidArgumentError

MEGABYTE: Final = 1 << 20
ShardBytes = Annotated[int, Interval(ge=1 << 16, le=1 << 32)]


@dataclass(frozen=True)
class Coco(Checked):
    """COCO's instances: `annotations/instances_<split>.json` and `images/<split>/`."""

    outlines: Literal["rle", "polygons"] = "rle"
    """Masks as compressed run lengths, or as polygons."""
    regions: bool = True
    """Each connected region of a mask is an instance; else each mask is."""
    kind: Literal["coco"] = "coco"


@dataclass(frozen=True)
class Voc(Checked):
    """Pascal VOC: `JPEGImages`, `SegmentationClass` in VOC's palette with 255 for unsure pixels, `ImageSets/Segmentation`."""

    rest: Literal[0, 255] = 0
    """The label of what belongs to no class: background, or unsure."""
    kind: Literal["voc"] = "voc"


@dataclass(frozen=True)
class Yolo(Checked):
    """YOLO's segmentation: `images/<split>`, a text file of polygons for each in `labels/<split>`, `data.yaml`."""

    kind: Literal["yolo"] = "yolo"


@dataclass(frozen=True)
class Labelme(Checked):
    """labelme: in `<split>`, each image with a JSON file of its shapes."""

    shapes: Literal["polygon", "mask"] = "polygon"
    """Outlines that a person can move, or masks."""
    kind: Literal["labelme"] = "labelme"


@dataclass(frozen=True)
class WebDataset(Checked):
    """WebDataset: `<split>-<number>.tar` of images, semantic maps (`mask.png`) and JSON."""

    shard_bytes: ShardBytes = 256 * MEGABYTE
    """About how large a shard grows."""
    rest: Literal[0, 255] = 0
    """The label of what belongs to no class: background, or unsure."""
    kind: Literal["webdataset"] = "webdataset"


@dataclass(frozen=True)
class HuggingFace(Checked):
    """Hugging Face datasets: `data/<split>-<number>.parquet` with columns of images and of semantic maps, and a card."""

    shard_bytes: ShardBytes = 256 * MEGABYTE
    """About how large a file grows."""
    rest: Literal[0, 255] = 0
    """The label of what belongs to no class: background, or unsure."""
    kind: Literal["huggingface"] = "huggingface"


FormName = Literal["coco", "voc", "yolo", "labelme", "webdataset", "huggingface"]
Form = Coco | Voc | Yolo | Labelme | WebDataset | HuggingFace

FORMS: Final[dict[str, Form]] = {
    form.kind: form for form in (Coco(), Voc(), Yolo(), Labelme(), WebDataset(), HuggingFace())
}  # fmt: skip
"""Every form with its defaults, by name."""


def form_of(form: Form | str) -> Form:
    """Return a form, or the one of this name with its defaults. Raises `InvalidArgumentError` for an unknown name."""
    if not isinstance(form, str):
        return form
    if form not in FORMS:
        close = get_close_matches(form.lower(), FORMS, n=1)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        raise InvalidArgumentError("form", form, f"{', '.join(FORMS)}{hint}")
    return FORMS[form]
