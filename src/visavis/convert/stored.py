"""What stands in a checkpoint in the place of classes and functions: plain values.

The names that a pickle may ask for, and for each one what it gives. None is looked up anywhere.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

MOST_AXES = 8
STORAGES: Mapping[str, str] = {  # the classes of `torch` that hold numbers, and numpy's names
    "DoubleStorage": "<f8", "FloatStorage": "<f4", "HalfStorage": "<f2",
    "LongStorage": "<i8", "IntStorage": "<i4", "ShortStorage": "<i2", "CharStorage": "<i1",
    "ByteStorage": "<u1",
}  # fmt: skip


class Refused(ValueError):
    """The pickle asks for something that is not read here, or is damaged."""


class Fields(dict[str, object]):
    """The attributes of an `argparse.Namespace` or an `easydict.EasyDict`: a dictionary."""


@dataclass(frozen=True, slots=True)
class Storage:
    """Numbers that lie elsewhere in the file."""

    key: str
    kind: str  # numpy's name of their type
    count: int  # of the whole storage
    start: int = 0  # where this view of it begins, in numbers


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor whose numbers are not read yet; dense, and inside its storage."""

    storage: Storage
    offset: int  # of its first number, in numbers
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def count(self) -> int:
        """How many numbers it has."""
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class Name:
    """A class or function that the file names; it is never looked up."""

    module: str
    name: str

    @property
    def known(self) -> bool:
        """Whether something plain stands for it."""
        key = (self.module, self.name)
        return key in CALLS or key in EMPTY or (self.module == "torch" and self.name in STORAGES)

    def __str__(self) -> str:
        return ascii(f"{self.module}.{self.name}")[1:-1][:80]


@dataclass(slots=True)
class NumberKind:
    """A `numpy.dtype`."""

    code: str
    order: str = "<"


def size_of(value: object) -> int:
    """A size or a place inside a tensor.

    Raises:
        Refused: anything else.
    """
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**48:
        raise Refused("a tensor has a size that cannot be")
    return value


def _tensor(arguments: tuple[Any, ...]) -> StoredTensor:
    storage, offset, shape, stride = arguments[:4]  # then gradients and hooks, which are left
    if not isinstance(storage, Storage) or len(shape) != len(stride) or len(shape) > MOST_AXES:
        raise Refused("a tensor is not described as tensors are")
    found = StoredTensor(
        storage, size_of(offset), *(tuple(map(size_of, x)) for x in (shape, stride))
    )
    if found.count:
        last = sum((size - 1) * step for size, step in zip(found.shape, found.stride, strict=True))
        # A tensor that repeats numbers, or leaves some out, could claim any size.
        inside = storage.start + found.offset + found.count <= storage.count
        if last + 1 != found.count or not inside:
            raise Refused("a tensor claims more numbers than are stored for it")
    return found


def _parameter(arguments: tuple[Any, ...]) -> StoredTensor:
    if not isinstance(arguments[0], StoredTensor):
        raise Refused("a parameter is no tensor")
    return arguments[0]


def _ordered(arguments: tuple[Any, ...]) -> dict[str, object]:
    pairs = arguments[0] if arguments else []  # Python 2 wrote the entries here
    if not all(isinstance(pair, list | tuple) and isinstance(pair[0], str) for pair in pairs):
        raise Refused("a dictionary is not described as dictionaries are")
    return {key: value for key, value in pairs}  # noqa: C416  (each must be a pair)


def _number_kind(arguments: tuple[Any, ...]) -> NumberKind:
    if not re.fullmatch(r"[biuf][1248]", str(arguments[0])):
        raise Refused("a number of numpy is none")
    return NumberKind(str(arguments[0]))


def _number(arguments: tuple[Any, ...]) -> float:
    described, data = arguments
    raw = data.encode("latin1") if isinstance(data, str) else data
    kind = np.dtype(described.order + described.code)
    if not isinstance(raw, bytes) or len(raw) != kind.itemsize:
        raise Refused("a number of numpy is none")
    value: float = np.frombuffer(raw, kind)[0].item()
    return value


def _bytes(arguments: tuple[Any, ...]) -> bytes:
    """What Python 3 writes for bytes in protocol 2: the text of them, to be encoded."""
    return str(arguments[0]).encode("latin1")


CALLS: Mapping[Any, Callable[[tuple[Any, ...]], object]] = {
    ("torch._utils", "_rebuild_tensor"): _tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("collections", "OrderedDict"): _ordered,
    ("numpy", "dtype"): _number_kind,
    ("numpy.core.multiarray", "scalar"): _number,
    ("numpy._core.multiarray", "scalar"): _number,
    ("_codecs", "encode"): _bytes,
}
EMPTY: Mapping[Any, Callable[[], dict[str, object]]] = {
    ("argparse", "Namespace"): Fields,
    ("easydict", "EasyDict"): Fields,
    ("collections", "OrderedDict"): dict,
}
