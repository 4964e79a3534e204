"""SHA-256 over files of weights, read in parts."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

PART = 1 << 24  # bytes of a file that are read at a time


def hash_of(files: Iterable[Path]) -> str:
    """SHA-256 over files, in the order of their paths."""
    digest = hashlib.sha256()
    for path in sorted(files):
        with path.open("rb") as file:
            while part := file.read(PART):
                digest.update(part)
    return digest.hexdigest()
