"""The prompts of a data set, line by line: what is wrong is reported with the line, several lines at once."""

from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count

from pydantic import ValidationError

from contracts.schema.attribute import MAX_TARGETS
from contracts.schema.datasets import DatasetPrompt, DatasetRequest, PromptLine
from contracts.schema.errors import Code, FieldError, ServiceError
from contracts.schema.fields import suggestion
from contracts.schema.filters import PLACEHOLDER
from ovam.core.words import Characters, alike, overlaps, spans_of
from ovam.errors import shown
from service.invalid import field_error
from service.invalid import shown as repeated
from service.refusals import InvalidLinesError

MOST_ERRORS = 20
BYTE_ORDER_MARK = "\ufeff"


@dataclass(frozen=True)
class Place:
    """Where a prompt stands in a request."""

    field: str
    number: int
    what: str = "line"

    @property
    def label(self) -> str:
        """As a sentence begins with it."""
        return f"{self.what} {self.number}"


@dataclass
class Report:
    """What is wrong."""

    errors: list[tuple[Code, FieldError]] = field(default_factory=list)

    def add(self, place: Place, name: str, detail: str, value: object = None, code: Code = Code.INVALID_REQUEST) -> None:
        """Note one thing; raises what was noted once it is enough."""
        where = f"{place.field}.{name}" if name and place.field.startswith("jsonl") else place.field
        found = FieldError(field=where, detail=f"{place.label}: {detail}", value=repeated(value))
        self.errors.append((code, found))
        if len(self.errors) == MOST_ERRORS:
            raise InvalidLinesError(self.errors, more=True)


def checked(request: DatasetRequest, fit: Callable[[str], object]) -> list[DatasetPrompt]:
    """All prompts, filled in. InvalidLinesError with what is wrong, the first twenty things.

    `fit` raises ServiceError for a prompt that its encoder does not take.
    """
    report, given, seen = Report(), list[PromptLine](), dict[str, Place]()
    names = {alike(each.name): each.name for each in request.classes}
    for place, line in lines(request, report):
        before = len(report.errors)
        try:
            fit(line.prompt)
        except ServiceError as error:
            report.add(place, "prompt", error.detail, line.prompt, error.code)
        classes = classes_of(line, names, place, report)
        first = place if line.custom_id is None else seen.setdefault(line.custom_id.casefold(), place)
        if first is not place:
            report.add(place, "custom_id", f"`custom_id` {line.custom_id!r} is that of {first.label} already", line.custom_id)
        if len(report.errors) == before:
            given.append(line.model_copy(update={"classes": classes}))
    if not report.errors and not given:
        report.add(Place("jsonl", 1), "", "there is no prompt in any line")
    if report.errors:
        raise InvalidLinesError(report.errors, more=False)
    found = [numbered(line, number, seen) for number, line in enumerate(given)]
    if request.attribution.softmax == "together":
        check_competition(found, len(request.attribution.distractors))
    return found


def numbered(line: PromptLine, number: int, taken: Container[str]) -> DatasetPrompt:
    """A prompt with an id of its own: the one that it has, or its number, written longer where another has that."""
    own = line.custom_id or next(each for each in (f"{number:0{digits}d}" for digits in count(6)) if each not in taken)
    return DatasetPrompt(prompt=line.prompt, custom_id=own, classes=line.classes or [], seed=line.seed)


def lines(request: DatasetRequest, report: Report) -> Iterator[tuple[Place, PromptLine]]:
    """The prompts as they came, and where."""
    if request.jsonl is not None:
        yield from lines_of_json(request.jsonl, report)
    for number, prompt in enumerate(request.prompts or ()):
        yield Place(f"prompts.{number}", number + 1, "prompt"), PromptLine(prompt=prompt)
    for number, template in enumerate(request.templates or ()):
        for each in request.classes:
            prompt = template.replace(PLACEHOLDER, each.name)
            yield Place(f"templates.{number}", number + 1, "template"), PromptLine(prompt=prompt, classes=[each.name])


def lines_of_json(text: str, report: Report) -> Iterator[tuple[Place, PromptLine]]:
    """The lines that hold something; those that are not as they should be are reported."""
    for number, line in enumerate(text.removeprefix(BYTE_ORDER_MARK).split("\n"), 1):
        if not line.strip():
            continue
        place = Place(f"jsonl.{number}", number)
        try:
            yield place, PromptLine.model_validate_json(line)
        except ValidationError as error:
            for each in error.errors(include_url=False):
                name = ".".join(map(str, each["loc"]))
                plain = field_error({**each, "loc": ("body",)}, None).detail
                report.add(place, name, f"`{name}`: {plain}" if name else plain, each["input"] if name else line)


def classes_of(line: PromptLine, names: Mapping[str, str], place: Place, report: Report) -> list[str]:
    """The classes that an image of a prompt is searched for."""
    if line.classes is None:
        found = classes_in(line.prompt, names) or ([*names.values()] if len(names) == 1 else [])
        if not found:
            detail = f"the prompt {shown(line.prompt)} names none of the classes; allowed: prompts with the name of a class, "
            report.add(place, "classes", f"{detail}or lines of `jsonl` with `classes`")
    else:
        found = [names.get(alike(each), "") for each in line.classes]
        for given, known in zip(line.classes, found, strict=True):
            if not known:
                close = suggestion(given, [*names.values()])
                detail = f"there is no class {given!r}; allowed: {', '.join(names.values())}{close}"
                report.add(place, "classes", detail[:1000], given, Code.UNKNOWN_CLASS)
    if len(set(found)) > MAX_TARGETS:
        report.add(place, "classes", f"the image is searched for {len(set(found))} classes; allowed: {MAX_TARGETS}")
    return list(dict.fromkeys(found))


def classes_in(prompt: str, names: Mapping[str, str]) -> list[str]:
    """The classes that a prompt names, in their order, as attribution finds words; of two that overlap the longer one."""
    text, found = alike(prompt), list[tuple[Characters, str]]()
    there = [name for folded, name in names.items() if folded.split()[0] in text]  # most are not, and this is quick
    spans = [(span, name) for name in there for span in spans_of(prompt, name)]
    for span, name in sorted(spans, key=lambda each: (each[0][0] - each[0][1], each[0])):
        if not any(overlaps(span, other) for other, _ in found):
            found.append((span, name))
    return [name for _, name in sorted(found)]


def check_competition(prompts: list[DatasetPrompt], distractors: int) -> None:
    """Raise settings-contradict for a prompt whose only class has nothing to compete with."""
    for number, each in enumerate(prompts, 1):
        if len(each.classes) + distractors == 1:
            detail = f"`softmax` is 'together', and class {each.classes[0]!r} of prompt {number} has nothing to compete with; "
            detail += "allowed: 'each', or further classes or `distractors`"
            raise ServiceError(Code.SETTINGS_CONTRADICT, detail, field="attribution.softmax", value="together")
