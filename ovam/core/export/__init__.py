"""Labelled images as data sets in the forms that other people's tools read, streamed: a million images in bounded memory.

    files = export(samples, "coco", {"car": 1, "grass": 2}, split=Split(validation=0.1))
    into_folder(files, "cars")  # or as_tar(files), or each file's path and chunks

`export` takes any iterable of `Sample`s and holds one at a time. Every form also gets `samples.jsonl` (one line an image),
`contact-sheet.png`, `DATASHEET.md`, and at last `datasheet.json`: where that is there, the export is whole.

Where the masks of several classes overlap, a form that has one label a pixel (`voc`, the masks of `webdataset` and
`huggingface`) gives the pixel to the class of the highest score, of equal scores to the first one of the sample. The other
forms keep every mask whole.
"""

from ovam.core.export.datasheet import Datasheet
from ovam.core.export.exporting import Split, export
from ovam.core.export.files import File, as_tar, into_folder
from ovam.core.export.forms import FORMS, Coco, Form, FormName, HuggingFace, Labelme, Voc, WebDataset, Yolo
from ovam.core.export.samples import Annotation, Sample

__all__ = [  # noqa: RUF022 - by topic
    # what goes in
    "Sample",
    "Annotation",
    "Datasheet",
    # in which form
    "FORMS",
    "Form",
    "FormName",
    "Coco",
    "Voc",
    "Yolo",
    "Labelme",
    "WebDataset",
    "HuggingFace",
    # what comes out
    "export",
    "Split",
    "File",
    "as_tar",
    "into_folder",
]
