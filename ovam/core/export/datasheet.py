"""What somebody who gets a data set wants to know of it: how it was made, and what is in it."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from ovam.core.coco import area
from ovam.core.export.contact_sheet import ContactSheet
from ovam.core.export.entries import Entry, Split
from ovam.core.export.files import File, Spool
from ovam.core.export.samples import Annotation

PROMPTS_SHOWN: Final = 20


@dataclass(frozen=True)
class Datasheet:
    """How a data set was made, as far as its images do not say it. Mappings may still grow while the export runs."""

    title: str = "Images with pseudo-masks"
    description: str = ""
    model: str = ""
    model_hash: str = ""
    adapters: Mapping[str, float] = field(default_factory=dict)
    """What changed the model, and how much: LoRAs by their scales, textual inversions with 1."""
    method: Mapping[str, Any] = field(default_factory=dict)
    """Every setting between attention and masks."""
    tokens: Mapping[str, str] = field(default_factory=dict)
    """By class, the word or learned token that was looked for."""
    filters: Mapping[str, Any] = field(default_factory=dict)
    """By which images were chosen, with their settings."""
    rejected: Mapping[str, int] = field(default_factory=dict)
    """How many images were rejected, by reason."""
    licence: str = ""


@dataclass
class Seen:
    """What was written of a class."""

    images: int = 0
    masks: int = 0
    pixels: int = 0


class Records:
    """Collects, while entries pass by, what the files of every form say about them."""

    def __init__(self, numbers: Mapping[str, int], split: Split) -> None:
        self.numbers, self.split = numbers, split
        self.images: Counter[str] = Counter()
        self.classes = {label: Seen() for label in numbers}
        self.left_out: dict[str, int] = {}
        self.prompts: list[str] = []
        self.seeds: tuple[int, int] | None = None
        self.lines = Spool()
        self.sheet = ContactSheet(numbers, split.seed)

    def seen(self, entries: Iterable[Entry]) -> Iterator[Entry]:
        """Pass entries on, and note them."""
        for entry in entries:
            self._note(entry)
            yield entry

    def files(self, about: Datasheet) -> Iterator[File]:
        """Return the files that every form gets; the JSON is the last one."""
        facts = self.facts(about)
        yield File("samples.jsonl", self.lines)
        yield File("contact-sheet.png", self.sheet.png())
        yield File("DATASHEET.md", markdown(facts).encode(errors="replace"))
        yield File("datasheet.json", (json.dumps(facts, indent=2, default=str) + "\n").encode())

    def close(self) -> None:
        """Delete what was collected."""
        self.lines.close()

    def facts(self, about: Datasheet) -> dict[str, Any]:
        """Return everything known, as JSON has it."""
        return {
            **asdict(about),
            "images": dict(self.images),
            "classes": {label: {"number": self.numbers[label], **asdict(seen)} for label, seen in self.classes.items()},
            "left_out": self.left_out,
            "prompts": self.prompts,
            "seeds": None if self.seeds is None else {"lowest": self.seeds[0], "highest": self.seeds[1]},
            "split": asdict(self.split),
        }

    def _note(self, entry: Entry) -> None:
        sample = entry.sample
        self.images[entry.split] += 1
        for label in {each.label for each in entry.annotations}:
            self.classes[label].images += 1
        for each in entry.annotations:
            self.classes[each.label].masks += 1
            self.classes[each.label].pixels += area(each.mask)
        if len(self.prompts) < PROMPTS_SHOWN and sample.prompt and sample.prompt not in self.prompts:
            self.prompts.append(sample.prompt)
        if entry.seed is not None:
            lowest, highest = self.seeds or (entry.seed, entry.seed)
            self.seeds = min(lowest, entry.seed), max(highest, entry.seed)
        self.lines.write(json.dumps(line_of(entry), ensure_ascii=False).encode() + b"\n")
        self.sheet.add(entry)


def line_of(entry: Entry) -> dict[str, Any]:
    """Return what is known of an image beside its pixels."""
    sample = entry.sample
    found = [
        {"label": each.label, "score": score_of(each), "area": area(each.mask)}
        | ({} if each.confidence is None else {"confidence": float(each.confidence)})
        for each in entry.annotations
    ]
    known = {"name": sample.name, "file": entry.file_name, "split": entry.split, "prompt": sample.prompt, "seed": entry.seed}
    return {**known, "annotations": found, "metadata": dict(sample.metadata)}


def score_of(annotation: Annotation) -> float | None:
    """Return a score as JSON takes it, whichever kind of number it is."""
    return None if annotation.score is None else float(annotation.score)


def markdown(facts: Mapping[str, Any]) -> str:
    """Write what is known as a page."""
    images = ", ".join(f"{count} {split}" for split, count in facts["images"].items()) or "none"
    parts = [f"# {facts['title']}", facts["description"], f"Images: {images}.", class_table(facts["classes"])]
    parts += [section("Model", {"model": facts["model"], "hash": facts["model_hash"]})]
    parts += [section(title, facts[title.lower()]) for title in ("Adapters", "Method", "Tokens", "Filters", "Rejected")]
    parts += [section("Left out", facts["left_out"]), section("Seeds", facts["seeds"] or {})]
    prompts = "\n".join(f"- {plain(prompt)}" for prompt in facts["prompts"])
    parts += [f"## Prompts\n\nThe first ones; `samples.jsonl` has all.\n\n{prompts}" if prompts else ""]
    parts += [section("Split", facts["split"]), f"Licence: {facts['licence']}" if facts["licence"] else ""]
    return "\n\n".join(part for part in parts if part) + "\n"


def class_table(classes: Mapping[str, Mapping[str, Any]]) -> str:
    """Write the counts of each class as a table."""
    rows = [f"| {plain(label)} | {' | '.join(str(value) for value in counts.values())} |" for label, counts in classes.items()]
    return "\n".join(["| class | number | images | masks | pixels |", "|---|---|---|---|---|", *rows])


def section(title: str, values: Mapping[str, Any]) -> str:
    """Write values under a heading; nothing where there are none."""
    kept = {key: value for key, value in values.items() if value not in ("", None)}
    lines = [
        f"- {plain(key)}: {plain(value if isinstance(value, str) else json.dumps(value, default=str))}"
        for key, value in kept.items()
    ]
    return "\n".join([f"## {title}", "", *lines]) if lines else ""


def plain(text: str) -> str:
    """Return text as one line that Markdown shows as it is."""
    return "".join(f"\\{letter}" if letter in "\\`*_[]<>|#" else letter for letter in " ".join(text.split()))
