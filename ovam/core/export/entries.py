"""Samples made ready to be written: names that are safe and unique, a split, an image as bytes, numbers for classes."""

import hashlib
import json
import re
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Final, Literal

import numpy as np
from annotated_types import Interval
from jaxtyping import UInt8

from ovam.core.export.samples import Annotation, Encoded, Sample, check_masks, encoded
from ovam.core.label_maps import BACKGROUND, IGNORE, MOST_TARGETS
from ovam.core.settings import Checked, check
from ovam.errors import InvalidArgumentError

LONGEST_NAME: Final = 100  # characters of a file's name, without its suffix
UNSAFE: Final = re.compile(r"[^A-Za-z0-9_-]+")  # no dots: WebDataset takes what follows the first one for the suffix
RESERVED: Final = re.compile(r"(?i:con|prn|aux|nul|com\d|lpt\d)|-.*")  # names of devices on Windows; options of commands
SHARE: Final = Annotated[float, Interval(ge=0, le=1)]
SEED: Final = Annotated[int, Interval(ge=0, lt=1 << 64)]
CLASS_NAME: Final = re.compile(r"[^\x00-\x1f\x7f\u2028\u2029:]{1,100}")


@dataclass(frozen=True)
class Split(Checked):
    """Which images are for validation: drawn by name and seed, so that neither their order nor other images matter."""

    validation: Annotated[float, Interval(ge=0, lt=1)] = 0.1
    """The share of images that become `val`; the others are `train`."""
    seed: Annotated[int, Interval(ge=0)] = 0

    def of(self, name: str) -> Literal["train", "val"]:
        """Return the split of the image of this name."""
        return "val" if drawn(name, self.seed, "split") < self.validation else "train"


@dataclass(frozen=True, eq=False)
class Entry:
    """A sample that can be written."""

    sample: Sample
    stem: str
    """The name of its files, without suffixes."""
    split: Literal["train", "val"]
    image: Encoded
    numbers: Mapping[str, int]

    @property
    def file_name(self) -> str:
        """The name of the image's file."""
        return f"{self.stem}.{self.image.suffix}"

    @property
    def seed(self) -> int | None:
        """The seed as JSON takes it, whichever kind of number it is."""
        return None if self.sample.seed is None else int(self.sample.seed)

    @cached_property
    def annotations(self) -> list[Annotation]:
        """The annotations that mark at least a pixel."""
        return [each for each in self.sample.annotations if each.mask.any()]

    def labels(self, rest: int = BACKGROUND) -> UInt8[np.ndarray, "height width"]:
        """Return the semantic map: each pixel has its class's number, `rest` where there is none, 255 where it is unsure.

        Where masks overlap, the highest score wins (none counts as 0), and of equal scores the first annotation.
        """
        labels = np.full(self.image.size, rest, dtype=np.uint8)
        by_score = sorted(self.sample.annotations, key=lambda each: each.score or 0.0, reverse=True)
        for each in reversed(by_score):
            labels[each.mask] = self.numbers[each.label]
        if self.sample.unsure is not None:
            labels[self.sample.unsure] = IGNORE
        return labels


def drawn(name: str, seed: int, purpose: str) -> float:
    """Return a number in [0, 1) that looks random and depends on nothing but these."""
    digest = hashlib.sha256(f"{purpose}\0{seed}\0{name}".encode(errors="surrogatepass")).digest()
    return int.from_bytes(digest[:6], "big") / (1 << 48)


def numbers_of(classes: Mapping[str, int] | Sequence[str]) -> dict[str, int]:
    """Return the numbers of classes, in their order; names without numbers are counted from 1.

    Raises `InvalidArgumentError` for a number that is given twice or not in 1 to 254, and for names that no form holds.
    """
    named = classes if isinstance(classes, Mapping) else {name: number for number, name in enumerate(classes, start=1)}
    if isinstance(classes, str) or not named or len(named) != len(classes):
        raise InvalidArgumentError("classes", classes, "numbers by name, or a list of names that differ; at least one")
    for name, number in named.items():
        if not isinstance(name, str) or not CLASS_NAME.fullmatch(name) or name != name.strip():
            allowed = "1 to 100 characters, no colons, line breaks or spaces around them"
            raise InvalidArgumentError("a class's name", name, allowed)
        if type(number) is not int or not 1 <= number <= MOST_TARGETS:
            raise InvalidArgumentError(f"classes[{name!r}]", number, f"a whole number from 1 to {MOST_TARGETS}")
    if len(set(named.values())) < len(named):
        raise InvalidArgumentError("classes", dict(named), "a number of its own for each class")
    return dict(sorted(named.items(), key=lambda item: item[1]))


def entries_of(
    samples: Iterable[Sample], numbers: Mapping[str, int], split: Split, left_out: dict[str, int] | None
) -> Iterator[Entry]:
    """Make samples ready one by one.

    Raises `InvalidArgumentError` for a broken image, a mask of another size, and a class without a number. With `left_out`,
    such samples are counted there by what is wrong, and passed over.
    """
    with closing(Names()) as names:
        for sample in samples:
            try:
                image = checked_image(sample, numbers)
            except InvalidArgumentError as error:
                if left_out is None:
                    raise
                what = re.sub(r"\[.*?\]| of .*", "", error.field)
                left_out[what] = left_out.get(what, 0) + 1
                continue
            yield Entry(sample, names.unique(sample.name), split.of(sample.name), image, numbers)


def checked_image(sample: Sample, numbers: Mapping[str, int]) -> Encoded:
    """Return a sample's image as a file, once all of the sample is found to be sound."""
    for number, each in enumerate(sample.annotations):
        if each.label not in numbers:
            raise InvalidArgumentError(f"label of {sample.name!r}", each.label, f"the classes {', '.join(numbers)}")
        if each.score is not None:
            check(f"annotations[{number}].score of {sample.name!r}", each.score, SHARE)
        if each.confidence is not None:
            check(f"annotations[{number}].confidence of {sample.name!r}", each.confidence, SHARE)
    if sample.seed is not None:
        check(f"seed of {sample.name!r}", sample.seed, SEED)
    for name in ("name", "prompt", "metadata"):
        value = getattr(sample, name)
        try:
            json.dumps(dict(value) if name == "metadata" else value, allow_nan=False, ensure_ascii=False).encode()
        except (TypeError, ValueError) as error:  # half of a character, for example, or a number of NumPy's
            raise InvalidArgumentError(f"{name} of {sample.name!r}", value, f"what JSON holds; {error}") from error
    image = encoded(sample)
    check_masks(sample, image.size)
    return image


def safe(name: str) -> str:
    """Return a name as every file system, shell and archive takes it; what had to be changed ends with a digest.

    >>> safe("car-1"), safe("../../a red car.png")
    ('car-1', 'a-red-car-png-7bea7574')
    """
    if 0 < len(name) <= LONGEST_NAME and not UNSAFE.search(name) and not RESERVED.fullmatch(name):
        return name
    digest = hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:8]
    return f"{UNSAFE.sub('-', name).strip('-')[: LONGEST_NAME - 9]}-{digest}".lstrip("-")


class Names:
    """The names given so far, in a database that SQLite keeps on the disk: a million of them take no memory."""

    def __init__(self) -> None:
        # whoever streams an export may go on in another thread
        self._given = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._given.execute("PRAGMA journal_mode = OFF")
        self._given.execute("CREATE TABLE given (name TEXT PRIMARY KEY COLLATE NOCASE, times INTEGER) WITHOUT ROWID")

    def unique(self, name: str) -> str:
        """Return a safe name that was not given before, upper and lower case being the same."""
        plain = safe(name)
        candidate, times = plain, self._times(plain)
        while times > 1:
            candidate = f"{plain}-{times}"
            if self._times(candidate) == 1:
                break
            times = self._times(plain)
        return candidate

    def close(self) -> None:
        """Delete them."""
        self._given.close()

    def _times(self, name: str) -> int:
        """Count this name once more."""
        count = "INSERT INTO given VALUES (?, 1) ON CONFLICT DO UPDATE SET times = times + 1 RETURNING times"
        return int(self._given.execute(count, (name,)).fetchone()[0])
