"""Reading arrays, strings and dicts out of a pickle without executing it.

A pickle is a program. Here its instructions are read one by one, and only those that build plain values are
executed. A call is not executed but recorded as a `DeferredCall`, and only for the exact names by which NumPy builds an
array. Anything else raises `UnsafePickleError` before anything has happened.
"""

import pickletools
from dataclasses import dataclass
from typing import Any, Final

from ovam.errors import TokenFileError, UnsafePickleError

MOST_INSTRUCTIONS: Final = 1_000_000

_ARRAY_MODULES = ("numpy.core.multiarray", "numpy._core.multiarray")
_BUFFER_MODULES = ("numpy.core.numeric", "numpy._core.numeric")
ALLOWED: Final = {
    **{(module, "_reconstruct"): "reconstruct" for module in _ARRAY_MODULES},
    **{(module, "_frombuffer"): "frombuffer" for module in _BUFFER_MODULES},
    ("numpy", "ndarray"): "ndarray",
    ("numpy", "dtype"): "dtype",
    ("_codecs", "encode"): "encode",
}
"""The names that a pickle may use, and their meaning."""

_VALUES = frozenset(
    ("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "UNICODE", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8",
     "BYTEARRAY8", "BININT", "BININT1", "BININT2", "INT", "LONG1")
)  # fmt: skip
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_PUTS, _GETS = frozenset({"PUT", "BINPUT", "LONG_BINPUT"}), frozenset({"GET", "BINGET", "LONG_BINGET"})


@dataclass(frozen=True)
class Name:
    """One of the allowed names, by its meaning."""

    what: str


@dataclass(eq=False)
class DeferredCall:
    """A call that was recorded, not executed: its target, its arguments, and the state set afterwards."""

    what: str
    arguments: tuple[Any, ...]
    state: Any = None


class _Mark:
    """The place on the stack where a list of items begins."""


def read_pickle(data: bytes) -> Any:  # noqa: ANN401 - a pickle may hold anything; who calls checks
    """Read the value of a pickle: str, bytes, int, bool, None, list, tuple, dict, and `DeferredCall` for arrays.

    Raises `TokenFileError` for bytes that are cut short or no pickle, `UnsafePickleError` for instructions
    or names that are not allowed.
    """
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    try:
        for count, (operation, argument, _) in enumerate(pickletools.genops(data)):
            if count >= MOST_INSTRUCTIONS:
                raise TokenFileError(f"the pickle has more than {MOST_INSTRUCTIONS} instructions")
            if operation.name == "STOP":
                (value,) = stack
                return value
            _step(operation.name, argument, stack, memo)
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise TokenFileError(f"{len(data)} bytes that are not a whole pickle: {error}") from error
    raise TokenFileError("the pickle does not end")


def _step(name: str, argument: Any, stack: list[Any], memo: dict[int, Any]) -> None:  # noqa: ANN401
    """Execute one instruction, if it is one that builds values."""
    if name in ("PROTO", "FRAME"):
        return
    if name in _VALUES:
        stack.append(argument)
    elif name in _CONSTANTS:
        stack.append(_CONSTANTS[name])
    elif name in _PUTS:
        memo[argument] = stack[-1]
    elif name == "MEMOIZE":
        memo[len(memo)] = stack[-1]
    elif name in _GETS:
        stack.append(memo[argument])
    elif name in _TUPLES:
        stack.append(tuple(_popped(stack, _TUPLES[name])))
    else:
        _build(name, argument, stack)


def _build(name: str, argument: Any, stack: list[Any]) -> None:  # noqa: ANN401
    """Execute an instruction that combines values."""
    match name:
        case "MARK" | "EMPTY_DICT" | "EMPTY_LIST":
            stack.append({"MARK": _Mark, "EMPTY_DICT": dict, "EMPTY_LIST": list}[name]())
        case "TUPLE":
            stack.append(tuple(_since_mark(stack)))
        case "APPEND" | "APPENDS":
            items = _popped(stack, 1) if name == "APPEND" else _since_mark(stack)
            _top(stack, list).extend(items)
        case "SETITEM" | "SETITEMS":
            items = _popped(stack, 2) if name == "SETITEM" else _since_mark(stack)
            if not all(isinstance(key, str) for key in items[::2]):  # hashing a nested tuple may take for ever
                raise UnsafePickleError("the pickle has a dict with keys that are no strings")
            _top(stack, dict).update(zip(items[::2], items[1::2], strict=True))
        case "GLOBAL" | "STACK_GLOBAL":
            stack.append(_allowed(*(argument.split(" ", 1) if name == "GLOBAL" else _popped(stack, 2))))
        case "REDUCE":
            target, arguments = _popped(stack, 2)
            if not isinstance(target, Name) or not isinstance(arguments, tuple):
                raise UnsafePickleError(f"the pickle calls something that is no name: {type(target).__name__}")
            stack.append(DeferredCall(target.what, arguments))
        case "BUILD":
            (state,) = _popped(stack, 1)
            _top(stack, DeferredCall).state = state
        case _:
            raise UnsafePickleError(f"the pickle has the instruction {name}; allowed: those of arrays, strings and dicts")


def _allowed(module: Any, name: Any) -> Name:  # noqa: ANN401
    """Return a name that the pickle asks for. Raises `UnsafePickleError` for one that is not allowed."""
    what = ALLOWED.get((module, name)) if isinstance(module, str) and isinstance(name, str) else None
    if what is None:
        raise UnsafePickleError(f"the pickle asks for {f'{module}.{name}'[:200]!r}; allowed: NumPy arrays, strings and dicts")
    return Name(what)


def _top(stack: list[Any], kind: type) -> Any:  # noqa: ANN401
    """Return the last value, which must be of a kind."""
    if not isinstance(stack[-1], kind):
        raise UnsafePickleError(f"the pickle fills a {type(stack[-1]).__name__} as if it were a {kind.__name__}")
    return stack[-1]


def _popped(stack: list[Any], count: int) -> list[Any]:
    """Remove the last values from the stack and return them."""
    if count == 0:
        return []
    values = stack[-count:]
    if len(values) < count or any(isinstance(value, _Mark) for value in values):
        raise IndexError("values are missing on the stack")
    del stack[-count:]
    return values


def _since_mark(stack: list[Any]) -> list[Any]:
    """Remove the last mark and return what is above it."""
    start = next((index for index in range(len(stack) - 1, -1, -1) if isinstance(stack[index], _Mark)), None)
    if start is None:
        raise IndexError("no mark on the stack")
    values = stack[start + 1 :]
    del stack[start:]
    return values
