"""Data sets that somebody else annotated, read from a folder: a line of JSON for every image, and a mask for each.

`images.jsonl` has in every line what `Annotated` says; masks are PNGs beside it, above 127 inside. Images are made again from
prompt and seed.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated as Typed
from typing import Literal

import numpy as np
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from experiments.evaluation.datasets import Case
from experiments.evaluation.subjects import CLEAR
from ovam.core.words import spans_of

LIST = "images.jsonl"
SD_GUIDANCE_SCALE = 7.5  # what Stable Diffusion's images are made with unless a line says otherwise
SetName = Literal["tokens", "voc-sim-tuning", "coco-cap-tuning", "voc-sim", "coco-cap"]
Text = Typed[str, Field(min_length=1)]


class BadDataSetError(Exception):
    """A folder that is no data set; the message says where and why."""


class Annotated(BaseModel):
    """An image and what is annotated in it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: SetName = Field(alias="set")
    class_name: Text = Field(alias="class")
    word: str = Field("", description="that the class is looked for by; the class itself without it")
    prompt: Text
    seed: int = Field(ge=0)
    mask: Text = Field(description="path of a PNG, from the folder")
    steps: int = Field(30, ge=1)
    guidance_scale: float = Field(SD_GUIDANCE_SCALE, ge=0)


@dataclass(frozen=True)
class FolderSet:
    """The images of one set, class by class."""

    by_class: Mapping[str, tuple[Case, ...]]

    @property
    def images(self) -> int:
        """Of the class that has most."""
        return max(len(cases) for cases in self.by_class.values())

    def of_class(self, class_name: str) -> tuple[Case, ...]:
        """A class's images."""
        return self.by_class.get(class_name, ())

    def cases(self, images: int, classes: Sequence[str]) -> tuple[Case, ...]:
        """The first `images` of every class, classes in turn."""
        each = {name: self.of_class(name)[:images] for name in classes}
        return tuple(cases[number] for number in range(images) for cases in each.values() if number < len(cases))


def read(folder: Path) -> dict[str, FolderSet]:
    """The sets of a folder. BadDataSetError when a line or a mask is unusable, or a kind of set is missing."""
    path = folder / LIST
    if not path.is_file():
        raise BadDataSetError(f"{path} is not there; a data set has a line of JSON for every image in it")
    found: dict[str, dict[str, list[Case]]] = {}
    for number, text in enumerate(path.read_text().splitlines(), start=1):
        try:
            line = Annotated.model_validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            raise BadDataSetError(f"{path}, line {number}, {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
        if not (folder / line.mask).is_file():
            raise BadDataSetError(f"{path}, line {number}: the mask {line.mask} is not there")
        of_class = found.setdefault(line.dataset, {}).setdefault(line.class_name, [])
        of_class.append(case_of(line, folder, len(of_class)))
    sets = {name: FolderSet({key: tuple(cases) for key, cases in by_class.items()}) for name, by_class in found.items()}
    check_complete(path, sets)
    return sets


def case_of(line: Annotated, folder: Path, number: int) -> Case:
    """An image of the folder, the `number`-th of its class in its set."""
    word = line.word or line.class_name
    return Case(
        dataset=line.dataset,
        group="generated",
        class_name=line.class_name,
        number=number,
        prompt=line.prompt,
        seed=line.seed,
        steps=line.steps,
        guidance_scale=line.guidance_scale,
        word=word,
        mention=word if spans_of(line.prompt, word) else "",
        mask=str(folder / line.mask),
    )


def check_complete(path: Path, sets: Mapping[str, FolderSet]) -> None:
    """Raise BadDataSetError unless tokens can be learned, thresholds chosen and something reported, from seeds apart."""
    for names in (("tokens",), ("voc-sim-tuning", "coco-cap-tuning"), ("voc-sim", "coco-cap")):
        if not sets.keys() & set(names):
            raise BadDataSetError(f"{path} has no image of the set {' or '.join(names)}")
    without = sorted(set(classes(sets)) - set(sets["tokens"].by_class))
    if without:
        raise BadDataSetError(f"{path} has no image of the set tokens for {', '.join(without)}")
    unclear = [name for name, count in clear_examples(sets).items() if not count]
    if unclear:
        part = f"over {100 * CLEAR:.0f} % and less than all of it"
        raise BadDataSetError(f"{path}: no image of the set tokens is annotated with {part} for {', '.join(sorted(unclear))}")
    purposes: dict[tuple[str, int], str] = {}
    for name, one in sets.items():
        purpose = "tuning" if name.endswith("-tuning") else "tokens" if name == "tokens" else "reporting"
        for case in (case for cases in one.by_class.values() for case in cases):
            other = purposes.setdefault((case.prompt, case.seed), purpose)
            if other != purpose:
                raise BadDataSetError(f"{path}: the image of seed {case.seed}, {case.prompt!r}, is for {other} and for {purpose}")


def classes(sets: Mapping[str, FolderSet]) -> tuple[str, ...]:
    """All classes."""
    return tuple(dict.fromkeys(name for one in sets.values() for name in one.by_class))


def words(sets: Mapping[str, FolderSet]) -> dict[str, str]:
    """The word of every class, as its first image to learn from has it."""
    return {name: sets["tokens"].of_class(name)[0].word for name in classes(sets)}


def clear_examples(sets: Mapping[str, FolderSet]) -> dict[str, int]:
    """From how many images every class can be learned."""
    return {name: sum(is_clear(case) for case in sets["tokens"].of_class(name)) for name in classes(sets)}


def is_clear(case: Case) -> bool:
    """Whether an image has an object to learn from, by its mask."""
    with Image.open(case.mask) as file:
        covered = (np.array(file.convert("L")) > 127).mean()
    return bool(CLEAR < covered < 1)


def measured_cases(sets: Mapping[str, FolderSet]) -> list[Case]:
    """The images that nothing is learned from."""
    return [case for name, one in sets.items() if name != "tokens" for cases in one.by_class.values() for case in cases]


def contents_hash(folder: Path) -> str:
    """SHA-256 over the list and the masks."""
    digest = hashlib.sha256((folder / LIST).read_bytes())
    for path in sorted(folder.rglob("*.png")):
        digest.update(path.read_bytes())
    return digest.hexdigest()
