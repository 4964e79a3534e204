"""Labelled sheets of pictures."""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

SIDE = 192  # pixels of a cell
LABEL = 22  # pixels of the line above it
FONT_SIZE = 13


@dataclass(frozen=True)
class Cell:
    """A picture and what is written above it; `heat` colours a grey one."""

    label: str
    picture: NDArray[np.uint8]  # (height, width) or (height, width, 3)
    heat: bool = False

    def drawn(self) -> Image.Image:
        """The picture at the size of a cell."""
        if self.heat:
            coloured = cv2.applyColorMap(self.picture, cv2.COLORMAP_INFERNO)[..., ::-1]
            image = Image.fromarray(np.ascontiguousarray(coloured))
        else:
            image = Image.fromarray(self.picture).convert("RGB")
        way = Image.Resampling.NEAREST if self.picture.ndim == 2 and not self.heat else Image.Resampling.BICUBIC
        return image.resize((SIDE, SIDE), way)


def fitted(label: str, draw: ImageDraw.ImageDraw) -> str:
    """A label, cut to the width of a cell."""
    whole = label
    while draw.textlength(label, font_size=FONT_SIZE) > SIDE:
        label = label[:-1]
    return label if label == whole else f"{label[:-2]} ..."


def sheet(rows: list[list[Cell]], path: Path) -> None:
    """Write rows of cells as one picture, in 256 colours: less than half the bytes."""
    width = max(len(row) for row in rows)
    canvas = Image.new("RGB", (width * (SIDE + 8) + 8, len(rows) * (SIDE + LABEL + 8) + 8), "white")
    draw = ImageDraw.Draw(canvas)
    for down, row in enumerate(rows):
        for across, cell in enumerate(row):
            x, y = 8 + across * (SIDE + 8), 8 + down * (SIDE + LABEL + 8)
            draw.text((x, y + 2), fitted(cell.label, draw), fill="black", font_size=FONT_SIZE)
            canvas.paste(cell.drawn(), (x, y + LABEL))
    path.parent.mkdir(parents=True, exist_ok=True)
    canvas.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
