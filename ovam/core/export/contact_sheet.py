"""A look at a data set: some of its images with their masks, as one picture."""

import heapq
from collections.abc import Mapping
from io import BytesIO
from typing import Final

import cv2
import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from ovam.core.export.entries import Entry, drawn
from ovam.core.label_maps import voc_palette

COLUMNS: Final = 8
MOST: Final = 48
SIDE: Final = 144  # pixels of a tile
GAP: Final = 4
LINE: Final = 18  # pixels of a line of text
TINT: Final = 0.45  # of a class's colour over its pixels


class ContactSheet:
    """Images drawn by name and seed, so that the same ones are shown whatever their order; few are kept in memory."""

    def __init__(self, numbers: Mapping[str, int], seed: int) -> None:
        self.numbers, self.seed = numbers, seed
        self._tiles: list[tuple[float, str, UInt8[np.ndarray, "height width 3"]]] = []  # a heap, the first to go on top

    def add(self, entry: Entry) -> None:
        """Keep an image if it is among those drawn so far."""
        rank = -drawn(entry.stem, self.seed, "contact sheet")
        if len(self._tiles) < MOST:
            heapq.heappush(self._tiles, (rank, entry.stem, tile_of(entry)))
        elif rank > self._tiles[0][0]:
            heapq.heapreplace(self._tiles, (rank, entry.stem, tile_of(entry)))

    def png(self) -> bytes:
        """Draw the images in the order of their names, and the colours of the classes below."""
        tiles = sorted(self._tiles, key=lambda tile: tile[1])
        columns = max(1, min(COLUMNS, len(tiles)))
        rows = -(-len(tiles) // columns)
        width, top = columns * (SIDE + GAP) + GAP, rows * (SIDE + LINE + GAP) + GAP
        lines = legend(self.numbers, width)
        sheet = Image.new("RGB", (width, top + len(lines) * LINE + GAP), "white")
        pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(11)
        for number, (_, name, pixels) in enumerate(tiles):
            left, upper = GAP + number % columns * (SIDE + GAP), GAP + number // columns * (SIDE + LINE + GAP)
            sheet.paste(Image.fromarray(pixels), (left + (SIDE - pixels.shape[1]) // 2, upper + (SIDE - pixels.shape[0]) // 2))
            pen.text((left, upper + SIDE + 2), name[:22], fill="black", font=font)
        for number, line in enumerate(lines):
            for left, label in line:
                upper = top + number * LINE
                pen.rectangle((left, upper + 3, left + 10, upper + 13), fill=colour_of(self.numbers[label]))
                pen.text((left + 15, upper + 1), label, fill="black", font=font)
        buffer = BytesIO()
        sheet.save(buffer, format="PNG")
        return buffer.getvalue()


def tile_of(entry: Entry) -> UInt8[np.ndarray, "height width 3"]:
    """Return an image at most SIDE pixels wide and high, each class tinted and outlined in its colour."""
    with Image.open(BytesIO(entry.image.data)) as opened:
        scale = SIDE / max(opened.size)
        size = (max(1, round(opened.width * scale)), max(1, round(opened.height * scale)))
        image = np.array(opened.convert("RGB").resize(size))
    labels = cv2.resize(entry.labels(), size, interpolation=cv2.INTER_NEAREST)
    tinted = image.copy()
    for number in sorted({*np.unique(labels).tolist()} - {0}):
        inside = (labels == number).astype(np.uint8)
        border = inside > cv2.erode(inside, np.ones((3, 3), np.uint8), borderType=cv2.BORDER_CONSTANT, borderValue=0)
        colour = np.array(colour_of(number))
        tinted[inside > 0] = np.rint((1 - TINT) * image[inside > 0] + TINT * colour)
        tinted[border] = colour
    return tinted


def legend(numbers: Mapping[str, int], width: int) -> list[list[tuple[int, str]]]:
    """Break the names of classes into lines; each name with where it begins, in pixels."""
    font = ImageFont.load_default(11)
    lines: list[list[tuple[int, str]]] = [[]]
    left = GAP
    for label in numbers:
        wide = 15 + round(font.getlength(label)) + 4 * GAP
        if left > GAP and left + wide > width:
            lines.append([])
            left = GAP
        lines[-1].append((left, label))
        left += wide
    return lines


def colour_of(number: int) -> tuple[int, int, int]:
    """Return a class's colour in VOC's palette."""
    red, green, blue = voc_palette()[number].tolist()
    return red, green, blue
