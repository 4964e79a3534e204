"""What both clients do with data sets by themselves: bodies of requests, and archives on their way to the disk."""

import json
import os
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal, TypedDict
from uuid import uuid4

from ovam_client import answers
from ovam_client.errors import UnexpectedAnswerError
from ovam_client.events import FINAL
from ovam_client.flows import Call
from ovam_client.requests import DatasetClass

PromptLike = str | Mapping[str, Any]
"""A prompt, or an object with `prompt` and if you like `custom_id`, `classes` and `seed`."""


class ExportOptions(TypedDict, total=False):
    """How a data set is exported."""

    split: float
    """The share of images that are for validation; 0.1 without it."""
    split_seed: int
    """Which ones."""
    rest: Literal[0, 255]
    """Label of what is no class, in forms that have labels: background (0, the default), or unsure."""
    outlines: Literal["rle", "polygons"]
    """Masks of `coco` (by default `rle`) and `labelme` (`polygons`)."""


LAST = "datasheet.json"  # of an archive: where it is, the archive is whole


class DatasetView:
    """A data set as it was when it was last asked for."""

    record: answers.DatasetRecord

    @property
    def id(self) -> str:
        """By which the service knows it, and this client finds it again: `client.datasets.get(id)`."""
        return self.record.id

    @property
    def state(self) -> str:
        """`queued`, `running`, `paused`, `succeeded`, `failed` or `canceled`."""
        return str(self.record.state)

    @property
    def final(self) -> bool:
        """Whether it has ended."""
        return self.state in FINAL

    @property
    def counts(self) -> answers.Counts:
        """How many images are done, accepted, rejected and why, failed."""
        return self.record.counts

    def __repr__(self) -> str:
        """Id, state and how far it was."""
        return f"<data set {self.id}: {self.state}, {self.counts.done} of {self.counts.entries} images>"


def dataset_of(
    classes: Sequence[str | DatasetClass], prompts: Sequence[PromptLike] | str | None, options: Mapping[str, Any], key: str | None
) -> Call:
    """The request for a data set. An idempotency key makes it one data set, however often it has to be sent."""
    body = {"classes": [{"name": each} if isinstance(each, str) else each for each in classes], **options}
    if isinstance(prompts, str):
        body["jsonl"] = prompts
    elif prompts is not None and all(isinstance(each, str) for each in prompts):
        body["prompts"] = [*prompts]
    elif prompts is not None:
        lines = [{"prompt": each} if isinstance(each, str) else dict(each) for each in prompts]
        body["jsonl"] = "\n".join(json.dumps(line, ensure_ascii=False) for line in lines)
    return Call("POST", "/v1/datasets", json=body, headers={"Idempotency-Key": key or uuid4().hex})


def exported(form: str, options: ExportOptions) -> dict[str, Any]:
    """The parameters of an export."""
    return {"format": form, **options}


@contextmanager
def exporting(target: Path) -> Iterator[tuple[IO[bytes], Path]]:
    """Yield a file for an archive, beside its target; it becomes the target whole, or not at all. Raises FileExistsError."""
    if target.suffix != ".tar" and target.exists() and any(target.iterdir()):
        raise FileExistsError(f"{target} is there and not empty; allowed: a new folder, or a path that ends with .tar")
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with beside.open("wb") as file:
            yield file, beside
    finally:
        beside.unlink(missing_ok=True)


def unpacked(archive: Path, target: Path) -> None:
    """Make an archive that came the target, or unpack it there. Raises UnexpectedAnswerError for one that is not whole."""
    try:
        last = max(enumerate(member.name for _, member in members(archive)), default=(0, ""))[1]
        if last != LAST:
            raise UnexpectedAnswerError(f"the archive ends before {LAST}: it is not whole")
        if target.suffix == ".tar":
            archive.replace(target)
        else:
            for tar, member in members(archive):
                tar.extract(member, target, filter="data")
    except tarfile.TarError as error:
        raise UnexpectedAnswerError(f"the archive cannot be read: {error}") from error


def members(archive: Path) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
    """What is in an archive, one after the other: a million names are not kept in memory."""
    with tarfile.open(archive) as tar:
        for member in tar:
            yield tar, member
            tar.members = []  # type: ignore[attr-defined]
