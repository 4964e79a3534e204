"""All work of the data set: learn the classes' tokens, make images and masks, show them to CLIP, filter, measure the filters."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from experiments.evaluation import scales
from experiments.evaluation.defaults import NotMeasuredError, scores_of
from experiments.evaluation.hashes import hash_of
from experiments.evaluation.lines import read_lines
from experiments.evaluation.recipes import PUBLISHED_RECIPE
from experiments.evaluation.scores import score
from experiments.evaluation.settings import Setting, as_json, key
from experiments.evaluation.stages import Plan as Evaluation
from experiments.evaluation.tasks import Task, write_whole
from experiments.factory.cases import MOST, cases
from experiments.factory.filtering import PRESETS, filters_of, reasons, rejections
from experiments.factory.making import Line, made, seen
from ovam import Method

IMAGES_A_TASK = 20
COST = 15.0  # of an image, where that of a class's token, which takes some 20 s, is 200
LOOK = 0.2  # of showing one to CLIP
LISTS = Path("ImageSets/Segmentation")
EVERYTHING = "all"
"""The list of all images, beside those of the presets."""
GOOD = 0.5  # IoU of a mask that shows its object rather than not


@dataclass(frozen=True)
class Plan:
    """A data set, and where it lies."""

    model: Path
    work: Path
    """The folder for what is under way; tokens that the evaluation learned there are not learned again."""
    setting: Setting
    """How masks are made of learned tokens."""
    images: int = 4000
    clip: str = ""
    """A `transformers.CLIPModel` by hub id or folder; none: the filters by CLIP are off."""

    @property
    def stages(self) -> Mapping[str, Callable[[], list[Task]]]:
        """Tokens, then images, then what CLIP sees in them."""
        return {"tokens": self.evaluation.learning, "images": self.making, "clip": self.looking}

    @cached_property
    def evaluation(self) -> Evaluation:
        """The evaluation of the model, whose tokens are taken."""
        return Evaluation(self.model, self.work, scales.HEADLINE)

    def making(self) -> list[Task]:
        """Make all images and masks, some a task."""
        place = self.folder / "lines"
        return [Task(place / name, COST * len(part), partial(self.make, part)) for name, part in self.parts.items()]

    def looking(self) -> list[Task]:
        """Show all images to CLIP, as they are stored."""
        if not self.clip:
            return []
        source = self.clip + hash_of(Path(self.clip).glob("*.safetensors"))
        place = self.folder / f"clip-{hashlib.sha256(source.encode()).hexdigest()[:8]}"
        return [Task(place / name, LOOK * len(part), partial(self.look, name)) for name, part in self.parts.items()]

    @property
    def parts(self) -> Mapping[str, range]:
        """Which images a task is about, by the name of its file."""
        starts = range(0, self.images, IMAGES_A_TASK)
        parts = [range(start, min(start + IMAGES_A_TASK, self.images)) for start in starts]
        return {f"{part.start}-{part.stop}.jsonl": part for part in parts}

    def make(self, part: range) -> str:
        """Make some of the images."""
        plan, tokens = self.evaluation, tuple(task.path for task in self.evaluation.learning())
        wanted = list(cases(plan.world, plan.guidance_scale, part, plan.classes))
        return made(plan.place, wanted, self.setting, tokens, self.folder)

    def look(self, name: str) -> str:
        """Show the images of a task to CLIP."""
        lines = read_lines([self.folder / "lines" / name])
        return seen(lines, self.evaluation.words, self.folder, self.clip)

    def cost(self) -> float:
        """In seconds or so."""
        return sum(task.cost for stage in self.stages.values() for task in stage())

    @cached_property
    def folder(self) -> Path:
        """Where images, labels and lists are, as Pascal VOC has them; elsewhere whenever masks are made otherwise."""
        plan = self.evaluation
        source = (plan.truth_hash, plan.guidance_scale, self.setting, [task.path.name for task in plan.learning()])
        return self.work / plan.model_hash[:12] / f"data-set-{hashlib.sha256(repr(source).encode()).hexdigest()[:8]}"

    def lines(self) -> list[Line]:
        """What is known of every image."""
        shown = {line["name"]: line for line in read_lines(task.path for task in self.looking())}
        return [line | shown.get(line["name"], {}) for line in read_lines(task.path for task in self.making())]


def setting_of(results: Path, model: Path, name: str) -> Setting:
    """A way to masks of tokens, at the threshold that the evaluation's tuning chose. NotMeasuredError for one it has not."""
    measured = scores_of(results, model)["settings"]["generated"]
    if key(name, PUBLISHED_RECIPE) not in measured:
        known = ", ".join(row["name"] for row in measured.values() if row["target"] == PUBLISHED_RECIPE)
        raise NotMeasuredError(f"the evaluation has measured no {name!r} of tokens; allowed: {known}")
    found = measured[key(name, PUBLISHED_RECIPE)]
    return Setting(name, PUBLISHED_RECIPE, TypeAdapter(Method).validate_python(found["method"]))


def check_images(images: int, classes: int) -> None:
    """Raise ValueError for a number of images that there are no captions for."""
    if not classes <= images <= MOST:
        raise ValueError(f"--images is {images}; allowed: {classes} (one of each class) to {MOST}")


def conclude(plan: Plan) -> dict[str, Any]:
    """Write the lists of what stays, and return what was rejected and how good the masks are before and after."""
    lines, found = plan.lines(), {}
    write_list(plan.folder, EVERYTHING, lines)
    for preset in PRESETS:
        filters = filters_of(preset, clip=bool(plan.clip))
        why = reasons(lines, filters)
        stay = [line for line, reason in zip(lines, why, strict=True) if reason is None]
        write_list(plan.folder, preset, stay)
        by_class = {name: dict(counts) for name, counts in rejections(lines, why).items()}
        found[preset] = {"filters": filters.model_dump(), "by class": by_class, "after": quality(stay)}
    return {
        "folder": str(plan.folder),
        "clip": plan.clip,
        "setting": {"name": plan.setting.name, "method": as_json(plan.setting.method)},
        "before": quality(lines),
        "presets": found,
    }


def write_list(folder: Path, name: str, lines: Sequence[Line]) -> None:
    """Write the names of images as a list of Pascal VOC's."""
    write_whole(folder / LISTS / f"{name}.txt", "".join(f"{line['name']}\n" for line in lines))


def quality(lines: Sequence[Line]) -> dict[str, Any]:
    """How good masks are by the annotator: mIoU as in Table 1 but of all images, and how many show their object."""
    if not lines:
        return {"images": 0}
    counts = np.array([line["counts"] for line in lines], np.int64)
    ratios = counts[:, 0] / np.maximum(counts[:, 1], 1)
    return {
        "images": len(lines),
        **asdict(score(counts, [line["class_name"] for line in lines])),
        "clear": float(np.mean([line["clear"] for line in lines])),
        "good": float(np.mean(ratios >= GOOD)),
    }
