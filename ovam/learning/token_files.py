"""Learned tokens as files: safetensors, textual inversion, NumPy; and the tokens others published."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from io import BytesIO
from os import PathLike
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import numpy as np
import torch
from jaxtyping import Float
from numpy.lib import format as npy
from safetensors import SafetensorError
from safetensors import torch as safetensors
from torch import Tensor

from ovam.attention.targets import Rows
from ovam.core.settings import check
from ovam.errors import EmbeddingNotFiniteError, InvalidArgumentError, TokenFileError, TokenWidthError
from ovam.learning.pickled_arrays import array_of, npy_parts, numbers, unwrapped
from ovam.learning.pickles import DeferredCall, read_pickle

MOST_BYTES: Final = 1 << 26
"""64 MiB: 10 000 tokens of 2 rows of 768 numbers."""
_FORMAT = "ovam-tokens/1"
_LENGTH_BYTES = 8


@dataclass(frozen=True, eq=False)
class LearnedTokens:
    """The rows that were learned together, the background's first, and what they stand for.

    >>> tokens = ovam.LearnedTokens(torch.zeros(3, 32), ("cat", "dog"))
    >>> tokens["dog"].chosen
    (2,)
    >>> tokens.save(folder / "pets.safetensors")
    >>> ovam.LearnedTokens.load(folder / "pets.safetensors").names
    ('cat', 'dog')
    """

    embedding: Float[Tensor, "classes text_width"]
    names: tuple[str, ...]
    """The classes' names without the background's: one less than there are rows."""
    metadata: dict[str, Any] = field(default_factory=dict)
    """What else is known, as JSON takes it: the model, the examples, the loss ..."""

    def __post_init__(self) -> None:
        """Raise `InvalidArgumentError` for rows without names of their own, `EmbeddingNotFiniteError` for NaN and infinity."""
        check("names", self.names, Sequence[str])
        object.__setattr__(self, "names", tuple(self.names))
        if len({*self.names}) < len(self.names):
            raise InvalidArgumentError("names", self.names, "names that differ")
        if self.embedding.ndim != 2 or self.embedding.shape[0] != len(self.names) + 1 or not self.names:
            allowed = f"({len(self.names) + 1}, width) for the background and {list(self.names)}"
            raise InvalidArgumentError("embedding", tuple(self.embedding.shape), allowed)
        if not bool(self.embedding.isfinite().all()):
            raise EmbeddingNotFiniteError(f"token {self.names[0]!r} has values that are no numbers (NaN) or infinite")

    @property
    def width(self) -> int:
        """Length of a row."""
        return self.embedding.shape[1]

    @property
    def family(self) -> str | None:
        """The family of models that the tokens were learned with; `None` where that is not known."""
        known = self.metadata.get("family")
        return known if isinstance(known, str) else None

    def __getitem__(self, name: str) -> Rows:
        """Return one class as a target. Raises `InvalidArgumentError` for a name that is not among these tokens'."""
        if name not in self.names:
            raise InvalidArgumentError("class", name, ", ".join(map(repr, self.names)))
        return Rows(self.embedding, (1 + self.names.index(name),), self.family)

    def only(self) -> Rows:
        """Return the one class as a target. Raises `InvalidArgumentError` when there are several."""
        if len(self.names) > 1:
            names = ", ".join(f"tokens[{name!r}]" for name in self.names)
            raise InvalidArgumentError("targets", f"tokens of {len(self.names)} classes", f"one of them: {names}")
        return self[self.names[0]]

    def save(self, path: str | PathLike[str]) -> None:
        """Write the tokens to a `.safetensors` file, or their rows alone to a `.npy` file; never half a file.

        Raises `InvalidArgumentError` for another suffix. `to_textual_inversion` writes the form that diffusers loads.
        """
        writers = {".safetensors": to_safetensors, ".npy": to_npy}
        file = Path(path)
        if file.suffix.lower() not in writers:
            raise InvalidArgumentError("path", str(path), "a name that ends in .safetensors or .npy")
        data = writers[file.suffix.lower()](self)
        beside = file.with_name(f".{file.name}.{uuid4().hex}")
        try:
            beside.write_bytes(data)
            beside.replace(file)
        finally:
            beside.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> "LearnedTokens":
        """Read tokens from a file: what `save` wrote, or a textual inversion in safetensors.

        Raises `TokenFileError` for other files, `FileNotFoundError` when there is none.
        """
        file = Path(path)
        data = file.read_bytes()
        if file.suffix.lower() == ".npy":
            return from_npy(data)
        _, metadata = _safetensors(data)
        written = "tokens" in metadata and "classes" in safetensors.load(data)
        return from_safetensors(data) if written else from_textual_inversion(data)


def require_width(tokens: LearnedTokens, width: int) -> LearnedTokens:
    """Return tokens that fit a model of this text width. Raises `TokenWidthError`, which names both widths, for others."""
    if tokens.width != width:
        raise TokenWidthError(f"token {tokens.names[0]!r} is {tokens.width} wide, the model takes {width}")
    return tokens


def to_safetensors(tokens: LearnedTokens) -> bytes:
    """Write background and classes as two tensors, the names and the metadata as JSON in the header."""
    rows = _rows(tokens)
    header = {"format": _FORMAT, "names": tokens.names, "metadata": tokens.metadata}
    tensors = {"background": rows[0].clone(), "classes": rows[1:].clone()}
    return safetensors.save(tensors, metadata={"tokens": json.dumps(header)})


def from_safetensors(data: bytes) -> LearnedTokens:
    """Read what `to_safetensors` wrote. Raises `TokenFileError` for other bytes."""
    tensors, metadata = _safetensors(data)
    try:
        header = json.loads(metadata["tokens"])
        if header["format"] != _FORMAT:
            raise TokenFileError(f"the token file is of format {str(header['format'])[:50]!r}; allowed: {_FORMAT!r}")
        rows = torch.cat([tensors["background"][None], tensors["classes"]]).float()
        return _tokens_of(rows, tuple(str(name) for name in header["names"]), dict(header["metadata"]))
    except (KeyError, TypeError, ValueError, RuntimeError, IndexError) as error:
        raise TokenFileError(f"the token file lacks or garbles a field: {error!r}") from error


def to_textual_inversion(tokens: LearnedTokens, placeholder: str | None = None) -> bytes:
    """Write the rows as diffusers' `load_textual_inversion` reads them: one tensor named by its placeholder.

    The first row is the background's, as everywhere here. The rows are outputs of the text encoder, not
    inputs: a pipeline loads the file, but a prompt with the placeholder does not show what was learned.
    """
    name = placeholder or f"<{tokens.names[0]}>"
    header = {"format": _FORMAT, "names": tokens.names, "metadata": tokens.metadata}
    return safetensors.save({name: _rows(tokens).clone()}, metadata={"tokens": json.dumps(header)})


def from_textual_inversion(data: bytes) -> LearnedTokens:
    """Read a textual-inversion file of at least two rows, the background's first. Raises `TokenFileError` for others."""
    tensors, metadata = _safetensors(data)
    if len(tensors) != 1:
        raise TokenFileError(f"a textual-inversion file holds one tensor, this one {len(tensors)}")
    ((placeholder, rows),) = tensors.items()
    if rows.ndim != 2 or rows.shape[0] < 2 or not rows.is_floating_point():
        raise TokenFileError(f"tensor {placeholder[:50]!r} is {tuple(rows.shape)}; allowed: (2 or more rows, width)")
    try:
        header = json.loads(metadata.get("tokens", "{}"))
        names = header.get("names") or numbered(placeholder.strip("<>"), rows.shape[0] - 1)
        return _tokens_of(rows.float(), tuple(str(name) for name in names), dict(header.get("metadata", {})))
    except (TypeError, ValueError, AttributeError, RecursionError) as error:
        raise TokenFileError(f"the token file garbles a field: {error!r}") from error


def to_npy(tokens: LearnedTokens) -> bytes:
    """Write the rows, the background's first, as `.npy` of shape (classes, width), without the names."""
    buffer = BytesIO()
    np.save(buffer, _rows(tokens).numpy(), allow_pickle=False)
    return buffer.getvalue()


def from_npy(data: bytes, *names: str) -> LearnedTokens:
    """Read a `.npy` of shape (classes, width), background first, and name its classes.

    Raises `TokenFileError` for other bytes; a pickled file is one for `from_published`.
    """
    _check_size(data)
    shape, fortran, dtype, body = npy_parts(data)
    if dtype.hasobject:
        raise TokenFileError("the .npy holds pickled objects; allowed: floating numbers (classes, width)")
    rows = numbers(shape, dtype.str, body, fortran=fortran)
    if rows.ndim != 2 or rows.shape[0] < 2:
        raise TokenFileError(f"the .npy is of shape {rows.shape}; allowed: (2 or more classes, width)")
    return _tokens_of(torch.from_numpy(rows), names or numbered("token", rows.shape[0] - 1), {})


def from_published(data: bytes) -> dict[str, LearnedTokens]:
    """Read a pickled dict of class name -> (2, width) array, bare or in a `.npy`, without executing the pickle.

    Raises `UnsafePickleError` for a pickle that asks for anything but arrays, strings and dicts,
    `TokenFileError` for bytes that are cut short, too many, or hold something else.
    """
    _check_size(data)
    if data.startswith(npy.MAGIC_PREFIX):
        shape, _, dtype, data = npy_parts(data)
        if not dtype.hasobject or shape != ():
            raise TokenFileError(f"the .npy is {dtype} of shape {shape}; allowed: one pickled dict")
    value = read_pickle(data)
    if isinstance(value, DeferredCall):  # NumPy wraps a single object in an array without dimensions
        value = unwrapped(value)
    if not isinstance(value, dict) or not value:
        raise TokenFileError(f"the pickle holds a {type(value).__name__}; allowed: a dict of names and arrays")
    found = {}
    for name, array in value.items():
        if not isinstance(name, str) or not isinstance(array, DeferredCall):
            raise TokenFileError(f"the dict maps {type(name).__name__} to {type(array).__name__}; allowed: names to arrays")
        rows = array_of(array)
        if rows.ndim != 2 or rows.shape[0] != 2:
            raise TokenFileError(f"token {name[:50]!r} is of shape {rows.shape}; allowed: (2, width), background first")
        found[name] = _tokens_of(torch.from_numpy(rows), (name,), {})
    return found


def _rows(tokens: LearnedTokens) -> Float[Tensor, "classes text_width"]:
    """Return the rows in the form that files hold."""
    return tokens.embedding.detach().float().cpu().contiguous()


def _tokens_of(rows: Tensor, names: tuple[str, ...], metadata: dict[str, Any]) -> LearnedTokens:
    """Return the tokens of a file. Raises `TokenFileError` when names and rows do not agree."""
    try:
        return LearnedTokens(rows, names, metadata)
    except InvalidArgumentError as error:
        raise TokenFileError(f"the token file's {error}") from error


def numbered(name: str, count: int) -> tuple[str, ...]:
    """Return names for classes without: the given one, with numbers if there are several."""
    return (name,) if count == 1 else tuple(f"{name}-{number}" for number in range(1, count + 1))


def _check_size(data: bytes) -> None:
    """Raise `TokenFileError` for a file that is too large to read."""
    if len(data) > MOST_BYTES:
        raise TokenFileError(f"the token file has {len(data)} bytes; allowed: {MOST_BYTES}")


def _safetensors(data: bytes) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Split a safetensors file into its tensors and its metadata."""
    _check_size(data)
    try:
        tensors = safetensors.load(data)
        length = int.from_bytes(data[:_LENGTH_BYTES], "little")
        metadata = json.loads(data[_LENGTH_BYTES : _LENGTH_BYTES + length]).get("__metadata__", {})
    except (SafetensorError, KeyError, ValueError, TypeError) as error:
        raise TokenFileError(f"{len(data)} bytes that are not a safetensors file: {error}") from error
    return tensors, metadata
