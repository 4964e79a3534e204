"""Brush masks as Label Studio writes them: run lengths of RGBA bytes, packed bit by bit (the format of `@thi.ng/rle-pack`).

A stream of bits, the highest first: how many words there are (32 bits), their width less 1 (5), and four widths of lengths less
1 (4 each). Then, until all words are there: whether one word is repeated (1), which width the length has (2), the length less 1,
and the word, or as many words as the length says.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
from jaxtyping import Bool

from contracts.schema.errors import Code, ServiceError
from service.images import MAX_PIXELS

WORD = 8  # bits
CHANNELS = 4
LENGTHS = (3, 4, 8, 16)  # bits; what Label Studio's own tools write
LONGEST = 1 << LENGTHS[-1]
OPAQUE = 128  # the least alpha that is painted


def encoded(mask: Bool[np.ndarray, "height width"]) -> list[int]:
    """The bytes of a mask: painted pixels are 255 in every channel, the others 0."""
    flat = mask.ravel()
    edges = [0, *(np.flatnonzero(flat[1:] != flat[:-1]) + 1).tolist(), flat.size]
    bits = [f"{flat.size * CHANNELS:032b}{WORD - 1:05b}", *(f"{width - 1:04b}" for width in LENGTHS)]
    for start, end in pairwise(edges):
        word = f"{255 if flat[start] else 0:08b}"
        bits += (f"1{which:02b}{length - 1:0{LENGTHS[which]}b}{word}" for which, length in runs(CHANNELS * (end - start)))
    text = "".join(bits)
    size = -(-len(text) // 8)
    return [*int(text.ljust(8 * size, "0"), 2).to_bytes(size)]


def runs(length: int) -> Iterator[tuple[int, int]]:
    """The pieces of a run that the widest length can hold, each with the narrowest width for it."""
    while length:
        piece = min(length, LONGEST)
        yield next(which for which, width in enumerate(LENGTHS) if piece <= 1 << width), piece
        length -= piece


class Bits:
    """A stream of bits."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def read(self, size: int) -> int:
        """The next number. Raises EOFError."""
        last = self.at + size
        if last > 8 * len(self.data):
            raise EOFError
        number = int.from_bytes(self.data[self.at >> 3 : (last + 7) >> 3]) >> (-last % 8)
        self.at = last
        return number & ((1 << size) - 1)

    def words(self, count: int) -> np.ndarray:
        """The next words. Raises EOFError."""
        last = self.at + WORD * count
        if last > 8 * len(self.data):
            raise EOFError
        part = np.frombuffer(self.data[self.at >> 3 : (last + 7) >> 3], np.uint8)
        bits = np.unpackbits(part)[self.at % 8 :][: WORD * count]
        self.at = last
        return np.packbits(bits)


def decoded(data: bytes, size: tuple[int, int]) -> Bool[np.ndarray, "height width"]:
    """The mask of (height, width) in brush data: where it is rather opaque. ServiceError (mask-unreadable) for what is none."""
    height, width = size
    bits, count = Bits(data), height * width * CHANNELS
    try:
        found, word = bits.read(32), bits.read(5) + 1
        if not 0 < height * width <= MAX_PIXELS or (found, word) != (count, WORD):
            raise unreadable(f"holds {found} words of {word} bits for {width} x {height} pixels")
        widths = [bits.read(4) + 1 for _ in LENGTHS]
        words, at = np.empty(count, np.uint8), 0
        while at < count:
            repeated = bits.read(1)
            length = bits.read(widths[bits.read(2)]) + 1
            if at + length > count:
                raise unreadable("holds more pixels than the image")
            words[at : at + length] = bits.read(WORD) if repeated else bits.words(length)
            at += length
    except EOFError as error:
        raise unreadable("ends too early") from error
    return words.reshape(height, width, CHANNELS)[:, :, 3] >= OPAQUE


def unreadable(what: str) -> ServiceError:
    """The problem of brush data that is none."""
    return ServiceError(Code.MASK_UNREADABLE, f"the brush mask's `rle` {what}", field="annotation.result")


def bytes_of(numbers: Sequence[int]) -> bytes:
    """What came as a list of numbers. ServiceError (mask-unreadable) for others than bytes."""
    try:
        return bytes(numbers)
    except (TypeError, ValueError) as error:
        raise unreadable("has other values than 0 to 255") from error
