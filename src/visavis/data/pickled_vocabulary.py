"""The pickled vocabularies of VSE++, VSRN, AOQ and CAMP, read without running anything in them."""

from __future__ import annotations

import io
import pickle
import pickletools
import struct
from pathlib import Path
from typing import NoReturn

from visavis.errors import DataError

_MODULES = frozenset({"__main__", "vocab"})  # where the published class was defined
_DAMAGE = (
    pickle.UnpicklingError, EOFError, AttributeError, ImportError, IndexError, KeyError,
    ValueError, TypeError, OverflowError, MemoryError, RecursionError, struct.error,
)  # fmt: skip


class _Stored:
    """Stands in for the published class `Vocabulary`: keeps its attributes, has no behaviour."""

    state: object = None  # on the class: unpickling may pass by the constructor

    def __setstate__(self, state: object) -> None:
        self.state = state


class _Unpickler(pickle.Unpickler):
    """Builds plain containers, text and numbers, and the stand-in; refuses every other name."""

    def find_class(self, module: str, name: str, /) -> type[_Stored]:
        if module in _MODULES and name == "Vocabulary":
            return _Stored
        raise DataError(
            f"refused: the pickle names {module}.{name}; "
            "only the published class `Vocabulary` is read"
        )

    def persistent_load(self, pid: object, /) -> NoReturn:
        raise DataError("refused: the pickle refers to something outside the file")


def read_pickled_vocabulary(path: Path) -> dict[str, object]:
    """The attributes `word2idx`, `idx2word` and `idx` of a pickled `Vocabulary`.

    The published files were written by Python 2, so byte strings are read as Latin-1.

    Raises:
        DataError: the file is damaged, holds something else or names another class.
    """
    try:
        content = path.read_bytes()
        _check_sizes(content)
        value = _Unpickler(io.BytesIO(content), encoding="latin1").load()
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
    except _DAMAGE as error:
        raise DataError(f"{path}: not a vocabulary pickle ({_one_line(error)})") from error
    if not isinstance(value, _Stored) or not isinstance(value.state, dict):
        raise DataError(f"{path}: the pickle holds no object of the class `Vocabulary`")
    return value.state


def _check_sizes(content: bytes) -> None:
    """Refuse what a few bytes could blow up: lengths beyond the file, huge memo numbers."""
    for opcode, argument, _ in pickletools.genops(content):
        if opcode.name.endswith("PUT") and isinstance(argument, int) and argument > len(content):
            raise DataError(f"refused: the pickle numbers a part {argument}; it is damaged")


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
