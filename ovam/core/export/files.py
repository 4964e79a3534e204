"""What an export consists of: files that are streamed, into a tar, a folder, or wherever the caller likes."""

import os
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import Final

from ovam.errors import InvalidArgumentError

CHUNK: Final = 1 << 18  # bytes
IN_MEMORY: Final = 1 << 22  # bytes of a file that is being collected; more of it goes to the disk


@dataclass(frozen=True)
class File:
    """A file of an export. Its content can be read until the next file is asked for."""

    path: str
    """Relative, with slashes."""
    content: "bytes | Spool"

    @property
    def size(self) -> int:
        """Its length in bytes."""
        return len(self.content)

    def chunks(self) -> Iterator[bytes]:
        """Its content, some hundred kilobytes at a time."""
        return iter((self.content,)) if isinstance(self.content, bytes) else self.content.chunks()

    def read(self) -> bytes:
        """Its whole content."""
        return b"".join(self.chunks())


class Spool(SpooledTemporaryFile[bytes]):
    """Bytes collected over a whole export, in memory while they are few, then in a temporary file. Used with `with`."""

    def __init__(self) -> None:
        super().__init__(max_size=IN_MEMORY)

    def __len__(self) -> int:
        """Count the bytes, and stand at their end."""
        self.seek(0, os.SEEK_END)
        return self.tell()

    def chunks(self) -> Iterator[bytes]:
        """Everything collected, from the start."""
        at, end = 0, len(self)
        while at < end:
            self.seek(at)
            chunk = self.read(CHUNK)
            at += len(chunk)
            yield chunk
        self.seek(0, os.SEEK_END)

    def clear(self) -> None:
        """Forget what was collected."""
        self.seek(0)
        self.truncate()


def as_tar(files: Iterable[File]) -> Iterator[bytes]:
    """Stream files as one tar archive, the same bytes for the same files."""
    return gathered(tar_of(files))


def tar_of(files: Iterable[File]) -> Iterator[bytes]:
    """Return the parts of a tar archive, however small."""
    for file in files:
        yield from tar_entry(file)
    yield tar_end()


def tar_entry(file: File) -> Iterator[bytes]:
    """Return what a tar archive holds of a file."""
    entry = tarfile.TarInfo(file.path)
    entry.size = file.size
    yield entry.tobuf(tarfile.PAX_FORMAT)
    yield from file.chunks()
    yield bytes(-file.size % tarfile.BLOCKSIZE)


def tar_end() -> bytes:
    """Return what ends a tar archive."""
    return bytes(2 * tarfile.BLOCKSIZE)


def gathered(parts: Iterable[bytes]) -> Iterator[bytes]:
    """Join small parts to chunks worth sending."""
    buffer = bytearray()
    for part in parts:
        buffer += part
        if len(buffer) >= CHUNK:
            yield bytes(buffer)
            buffer.clear()
    if buffer:
        yield bytes(buffer)


def into_folder(files: Iterable[File], folder: str | Path) -> int:
    """Write files into a new or empty folder, each whole or not at all, and count them.

    Raises `InvalidArgumentError` for a folder that holds something already.
    """
    top = Path(folder)
    if top.exists() and (not top.is_dir() or any(top.iterdir())):
        raise InvalidArgumentError("folder", str(folder), "a new or an empty folder")
    count = 0
    for file in files:
        path = top / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{path.name}.partial")
        with partial.open("wb") as out:
            out.writelines(file.chunks())
        partial.replace(path)
        count += 1
    return count
