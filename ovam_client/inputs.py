"""What programs say, as requests take it: targets, annotated examples, jobs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

import numpy as np
from PIL import Image

from ovam_client.answers import TokenCard, TokenListing
from ovam_client.pictures import MaskLike, PictureLike, file_of, mask_of
from ovam_client.requests import Target

TargetLike = str | Target | TokenCard | TokenListing
"""A word, a target with its options, or a learned token."""


class HasId(Protocol):
    """A job, of either client."""

    @property
    def id(self) -> str:
        """By which the service knows it."""
        ...


JobLike = str | HasId
"""A job, or its id."""


StartLike = PictureLike | HasId | Mapping[str, Any]
"""A picture to start from: a file, an array, a job (its first image), or `{"job_id": ..., "image": 1}`."""


@dataclass(frozen=True)
class Example:
    """An annotated image, to learn a token from: an image of a job with one of `mask`, `masks` or `labels`."""

    job: JobLike
    mask: MaskLike | None = None
    """Of the only class."""
    masks: Mapping[str, MaskLike] | None = None
    """By class."""
    labels: PictureLike | None = None
    """A map of labels, as an 8-bit grey or indexed picture: 0 the background, k the k-th class, 255 does not count."""
    image: int = 0
    """Which image of the job."""

    def body(self) -> dict[str, Any]:
        """The example as JSON. Raises ValueError unless it is annotated in one way."""
        said = {
            "mask": None if self.mask is None else mask_of(self.mask),
            "masks": None if self.masks is None else {name: mask_of(mask) for name, mask in self.masks.items()},
            "labels": None if self.labels is None else file_of(self.labels),
        }
        given = {name: value for name, value in said.items() if value is not None}
        if len(given) != 1:
            raise ValueError(f"an example has {', '.join(given) or 'no annotation'}; allowed: one of {', '.join(said)}")
        return {"job_id": id_of(self.job), "image": self.image, **given}


def id_of(job: JobLike) -> str:
    """The id of a job."""
    return job if isinstance(job, str) else job.id


def target_of(target: TargetLike) -> Mapping[str, Any]:
    """A target as JSON."""
    match target:
        case str():
            return {"word": target}
        case TokenCard() | TokenListing():
            return {"token": f"{target.name}@{target.version}"}
        case _:
            return dict(target)


def attribution(job: JobLike, targets: Sequence[TargetLike], image: int, options: Mapping[str, Any]) -> dict[str, Any]:
    """The body of a request for targets."""
    return {"job_id": id_of(job), "image": image, "targets": [], **options} | looking_for(targets, options)


def generation(
    prompt: str,
    targets: Sequence[TargetLike],
    options: Mapping[str, Any],
    image: StartLike | None = None,
    mask: MaskLike | None = None,
) -> dict[str, Any]:
    """The body of a request for images."""
    said = {
        "image": None if image is None else start_of(image),
        "mask": None if mask is None else mask_of(mask),
    }
    start = {name: value for name, value in said.items() if value is not None}
    for name in ("control", "image_prompt"):
        if options.get(name):
            start[name] = {**options[name], "image": start_of(options[name]["image"])}
    return {"prompt": prompt, **options, **start} | looking_for(targets, options)


def start_of(image: StartLike) -> str | dict[str, Any]:
    """A picture to start from as JSON."""
    match image:
        case Mapping():
            return dict(image)
        case str() | Path() | bytes() | Image.Image() | np.ndarray():
            return file_of(image)
        case _:
            return {"job_id": image.id}


def looking_for(targets: Sequence[TargetLike], options: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a request that says what to look for, if there is anything."""
    said = {"targets": targets, "distractors": options.get("distractors", ())}
    return {name: [target_of(each) for each in some] for name, some in said.items() if some}


def lesson(name: str, examples: Sequence[Example], classes: Sequence[str] | None, options: Mapping[str, Any]) -> dict[str, Any]:
    """The body of a request for a token. Its classes are those of the masks by class, else the token's name alone."""
    by_class = [dict.fromkeys(example.masks) for example in examples if example.masks is not None]
    known = list(classes or [each for names in by_class for each in names] or [name])
    return {"name": name, "classes": [*dict.fromkeys(known)], "examples": [example.body() for example in examples], **options}


def escaped(name: str) -> str:
    """A name as a part of a path."""
    return quote(name, safe="@")


def file_path(url: str) -> str:
    """The path of a file below the address of the service, whatever path a proxy shows that under."""
    return url[max(url.find("/v1/"), 0) :]
