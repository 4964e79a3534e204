"""COCO's instances: one JSON file a split, written piece by piece."""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from itertools import count
from typing import Any

import numpy as np
from jaxtyping import Bool

from ovam.core.coco import area, bounding_box, encode_run_lengths, polygons
from ovam.core.export.entries import Entry
from ovam.core.export.files import File, Spool
from ovam.core.export.forms import Coco
from ovam.core.export.samples import Annotation
from ovam.core.masks import instances

Mask = Bool[np.ndarray, "height width"]


def coco_files(entries: Iterable[Entry], numbers: Mapping[str, int], form: Coco) -> Iterator[File]:
    """Write images as they come, then what is known of them. Image and instance ids count from 1 over both splits."""
    with ExitStack() as stack:
        pages: dict[str, Page] = {}
        images, ids = count(1), count(1)
        for entry in entries:
            if entry.split not in pages:
                pages[entry.split] = Page(stack)
            page = pages[entry.split]
            image = image_of(entry, next(images))
            page.images.append(image)
            for each in entry.annotations:
                known = {"image_id": image["id"], "category_id": numbers[each.label]} | scored(each)
                for mask in instances(each.mask) if form.regions else [each.mask]:
                    page.instances.append({"id": next(ids)} | known | outlined(mask, form))
            yield File(f"images/{entry.split}/{entry.file_name}", entry.image.data)
        for split, page in pages.items():
            yield File(f"annotations/instances_{split}.json", page.joined(numbers, stack))


class Page:
    """The images and annotations of a split, collected."""

    def __init__(self, stack: ExitStack) -> None:
        self.images, self.instances = JsonList(stack), JsonList(stack)

    def joined(self, numbers: Mapping[str, int], stack: ExitStack) -> Spool:
        """Return all of it as COCO's JSON."""
        whole = stack.enter_context(Spool())
        categories = [{"id": number, "name": label, "supercategory": ""} for label, number in numbers.items()]
        whole.write(f'{{"info": {{}}, "licenses": [], "categories": {json.dumps(categories)}, "images": ['.encode())
        whole.writelines(self.images.items.chunks())
        whole.write(b'\n], "annotations": [')
        whole.writelines(self.instances.items.chunks())
        whole.write(b"\n]}\n")
        return whole


class JsonList:
    """The items of a list in JSON, without its brackets."""

    def __init__(self, stack: ExitStack) -> None:
        self.items = stack.enter_context(Spool())

    def append(self, item: Mapping[str, Any]) -> None:
        """Add an item on a line of its own."""
        self.items.write((b",\n" if len(self.items) else b"\n") + json.dumps(item).encode())


def image_of(entry: Entry, number: int) -> dict[str, Any]:
    """Return COCO's record of an image, with its prompt and seed."""
    height, width = entry.image.size
    known = {"id": number, "file_name": entry.file_name, "height": height, "width": width}
    return {**known, "prompt": entry.sample.prompt, "seed": entry.seed}


def scored(annotation: Annotation) -> dict[str, float]:
    """Return an annotation's score, as results have it that are to be compared with the truth; none where there is none."""
    return {} if annotation.score is None else {"score": float(annotation.score)}


def outlined(mask: Mask, form: Coco) -> dict[str, Any]:
    """Return a mask as COCO has it."""
    outline = encode_run_lengths(mask) if form.outlines == "rle" else polygons(mask)
    return {"segmentation": outline, "area": area(mask), "bbox": [*bounding_box(mask)], "iscrowd": 0}
