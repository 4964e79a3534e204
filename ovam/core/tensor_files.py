"""Safetensors files read in part: where each tensor lies, and checksums by which every part of it is verified.

A tensor may be several parts, equal in size, along its first dimension: one for each evaluation. Every part has a checksum
(CRC-32) in the file's header, so that a part that was read alone is verified, too.
"""

import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ovam.errors import TraceFormatError

LENGTH_BYTES: Final = 8  # of the number that every safetensors file begins with
LONGEST_HEAD: Final = 1 << 26
KINDS: Final = ("trace", "replay")
"""What a file of this library may hold: the name of its header among the file's metadata."""


@dataclass(frozen=True)
class Place:
    """Where a tensor lies in its file."""

    start: int
    end: int
    dtype: str
    """As safetensors spells it, e.g. `F16`."""
    shape: tuple[int, ...]
    checksums: tuple[int, ...] | None
    """Of its parts; `None` in a file without checksums."""

    def part(self, number: int) -> tuple[int, int]:
        """Return where a part begins and ends."""
        size = (self.end - self.start) // len(self.checksums or (0,))
        return self.start + number * size, self.start + (number + 1) * size


@dataclass(frozen=True)
class Layout:
    """The head of a file: what it says of itself, and where its tensors lie."""

    kind: str
    header: Mapping[str, Any]
    places: Mapping[str, Place]

    def require_sound(self, name: str, data: bytes | memoryview, number: int = 0) -> None:
        """Raise `TraceFormatError`, which names the tensor, unless these are the bytes of a part as they were written."""
        place = self.places[name]
        begin, end = place.part(number)
        if len(data) != end - begin:
            raise TraceFormatError(f"tensor {name!r}, part {number}, is cut short: {len(data)} of {end - begin} bytes")
        if place.checksums is not None and (found := zlib.crc32(data)) != place.checksums[number]:
            expected = place.checksums[number]
            raise TraceFormatError(f"tensor {name!r}, part {number}, is damaged: checksum {found:08x}, expected {expected:08x}")

    def damaged(self, data: bytes) -> list[str]:
        """List what is wrong with the tensors of a whole file, a sentence each."""
        view, found = memoryview(data), []
        for name, place in self.places.items():
            for number in range(len(place.checksums or (0,))):
                begin, end = place.part(number)
                try:
                    self.require_sound(name, view[begin:end], number)
                except TraceFormatError as error:
                    found.append(str(error))
        return found


def head_size(start: bytes) -> int:
    """Return how many bytes a file's head has, from its first eight. Raises `TraceFormatError`."""
    size = int.from_bytes(start[:LENGTH_BYTES], "little")
    if len(start) < LENGTH_BYTES or not 2 <= size <= LONGEST_HEAD:
        raise TraceFormatError(f"{len(start)} bytes that are not the head of a trace")
    return LENGTH_BYTES + size


def layout_of(data: bytes) -> Layout:
    """Read the head of a file, whether or not the rest of the file follows. Raises `TraceFormatError`."""
    size = head_size(data)
    try:
        entries = json.loads(data[LENGTH_BYTES:size])
        metadata = entries.pop("__metadata__")
        kind = next(kind for kind in KINDS if kind in metadata)
        header = json.loads(metadata[kind])
        checksums = header.get("checksums", {})
        places = {name: _place(entry, size, checksums.get(name)) for name, entry in entries.items()}
    except (KeyError, ValueError, TypeError, AttributeError, StopIteration) as error:
        raise TraceFormatError(f"{len(data)} bytes that are not a trace: {error!r}") from error
    return Layout(kind, header, places)


def _place(entry: Mapping[str, Any], offset: int, checksums: Sequence[int] | None) -> Place:
    begin, end = entry["data_offsets"]
    parts = None if checksums is None else tuple(int(each) for each in checksums)
    if not 0 <= begin <= end or (parts is not None and (not parts or (end - begin) % len(parts))):
        raise ValueError(begin, end, parts)
    return Place(offset + begin, offset + end, entry["dtype"], tuple(entry["shape"]), parts)


def checksums_of(parts: Iterable[bytes | memoryview]) -> list[int]:
    """Return the checksum of each part."""
    return [zlib.crc32(part) for part in parts]
