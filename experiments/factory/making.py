"""Making images and pseudo-masks, some at a time: files as Pascal VOC has them, and lines of JSON, also of what CLIP sees."""

from collections.abc import Mapping, Sequence
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from experiments.evaluation import work
from experiments.evaluation.backends.library import library
from experiments.evaluation.datasets import Case
from experiments.evaluation.settings import Setting
from experiments.evaluation.subjects import Mask, Subject
from experiments.evaluation.tasks import write_whole
from experiments.evaluation.work import Place, as_text
from ovam.core.label_maps import indexed_png
from ovam.core.looks import is_single_coloured
from worker.clip import Clip

IMAGES, LABELS = "JPEGImages", "SegmentationClass"
Line = dict[str, Any]
"""Of an image: what is said of it."""
PROMPTS = ("A photograph of a {}", "a {}", "not a {}")
"""What CLIP compares: the paper's text, then the two of the published code."""


def stem(case: Case) -> str:
    """The name of an image's files."""
    return f"{case.class_name}-{case.number:04d}"


def made(place: Place, cases: Sequence[Case], setting: Setting, tokens: work.TokenFiles, folder: Path) -> str:
    """Generate images, write them with their masks, and say what is needed to filter and to judge them, a line of JSON each."""
    backend, learned = library(place.model, place.words), work.read_learned(tokens)
    lines = []
    for subject in backend.generate([case for case in cases if work.is_learned(setting, case.class_name, learned)]):
        mask = backend.answers(subject, learned, masks=[setting], heats=[]).mask(setting)
        write_voc(folder, stem(subject.case), subject.image, mask * np.uint8(backend.world.label(subject.case.class_name)))
        lines.append(described(subject, mask))
    return as_text(lines)


def write_voc(folder: Path, name: str, image: np.ndarray, labels: np.ndarray) -> None:
    """Write an image as a JPEG that is hardly told from it, and its labels as an indexed PNG."""
    buffer = BytesIO()
    Image.fromarray(image).save(buffer, format="JPEG", quality=95, subsampling=0)
    write_whole(folder / IMAGES / f"{name}.jpg", buffer.getvalue())
    write_whole(folder / LABELS / f"{name}.png", indexed_png(labels))


def described(subject: Subject, mask: Mask) -> dict[str, Any]:
    """What an image is, and how its mask overlaps with what the annotator sees."""
    truth, case = subject.truth.mask, subject.case
    return {
        "name": stem(case),
        "class_name": case.class_name,
        "prompt": case.prompt,
        "seed": case.seed,
        "size": mask.size,
        "area": int(mask.sum()),
        "single_colour": is_single_coloured(subject.image),
        "clear": subject.clear,
        "counts": [int((mask & truth).sum()), int((mask | truth).sum())],
    }


def seen(lines: Sequence[Line], words: Mapping[str, str], folder: Path, clip: str) -> str:
    """How well images fit the texts of their classes' words, by a CLIP, a line of JSON each."""
    found = []
    for line in lines:
        with Image.open(folder / IMAGES / f"{line['name']}.jpg") as image:
            cosines, scale = clip_of(clip).cosines(
                np.asarray(image), [prompt.format(words[line["class_name"]]) for prompt in PROMPTS]
            )
        found.append({"name": line["name"], "clip": cosines, "clip_scale": scale})
    return as_text(found)


@cache
def clip_of(source: str) -> Clip:
    """The CLIP of this process."""
    return Clip(source, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
