"""From samples to the files of a form."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing

from ovam.core.export.coco_json import coco_files
from ovam.core.export.datasheet import Datasheet, Records, markdown
from ovam.core.export.entries import Entry, Split, entries_of, numbers_of
from ovam.core.export.files import File
from ovam.core.export.forms import Coco, Form, HuggingFace, Labelme, Voc, WebDataset, Yolo, form_of
from ovam.core.export.outlines import labelme_files, yolo_files
from ovam.core.export.parquet import card, huggingface_files, pyarrow
from ovam.core.export.samples import Sample
from ovam.core.export.shards import webdataset_files
from ovam.core.export.voc import voc_files
from ovam.core.settings import check

TENTH = Split()
UNKNOWN = Datasheet()


def export(
    samples: Iterable[Sample],
    form: Form | str,
    classes: Mapping[str, int] | Sequence[str],
    *,
    split: Split = TENTH,
    about: Datasheet = UNKNOWN,
    lenient: bool = False,
) -> Iterator[File]:
    """Stream samples as the files of a form, one sample in memory at a time.

    `form` is a form or the name of one; `classes` are numbers (1 to 254) by class name, or names, which are counted from 1.
    `about` is read at the end. With `lenient`, samples that cannot be written are left out and counted in the datasheet.

    Raises `InvalidArgumentError` at once for an unknown form, bad classes or a bad split, and before the files of a sample for a
    broken image, a mask of another size, or a class without a number; `MissingPackageError` for a form that needs pyarrow.

    >>> sample = Sample("car-1", np.zeros((4, 4, 3), np.uint8), [Annotation("car", np.eye(4, dtype=bool), 0.8)])
    >>> [file.path for file in export([sample], "voc", ["car"])][:2]
    ['JPEGImages/car-1.jpg', 'SegmentationClass/car-1.png']
    """
    check("split", split, Split)
    chosen = form_of(form)
    if isinstance(chosen, HuggingFace):
        pyarrow()  # its absence is noticed before a million images are made
    return files_of(samples, chosen, numbers_of(classes), split, about, lenient=lenient)


def files_of(
    samples: Iterable[Sample], form: Form, numbers: Mapping[str, int], split: Split, about: Datasheet, *, lenient: bool
) -> Iterator[File]:
    """Write the files of a form, then those of every form."""
    with closing(Records(numbers, split)) as records:
        entries = entries_of(samples, numbers, split, records.left_out if lenient else None)
        yield from written(records.seen(entries), form, numbers)
        if isinstance(form, HuggingFace):
            facts = records.facts(about)
            yield File("README.md", card(markdown(facts), facts).encode(errors="replace"))
        yield from records.files(about)


def written(entries: Iterable[Entry], form: Form, numbers: Mapping[str, int]) -> Iterator[File]:
    """Write the files that belong to a form alone."""
    match form:
        case Coco():
            return coco_files(entries, numbers, form)
        case Voc():
            return voc_files(entries, numbers, form)
        case Yolo():
            return yolo_files(entries, numbers)
        case Labelme():
            return labelme_files(entries, form)
        case WebDataset():
            return webdataset_files(entries, form)
        case HuggingFace():
            return huggingface_files(entries, form)
