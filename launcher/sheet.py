"""Labelled pictures in rows, on one sheet."""

from collections.abc import Sequence
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


def sheet(rows: Sequence[Sequence[Cell]], path: Path, titles: Sequence[str] = ()) -> None:
    """Write rows of cells as one PNG, in 256 colours to halve its size; every row below its title, if there are titles."""
    across_most, head = max(len(row) for row in rows), LABEL if titles else 0
    height = SIDE + LABEL + head + 8
    canvas = Image.new("RGB", (across_most * (SIDE + 8) + 8, len(rows) * height + 8), "white")
    draw = ImageDraw.Draw(canvas)
    for down, row in enumerate(rows):
        if titles:
            draw.text((8, 10 + down * height), titles[down], fill="black", font_size=FONT_SIZE + 2)
        for across, cell in enumerate(row):
            x, y = 8 + across * (SIDE + 8), 8 + down * height + head
            draw.text((x, y + 2), fitted(cell.label, draw), fill="black", font_size=FONT_SIZE)
            canvas.paste(cell.drawn(), (x, y + LABEL))
    path.parent.mkdir(parents=True, exist_ok=True)
    canvas.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
