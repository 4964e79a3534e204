"""Reading a part of a stored trace: only the blocks and evaluations that a question wants, by byte ranges."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Final

import torch
from torch import Tensor

from ovam.core.selection import Blocks, Positions, select_blocks, select_positions
from ovam.core.tensor_files import Layout, Place
from ovam.errors import TraceFormatError
from ovam.tracing.model import Pipeline
from ovam.tracing.trace import Trace
from ovam.tracing.trace_files import FORMAT, size_of

DTYPES: Final = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I8": torch.int8,
}

Ranges = list[tuple[int, int]]


@dataclass(frozen=True)
class StoredPart:
    """Some blocks and evaluations of a trace's file.

    >>> data = trace.to_bytes()
    >>> part = StoredPart.of(layout_of(data[: head_size(data)]), blocks="up", evaluations=[0])
    >>> some = part.trace([data[start:end] for start, end in part.ranges()], pipeline)
    >>> some.nbytes < trace.nbytes, len(some.evaluations)
    (True, 3)
    """

    layout: Layout
    blocks: tuple[str, ...]
    positions: tuple[int, ...]
    self_attention: bool

    @classmethod
    def of(
        cls, layout: Layout, *, blocks: Blocks = "all", evaluations: Positions | slice = "all", self_attention: bool = False
    ) -> "StoredPart":
        """Select a part. Raises `SelectionError`, and `TraceFormatError` for the head of no trace."""
        if layout.kind != "trace" or layout.header.get("format") != FORMAT:
            raise TraceFormatError(f"a {layout.kind} of format {layout.header.get('format')!r}; read in part: {FORMAT!r}")
        try:
            header = layout.header
            grids = {entry["name"]: size_of(entry["grid"]) for entry in header["blocks"]}
            positions = select_positions(evaluations, len(header["evaluations"]), "evaluations")
            pixels = bool(header["self_attention"])
        except (KeyError, TypeError) as error:
            raise TraceFormatError(f"the trace's header lacks or garbles a field: {error!r}") from error
        return cls(layout, select_blocks(blocks, grids), positions, self_attention and pixels)

    def require_whole(self, size: int) -> None:
        """Raise `TraceFormatError` unless a file of `size` bytes holds all that its head names."""
        end = max((place.end for place in self.layout.places.values()), default=0)
        if end != size:
            raise TraceFormatError(f"the trace's file has {size} bytes, and by its head {end}: it is cut short, or garbled")

    def ranges(self) -> Ranges:
        """List the bytes [start, end) of the file that hold the part."""
        return [place.part(number) for _, place, number in self._parts()]

    def trace(self, parts: Sequence[bytes], pipeline: Pipeline) -> Trace:
        """Join the bytes of `ranges` to a trace. Raises what `Trace.from_bytes` raises."""
        rows: dict[str, list[Tensor]] = {}
        for data, (name, place, number) in zip(parts, self._parts(), strict=True):
            self.layout.require_sound(name, data, number)
            rows.setdefault(name, []).append(_tensor(data, place))
        tensors = {name: torch.cat(some) if self._by_row(name) else some[0] for name, some in rows.items()}
        count = len(self.layout.header["evaluations"])
        header = {
            **self.layout.header,
            "blocks": [entry for entry in self.layout.header["blocks"] if entry["name"] in self.blocks],
            "self_attention": self.layout.header["self_attention"] if self.self_attention else [],
            "read": len(self.positions),
        }
        return Trace.joined(header, tensors, pipeline, None if len(self.positions) == count else self.positions)

    def _parts(self) -> Iterator[tuple[str, Place, int]]:
        """Yield the parts of tensors that are to be read, in the order of the file."""
        places = sorted(self.layout.places.items(), key=lambda one: one[1].start)
        pixels = {entry["name"] for entry in self.layout.header["self_attention"]} if self.self_attention else set[str]()
        for name, place in places:
            owner = next((each for each in (*self.blocks, *pixels) if name == each or name.startswith(f"{each}.")), None)
            if owner is not None:
                for number in self.positions if self._by_row(name) else (0,):
                    yield name, place, number

    def _by_row(self, name: str) -> bool:
        """Whether a tensor has a part for every evaluation."""
        return not name.endswith((".fingerprint", ".to_k.weight", ".to_k.bias"))


def _tensor(data: bytes, place: Place) -> Tensor:
    """Return one part of a tensor."""
    if place.dtype not in DTYPES:
        raise TraceFormatError(f"a tensor is of type {place.dtype!r}; allowed: {', '.join(DTYPES)}")
    parts = len(place.checksums or (0,))
    shape = (place.shape[0] // parts, *place.shape[1:]) if place.shape else ()
    flat = torch.frombuffer(bytearray(data), dtype=DTYPES[place.dtype])
    if flat.numel() != prod(shape):
        raise TraceFormatError(f"{len(data)} bytes do not hold a tensor of {shape}")
    return flat.view(shape)
