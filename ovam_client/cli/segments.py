"""Targets and segments on the command line."""

import re
from pathlib import Path
from typing import Any

from ovam_client.answers import Artifact
from ovam_client.cli.session import note, slug, write
from ovam_client.sync import Client, Segment

VERSION = re.compile(r"[a-z0-9][a-z0-9._-]*@[1-9]\d*")
FILES = ("mask", "heatmap", "heatmap_npy", "overlay")


def target(word: str, prompt: str | None = None) -> Any:  # noqa: ANN401  # a target
    """A target of the command line."""
    if VERSION.fullmatch(word):
        return {"token": word}
    return {"word": word} if prompt is None else {"word": word, "prompt": prompt}


def save(client: Client, segments: list[Segment], folder: Path) -> None:
    """Write the files of segments."""
    taken: set[str] = set()
    for segment in segments:
        name = slug(segment.label, taken)
        for kind in FILES:
            file = getattr(segment.data, kind)
            write(folder / f"{name}-{kind.removesuffix('_npy')}{Path(file.name).suffix}", client.download(file))
        for file in more_files(segment):
            stem, _, suffix = file.name.partition(".")
            write(folder / f"{name}-{stem.partition('-')[0]}.{suffix}", client.download(file))
    if not segments:
        note("there is nothing to write")


def more_files(segment: Segment) -> list[Artifact]:
    """The files of what was compared."""
    difference, causal = segment.data.difference, segment.data.causal
    return [
        *([difference.npy, difference.picture] if difference else ()),
        *([causal.image, causal.change] if causal else ()),
    ]


def line(segment: Segment) -> str:
    """A segment in a line."""
    x, y, width, height = segment.bbox
    data = segment.data
    parts = [segment.label, f"score {segment.score:.2f}", f"area {segment.area}", f"box {x},{y},{width},{height}"]
    if segment.leakage is not None:
        parts.append(f"leakage {segment.leakage:.2f}")
    if data.confidence is not None:
        parts.append(f"confidence {data.confidence.value:.2f}{'' if data.confidence.calibrated else ' (not calibrated)'}")
    if data.difference is not None:
        signed = (shown(data.difference.inside, "+.4f"), shown(data.difference.outside, "+.4f"))
        parts.append(f"difference {signed[0]} inside, {signed[1]} outside, masks' IoU {data.difference.iou:.2f}")
    if data.causal is not None:
        parts.append(f"without it {shown(data.causal.inside, '.3f')} changes inside, {shown(data.causal.outside, '.3f')} outside")
    return "\t".join(parts)


def shown(number: float | None, form: str) -> str:
    """A number, or a dash where there is none."""
    return "-" if number is None else format(number, form)
