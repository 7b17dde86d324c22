"""Object arrays, the DeepLense axion files `[image, mass_eV]`: what is in them, read without running their pickle.

A pickle is a program. Here it never runs: `pickletools.genops` splits it into opcodes, and a machine of some thirty
opcodes plays them on inert records. A global is a word that chooses a function of this file; it is never imported or
called. Every opcode, global or value that NumPy does not write for such an array is refused. Nothing is bigger than
the file: opcodes, decoded bytes, visited items and pixels are counted.
"""

from __future__ import annotations

import math
import pickletools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

MAX_OPCODES = 1_000_000
MAX_ITEMS = 1_000_000
MAX_DIMENSIONS = 8
MAX_LENGTH = 1 << 31

_CORES = ("numpy.core", "numpy._core")  # NumPy 1 and 2
_GLOBALS = {
    "numpy ndarray": "ndarray",
    "numpy dtype": "dtype",
    "_codecs encode": "encode",
    **{f"{core}.multiarray {name}": name for core in _CORES for name in ("_reconstruct", "scalar")},
    **{f"{core}.numeric _frombuffer": "_frombuffer" for core in _CORES},
}
_NUMERIC = re.compile(r"b1|[iu][1248]|f[248]")
_OBJECT = ("O", "O4", "O8")

_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_NUMBERS = ("INT", "LONG", "BININT", "BININT1", "BININT2", "LONG1", "LONG4", "FLOAT", "BINFLOAT")
_TEXTS = ("UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8")
_BYTES = ("SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8")
_LITERALS = frozenset((*_NUMBERS, *_TEXTS, *_BYTES))
_TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_PUTS = frozenset(("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"))
_GETS = frozenset(("GET", "BINGET", "LONG_BINGET"))
_IGNORED = frozenset(("PROTO", "FRAME", "STOP"))


class Refused(ValueError):
    """The content is not what NumPy writes for an object array of images and numbers."""


@dataclass(frozen=True)
class _Word:
    """A global, as a word."""

    name: str


@dataclass
class _DType:
    """A NumPy dtype, as its code and byte order."""

    code: str
    order: str = "|"

    def numeric(self) -> np.dtype[Any]:
        if not _NUMERIC.fullmatch(self.code):
            raise Refused(f"dtype {self.code[:20]!r} is not numeric")
        return np.dtype(self.order + self.code)


@dataclass
class _Array:
    """An array: pixels, or a list of objects in C order; None until BUILD fills it."""

    shape: tuple[int, ...] = ()
    values: np.ndarray | list[object] | None = None


def read_object_array(pickled: bytes) -> tuple[tuple[int, ...], list[float | np.ndarray]]:
    """Return the shape of a pickled object array and the numbers and numeric arrays in it, in C order.

    Parameters
    ----------
    pickled
        The whole pickle, as `numpy.save` writes it behind the header.

    Raises
    ------
    Refused
        For anything but an object array of numbers, numeric arrays and nests of these.
    Exception
        Of many kinds for broken pickles, from `pickletools`: call it inside `guard.parsing`.
    """
    root = _Machine(len(pickled)).run(pickled)
    if not isinstance(root, _Array) or not isinstance(root.values, list):
        raise Refused("the pickle is not of an object array")
    found = list(_leaves(root))
    if sum(leaf.nbytes for leaf in found if isinstance(leaf, np.ndarray)) > len(pickled):
        raise Refused("the same array is used again and again")
    return root.shape, found


def _leaves(root: object) -> Iterator[float | np.ndarray]:
    """Yield numbers and arrays depth first, without recursion: lists that hold themselves run into the budget."""
    todo, budget = [root], MAX_ITEMS
    while todo:
        item = todo.pop()
        if isinstance(item, _Array):
            item = item.values
        if isinstance(item, list | tuple):
            budget -= len(item) + 1
            if budget < 0:
                raise Refused(f"more than {MAX_ITEMS:,} items")
            todo.extend(reversed(item))
        elif isinstance(item, np.ndarray) and item.ndim > 0:
            yield item
        elif isinstance(item, int | float | np.ndarray):
            yield float(item)
        else:
            raise Refused(f"a {type(item).__name__.strip('_')} where a number or an array should be")


class _Machine:
    """The symbolic pickle machine: a stack, marks in it, a memo.

    Parameters
    ----------
    budget
        How many bytes texts may decode to, all together: no honest pickle decodes more than its own length.
    """

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.actions: dict[str, Callable[[Any], None]] = {
            "MARK": lambda _: self.marks.append(len(self.stack)),
            "TUPLE": lambda _: self.stack.append(tuple(self.since_mark())),
            "LIST": lambda _: self.stack.append(self.since_mark()),
            "EMPTY_LIST": lambda _: self.stack.append([]),
            "APPEND": lambda _: self.extend(self.take(1)),
            "APPENDS": lambda _: self.extend(self.since_mark()),
            "GLOBAL": self.word,
            "STACK_GLOBAL": lambda _: self.word(" ".join(self.take(2))),
            "REDUCE": lambda _: self.reduce(*self.take(2)),
            "BUILD": lambda _: self.build(*self.take(1)),
        }

    def run(self, pickled: bytes) -> object:
        end = 0
        for count, (opcode, argument, position) in enumerate(pickletools.genops(pickled)):
            if count >= MAX_OPCODES:
                raise Refused(f"more than {MAX_OPCODES:,} pickle opcodes")
            self.step(opcode.name, argument)
            end = (position or 0) + 1
        if end != len(pickled) or len(self.stack) != 1 or self.marks:
            raise Refused("the pickle does not end where the file does")
        return self.stack.pop()

    def step(self, name: str, argument: Any) -> None:
        if name in _LITERALS:
            self.stack.append(argument)
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name])
        elif name in _TUPLES:
            self.stack.append(tuple(self.take(_TUPLES[name])))
        elif name in _PUTS:
            self.memo[len(self.memo) if argument is None else argument] = self.stack[-1]
        elif name in _GETS:
            self.stack.append(self.memo[argument])
        elif name in self.actions:
            self.actions[name](argument)
        elif name not in _IGNORED:
            raise Refused(f"the pickle opcode {name} has no place in an array")

    def take(self, count: int) -> list[Any]:
        start = len(self.stack) - count
        if start < (self.marks[-1] if self.marks else 0):
            raise Refused("the pickle takes more than it has")
        taken = self.stack[start:]
        del self.stack[start:]
        return taken

    def since_mark(self) -> list[Any]:
        return self.take(len(self.stack) - self.marks.pop()) if self.marks else self.take(1 << 62)

    def extend(self, items: list[Any]) -> None:
        if not isinstance(self.stack[-1], list):
            raise Refused("something is appended to what is not a list")
        self.stack[-1].extend(items)

    def word(self, name: str) -> None:
        if name not in _GLOBALS:
            raise Refused(f"the pickle names '{name[:80]}', which has no place in an array; nothing of it was run")
        self.stack.append(_Word(_GLOBALS[name]))

    def reduce(self, word: Any, arguments: Any) -> None:
        match word, arguments:
            case _Word("_reconstruct"), (_Word("ndarray"), (0,), b"b"):
                result: Any = _Array()
            case _Word("dtype"), (str(code), *_) if code in _OBJECT or _NUMERIC.fullmatch(code):
                result = _DType(code)
            case _Word("encode"), (str(text), "latin1" | "latin-1"):
                self.budget -= len(text)
                if self.budget < 0:
                    raise Refused("the same text is decoded again and again")
                result = text.encode("latin-1")
            case _Word("scalar"), (_DType() as dtype, bytes(raw)):
                result = _pixels(raw, dtype, (), "C").item()
            case _Word("_frombuffer"), (bytes() | bytearray() as raw, _DType() as dtype, shape, "C" | "F" as order):
                result = _pixels(raw, dtype, shape, order)
            case _Word("_frombuffer"), (bytes() | bytearray() as raw, _DType() as dtype, shape, "K", tuple(axes)):
                result = _pixels(raw, dtype, shape, "C").transpose(axes)
            case _:
                raise Refused("a call that numpy does not write")
        self.stack.append(result)

    def build(self, state: Any) -> None:
        match self.stack[-1], state:
            case _DType() as dtype, (_, "<" | ">" | "|" as order, None, None, None, *_):
                dtype.order = order
            case _Array(values=None) as array, (1, shape, _DType(code), _, list() as items) if code in _OBJECT:
                if len(items) != math.prod(_checked(shape)):
                    raise Refused(f"{len(items)} objects for the shape {shape}")
                array.shape, array.values = shape, items
            case _Array(values=None) as array, (1, shape, _DType() as dtype, fortran, bytes(raw)):
                array.shape, array.values = shape, _pixels(raw, dtype, shape, "F" if fortran else "C")
            case _:
                raise Refused("a state that numpy does not write")


def _checked(shape: Any) -> tuple[int, ...]:
    """Return `shape` when it is a tuple of a few non-negative integers of sane size."""
    if not isinstance(shape, tuple) or len(shape) > MAX_DIMENSIONS:
        raise Refused("a shape that is not one")
    if not all(type(length) is int and 0 <= length <= MAX_LENGTH for length in shape):
        raise Refused("a shape with impossible lengths")
    return shape


def _pixels(raw: bytes | bytearray, dtype: _DType, shape: Any, order: Any) -> np.ndarray:
    """Return `raw` as an array, once its length is what shape and dtype say."""
    kind = dtype.numeric()
    if len(raw) != math.prod(_checked(shape)) * kind.itemsize:
        raise Refused(f"{len(raw)} bytes for the shape {shape} of {kind}")
    return np.frombuffer(raw, kind).reshape(shape, order=order)
