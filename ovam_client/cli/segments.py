"""Targets and segments on the command line."""

import re
from pathlib import Path
from typing import Any

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
    if not segments:
        note("there is nothing to write")


def line(segment: Segment) -> str:
    """A segment in a line."""
    x, y, width, height = segment.bbox
    leakage = "" if segment.leakage is None else f"\tleakage {segment.leakage:.2f}"
    return f"{segment.label}\tscore {segment.score:.2f}\tarea {segment.area}\tbox {x},{y},{width},{height}{leakage}"
