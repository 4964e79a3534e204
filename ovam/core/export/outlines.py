"""Forms with a small text file beside each image: YOLO's segmentation, and labelme."""

import base64
import json
from collections.abc import Iterable, Iterator, Mapping
from io import BytesIO
from typing import Any, Final

import numpy as np
from PIL import Image

from ovam.core.coco import bounding_box, polygons
from ovam.core.export.entries import Entry
from ovam.core.export.files import File
from ovam.core.export.forms import Labelme
from ovam.core.export.samples import Annotation

LABELME: Final = "5.5.0"  # the version of its files that these are in
INSET: Final = 1 / 64  # pixels; YOLO's programs and labelme cut corners to whole numbers, and count the border in


def yolo_files(entries: Iterable[Entry], numbers: Mapping[str, int]) -> Iterator[File]:
    """Write each image and its text file, a line for each connected region; classes are counted from 0 in their order."""
    order = {label: index for index, label in enumerate(numbers)}
    splits: set[str] = set()
    for entry in entries:
        splits.add(entry.split)
        lines = [yolo_line(order[each.label], ring, entry) for each in entry.annotations for ring in polygons(each.mask, INSET)]
        yield File(f"images/{entry.split}/{entry.file_name}", entry.image.data)
        yield File(f"labels/{entry.split}/{entry.stem}.txt", "".join(lines).encode())
    validation = "val" if "val" in splits else "train"  # YOLO's programs refuse a data set without one
    names = "".join(f"  {index}: {json.dumps(label, ensure_ascii=False)}\n" for label, index in order.items())
    yield File("data.yaml", f"train: images/train\nval: images/{validation}\nnames:\n{names}".encode())


def yolo_line(index: int, ring: list[float], entry: Entry) -> str:
    """Return a class and its outline, x and y in turn as shares of the image's width and height."""
    height, width = entry.image.size
    shares = np.reshape(ring, (-1, 2)) / (width, height)
    return " ".join([str(index), *(f"{share:.6g}" for share in shares.reshape(-1).tolist())]) + "\n"


def labelme_files(entries: Iterable[Entry], form: Labelme) -> Iterator[File]:
    """Write each image and its JSON file, in a folder for each split."""
    for entry in entries:
        shapes = [shape for each in entry.annotations for shape in shapes_of(each, form)]
        height, width = entry.image.size
        page = {"version": LABELME, "flags": {}, "shapes": shapes, "imagePath": entry.file_name, "imageData": None}
        page |= {"imageHeight": height, "imageWidth": width}
        yield File(f"{entry.split}/{entry.file_name}", entry.image.data)
        yield File(f"{entry.split}/{entry.stem}.json", json.dumps(page, ensure_ascii=False).encode())


def shapes_of(annotation: Annotation, form: Labelme) -> list[dict[str, Any]]:
    """Return an annotation as labelme's shapes: a polygon for each connected region, or one mask."""
    shared = {"label": annotation.label, "group_id": None, "description": "", "flags": {}, "shape_type": form.shapes}
    if form.shapes == "polygon":
        rings = polygons(annotation.mask, INSET)
        return [{**shared, "points": np.reshape(ring, (-1, 2)).tolist(), "mask": None} for ring in rings]
    left, top, width, height = bounding_box(annotation.mask)
    right, bottom = left + width - 1, top + height - 1  # labelme's corners both belong to the mask
    buffer = BytesIO()
    Image.fromarray(annotation.mask[top : bottom + 1, left : right + 1]).save(buffer, format="PNG")
    return [{**shared, "points": [[left, top], [right, bottom]], "mask": base64.b64encode(buffer.getvalue()).decode()}]
