"""Artifacts over HTTP: entity tags, ranges, and bytes in pieces."""

import re
from collections.abc import AsyncIterator, Mapping
from types import MappingProxyType

from fastapi import Response
from fastapi.responses import StreamingResponse

from contracts.schema.errors import Code, ServiceError
from contracts.schema.fields import Artifact
from contracts.state.store import ArtifactStore

PIECE = 2**20  # bytes read at once, and held for a client that reads slowly
FOREVER = "private, max-age=31536000, immutable"
RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)  # no artifact has more bytes


class UnsatisfiableError(ServiceError):
    """A range beyond the end of an artifact of `size` bytes."""

    def __init__(self, detail: str, wanted: str, size: int) -> None:
        super().__init__(Code.RANGE_NOT_SATISFIABLE, detail, field="Range", value=wanted)
        self.size = size


def asked_range(header: str | None, size: int) -> tuple[int, int] | None:
    """The bytes [start, end) a Range header asks for; None for the whole, as for several ranges or a broken header.

    Raises UnsatisfiableError.
    """
    found = RANGE.fullmatch(header.strip()) if header else None
    if found is None or found.group(1, 2) == ("", ""):
        return None
    first, last = found.group(1), found.group(2)
    if first and last and int(last) < int(first):
        return None
    start = int(first) if first else max(0, size - int(last))
    end = min(int(last) + 1, size) if first and last else size
    if start >= size:
        detail = f"the artifact has {size} bytes; there is no byte {start}" if first else "the range is empty"
        raise UnsatisfiableError(detail, found.group(), size)
    return start, end


def matches(header: str | None, tag: str) -> bool:
    """Whether an If-None-Match header names a tag."""
    known = [] if header is None else [part.strip().removeprefix("W/") for part in header.split(",")]
    return "*" in known or tag in known


async def answer(
    store: ArtifactStore,
    key: str,
    artifact: Artifact,
    *,
    known: str | None,
    wanted: str | None,
    if_range: str | None,
    more: Mapping[str, str] = MappingProxyType({}),
) -> Response:
    """An artifact, a part of it, or the word that the client has it already; with `more` headers, or others."""
    tag = f'"{artifact.sha256}"'
    headers = {"ETag": tag, "Cache-Control": FOREVER, "Accept-Ranges": "bytes", **more}
    if matches(known, tag):
        return Response(status_code=304, headers=headers)
    part = asked_range(wanted, artifact.size) if if_range in (None, tag) else None
    start, end = part or (0, artifact.size)
    if part:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{artifact.size}"
    headers["Content-Length"] = str(end - start)
    first = await piece(store, key, start, end)
    return StreamingResponse(
        pieces(store, key, first, start, end), 206 if part else 200, headers=headers, media_type=artifact.media_type
    )


async def piece(store: ArtifactStore, key: str, start: int, end: int) -> bytes:
    """The first bytes of [start, end)."""
    return b"" if start == end else await store.get_range(key, start, min(end, start + PIECE))


async def pieces(store: ArtifactStore, key: str, first: bytes, start: int, end: int) -> AsyncIterator[bytes]:
    """The bytes [start, end) of which the first are there already."""
    yield first
    for place in range(start + PIECE, end, PIECE):
        yield await piece(store, key, place, end)
