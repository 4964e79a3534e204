"""Arrays of floating numbers, read from how a pickle or a `.npy` describes them."""

import math
from io import BytesIO
from tokenize import TokenError
from typing import Any, Final

import numpy as np
from numpy.lib import format as npy

from ovam.errors import TokenFileError, UnsafePickleError
from ovam.learning.pickles import DeferredCall

_FLOATING: Final = ("f2", "f4", "f8")
# NumPy reads the header as an expression of Python, which can fail in all the ways these can.
_BAD_HEADER = (ValueError, TypeError, SyntaxError, TokenError, LookupError, AttributeError, RecursionError, MemoryError)


def npy_parts(data: bytes) -> tuple[tuple[int, ...], bool, np.dtype, bytes]:
    """Split a `.npy` into shape, Fortran order, type and content. Raises `TokenFileError` for other bytes."""
    file = BytesIO(data)
    try:
        version = npy.read_magic(file)
        readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
        if version not in readers:
            raise TokenFileError(f"the .npy is of version {version}; allowed: (1, 0), (2, 0)")
        shape, fortran, dtype = readers[version](file)
    except _BAD_HEADER as error:
        raise TokenFileError(f"{len(data)} bytes that are not a .npy: {error}") from error
    return shape, fortran, dtype, file.read()


def unwrapped(call: DeferredCall) -> Any:  # noqa: ANN401
    """Return the one object in the array without dimensions that NumPy saves it in."""
    _, shape, dtype, _, content = _array_state(call)
    if shape != () or _type_of(dtype) != "O" or not isinstance(content, list) or len(content) != 1:
        raise TokenFileError("the pickle holds an array; allowed: a dict of names and arrays")
    return content[0]


def array_of(call: DeferredCall) -> np.ndarray:
    """Return the array of floating numbers that a pickle describes.

    Raises `UnsafePickleError` for an array of objects, `TokenFileError` for other types and for bytes that
    do not fill the shape.
    """
    if call.what == "frombuffer":
        content, dtype, shape, order = _several(call.arguments, 4)
        fortran = order == "F"
    else:
        _, shape, dtype, fortran, content = _array_state(call)
    kind = _type_of(dtype)
    if kind.endswith("O"):
        raise UnsafePickleError("the pickle holds an array of objects; allowed: arrays of floating numbers")
    if isinstance(content, DeferredCall) and content.what == "encode":  # how old protocols write bytes
        text, encoding = _several(content.arguments, 2)
        content = text.encode("latin-1") if isinstance(text, str) and encoding == "latin1" else None
    if not isinstance(content, bytes | bytearray) or not isinstance(shape, tuple):
        raise TokenFileError("the pickle holds an array without its numbers")
    return numbers(shape, kind, bytes(content), fortran=bool(fortran))


def numbers(shape: tuple[Any, ...], kind: str, content: bytes, *, fortran: bool) -> np.ndarray:
    """Return a single-precision array of bytes, which must be floating numbers that fill its shape.

    Raises `TokenFileError`.
    """
    if kind.lstrip("<>=|") not in _FLOATING:
        raise TokenFileError(f"the array is of type {kind[:20]!r}; allowed: {', '.join(_FLOATING)}")
    if len(shape) > 2 or not all(isinstance(length, int) and length >= 0 for length in shape):
        raise TokenFileError("the array's shape is not (classes, width)")
    dtype = np.dtype(kind)
    if math.prod(shape) * dtype.itemsize != len(content):
        raise TokenFileError(f"the array of shape {shape} has {len(content)} bytes of {dtype.name}")
    values = np.frombuffer(content, dtype).reshape(shape, order="F" if fortran else "C")
    with np.errstate(over="ignore"):  # what overflows is infinite, which is refused as such
        return np.array(values, dtype=np.float32, order="C")


def _array_state(call: DeferredCall) -> tuple[Any, ...]:
    """Return what NumPy stores of an array: version, shape, type, Fortran order, content."""
    if call.what != "reconstruct" or not isinstance(call.state, tuple):
        raise TokenFileError(f"the pickle holds a {call.what} where an array is expected")
    return _several(call.state, 5)


def _type_of(dtype: Any) -> str:  # noqa: ANN401
    """Spell an array's type as NumPy does, byte order first."""
    if not isinstance(dtype, DeferredCall) or dtype.what != "dtype" or not isinstance(dtype.state, tuple):
        raise TokenFileError("the pickle holds an array without a type")
    kind, order = dtype.arguments[0] if dtype.arguments else None, dtype.state[1] if len(dtype.state) > 1 else None
    if not isinstance(kind, str) or not isinstance(order, str):
        raise TokenFileError("the pickle holds an array of a type that is none")
    return kind[:1] if kind.startswith("O") else f"{order}{kind}"


def _several(values: tuple[Any, ...], count: int) -> tuple[Any, ...]:
    """Return the values. Raises `TokenFileError` for another number of them."""
    if len(values) != count:
        raise TokenFileError(f"the pickle describes an array by {len(values)} values; allowed: {count}")
    return values
