"""Pascal VOC: images as JPEG, label maps as indexed PNG, lists of names."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack

from ovam.core.export.entries import Entry
from ovam.core.export.files import File, Spool
from ovam.core.export.forms import Voc
from ovam.core.export.samples import jpeg_of
from ovam.core.label_maps import BACKGROUND, IGNORE, indexed_png, voc_palette


def voc_files(entries: Iterable[Entry], numbers: Mapping[str, int], form: Voc) -> Iterator[File]:
    """Write images and label maps as they come, then the lists of names and what the colours mean."""
    with ExitStack() as stack:
        lists = {split: stack.enter_context(Spool()) for split in ("train", "val", "trainval")}
        for entry in entries:
            for split in (entry.split, "trainval"):
                lists[split].write(f"{entry.stem}\n".encode())
            yield File(f"JPEGImages/{entry.stem}.jpg", jpeg_of(entry.image))
            yield File(f"SegmentationClass/{entry.stem}.png", indexed_png(entry.labels(form.rest)))
        for split, names in lists.items():
            yield File(f"ImageSets/Segmentation/{split}.txt", names)
        yield File("labelmap.txt", label_map({"background": BACKGROUND, **numbers, "ignored": IGNORE}).encode())


def label_map(numbers: Mapping[str, int]) -> str:
    """Return the colours of classes as CVAT and Datumaro write and read them."""
    palette = voc_palette().tolist()
    lines = [f"{label}:{','.join(map(str, palette[number]))}::" for label, number in numbers.items()]
    return "\n".join(["# label:color_rgb:parts:actions", *lines]) + "\n"
