"""Labelled pictures in rows, on one sheet."""

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
    """A picture and the label above it; `heat` colours a grey picture."""

    label: str
    picture: NDArray[np.uint8]  # (height, width) or (height, width, 3)
    heat: bool = False

    def drawn(self) -> Image.Image:
        """Return the picture at the size of a cell."""
        grey = self.picture.shape[2:] == ()
        if self.heat:
            coloured = cv2.applyColorMap(self.picture, cv2.COLORMAP_INFERNO)[..., ::-1]
            image = Image.fromarray(np.ascontiguousarray(coloured))
        else:
            image = Image.fromarray(self.picture).convert("RGB")
        way = Image.Resampling.NEAREST if grey and not self.heat else Image.Resampling.BICUBIC
        return image.resize((SIDE, SIDE), way)


def fitted(label: str, draw: ImageDraw.ImageDraw) -> str:
    """Cut a label to the width of a cell."""
    whole = label
    while draw.textlength(label, font_size=FONT_SIZE) > SIDE:
        label = label[:-1]
    return label if label == whole else f"{label[:-2]} ..."


def sheet(rows: list[list[Cell]], path: Path) -> None:
    """Write rows of cells as one PNG, in 256 colours to halve its size."""
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
