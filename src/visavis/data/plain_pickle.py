"""Object arrays of old `.npy` files, read without running anything that the file names.

`numpy.save` pickles an array of objects, and unpickling can run any code. Companion files of
published features are nevertheless saved so (lists of dictionaries with numbers). This reader
follows the pickle's instructions, but every name in it is looked up in a table of stand-ins that
only gather data; a name outside the table is refused.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visavis.errors import DataError

# What reading a damaged or hostile file can raise.
_DAMAGE = (
    pickle.UnpicklingError,
    OSError,
    EOFError,
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    ArithmeticError,
    MemoryError,
    RecursionError,
)
_NUMBERS = frozenset("biuf")  # kinds of numpy types that are plain numbers


def read_object_array(path: Path) -> list[Any]:
    """The elements of a one-dimensional object array: plain numbers, texts, lists, dictionaries.

    Raises:
        DataError: not such a file, or it asks for anything but plain data.
    """
    try:
        with path.open("rb") as stream:
            version = np.lib.format.read_magic(stream)
            if version != (1, 0):
                raise DataError(f"{path}: .npy version {version} cannot hold an object array")
            np.lib.format.read_array_header_1_0(stream)
            value = _plain(_Unpickler(stream, encoding="latin1").load())
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except _DAMAGE as error:
        raise DataError(f"{path}: not an array of plain values ({error})") from error
    if not isinstance(value, list):
        raise DataError(f"{path}: holds {type(value).__name__}, expected an array of objects")
    return value


class _StandIn:
    """Takes the place of a class that a file names, and only keeps what it is handed."""

    # Every stand-in takes its state this way. Without it, a pickle could set attributes of the
    # class itself, and so of every file that is read after it.
    def __setstate__(self, state: tuple[Any, ...]) -> None:
        raise ValueError("a state where none is expected")


class _Type(_StandIn):
    """For `numpy.dtype`."""

    def __init__(self, code: str | bytes, *_: object) -> None:
        self.code = _text(code)
        self.order = "="

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        order = _text(state[1])
        self.order = order if order in ("<", ">") else "="

    def numbers(self, data: bytes | str | _Bytes) -> NDArray[Any]:
        kind = np.dtype(self.code).newbyteorder(self.order)
        if kind.kind not in _NUMBERS:
            raise ValueError(f"values of type {self.code}")
        raw = data.value if isinstance(data, _Bytes) else data
        return np.frombuffer(raw.encode("latin1") if isinstance(raw, str) else raw, dtype=kind)


class _Array(_StandIn):
    """For `numpy.ndarray` and the function that makes an empty one."""

    def __init__(self, *_: object) -> None:
        self.value: Any = None

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, kind, fortran, data = state
        if isinstance(data, list):
            self.value = data  # objects, in the order of the flat array
        else:
            self.value = kind.numbers(data).reshape(shape, order="F" if fortran else "C").tolist()


class _Number(_StandIn):
    """For a numpy scalar."""

    def __init__(self, kind: _Type, data: bytes | str | _Bytes) -> None:
        self.value = kind.numbers(data)[0].item()


class _Bytes(_StandIn):
    """For the call that Python 3 writes for bytes in old pickle protocols."""

    def __init__(self, text: str, *_: object) -> None:
        self.value = text.encode("latin1")


_STAND_INS: Mapping[tuple[str, str], type] = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Type,
    ("numpy.core.multiarray", "_reconstruct"): _Array,  # before numpy 2
    ("numpy._core.multiarray", "_reconstruct"): _Array,
    ("numpy.core.multiarray", "scalar"): _Number,
    ("numpy._core.multiarray", "scalar"): _Number,
    ("_codecs", "encode"): _Bytes,
    ("collections", "OrderedDict"): dict,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> type:
        """The stand-in of a name.

        Raises:
            pickle.UnpicklingError: a name without one.
        """
        if (module, name) not in _STAND_INS:
            raise pickle.UnpicklingError(f"asks for {module}.{name}, which is refused")
        return _STAND_INS[module, name]


def _plain(value: Any) -> Any:  # noqa: ANN401
    """The stand-ins replaced by what they gathered."""
    if isinstance(value, Mapping):
        return {_text(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, int | float | str | bytes | None):
        return value
    if isinstance(value, _Array | _Number | _Bytes):
        return _plain(value.value)
    raise ValueError(f"a {type(value).__name__} among the values")


def _text(value: Any) -> Any:  # noqa: ANN401
    return value.decode("latin1") if isinstance(value, bytes) else value
