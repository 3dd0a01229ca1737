"""Encoded pictures where a query can have two hundred of them within a few milliseconds.

A row is one run of bytes. Rows lie in memory up to a budget; those beyond it lie in a temporary
file that is read row by row, so that the system's file cache, and not this process, decides what
stays. Rows are never moved or changed: an id stands for one content.
"""

from __future__ import annotations

import os
import tempfile
import threading
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from visavis.files import storage_error
from visavis.search.rows import Arrays, Specs

BUDGET = 2**29  # bytes in memory
CHUNK = 1024  # rows
_ALIGNED = 64  # bytes


class Arena:
    """Rows by id, added once and read often, from any thread."""

    def __init__(self, specs: Specs, *, budget: int = BUDGET) -> None:
        """Room for rows; nothing is taken until they come.

        Args:
            specs: the arrays of a row.
            budget: bytes in memory before the file is begun.
        """
        self._specs = dict(specs)
        self._starts: dict[str, int] = {}
        size = 0
        for name, spec in self._specs.items():
            self._starts[name] = size
            size += -(-spec.bytes // _ALIGNED) * _ALIGNED
        self.row_bytes = max(size, _ALIGNED)
        self._most = max(0, budget // (self.row_bytes * CHUNK)) * CHUNK  # rows in memory
        self._chunks: list[NDArray[np.uint8]] = []
        self._file: IO[bytes] | None = None
        self._slots: dict[str, int] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._slots)

    @property
    def in_memory(self) -> int:
        """Bytes of the rows that lie in memory."""
        return sum(chunk.nbytes for chunk in self._chunks)

    def missing(self, ids: Sequence[str]) -> list[str]:
        """Those that are not here."""
        slots = self._slots
        return [name for name in ids if name not in slots]

    def add(self, ids: Sequence[str], arrays: Arrays) -> None:
        """Take rows in; those that are here stay as they are.

        Raises:
            StorageError: no room for the file.
        """
        with self._lock:
            new = [place for place, name in enumerate(ids) if name not in self._slots]
            if not new:
                return
            packed = self._packed(arrays, new)
            first = len(self._slots)
            for number, row in enumerate(packed):
                self._write(first + number, row)
            # Told last: a reader never sees a slot that is not filled.
            self._slots |= {ids[place]: first + number for number, place in enumerate(new)}

    def fetch(self, ids: Sequence[str]) -> dict[str, Tensor]:
        """The arrays of some rows, in the order given, as tensors.

        Raises:
            KeyError: one is not here.
        """
        slots = np.array([self._slots[name] for name in ids], dtype=np.int64)
        rows = np.empty((len(ids), self.row_bytes), dtype=np.uint8)
        inside = slots < self._most
        chunks, places = slots // CHUNK, slots % CHUNK
        for number in np.unique(chunks[inside]).tolist():
            here = np.flatnonzero(chunks == number)
            rows[here] = self._chunks[number][places[here]]
        for place in np.flatnonzero(~inside).tolist():
            self._read(int(slots[place]), rows[place])
        return self._unpacked(torch.from_numpy(rows))

    def close(self) -> None:
        """Let go of everything."""
        with self._lock:
            self._slots, self._chunks = {}, []
            if self._file is not None:
                self._file.close()

    def _packed(self, arrays: Arrays, places: list[int]) -> NDArray[np.uint8]:
        rows = np.zeros((len(places), self.row_bytes), dtype=np.uint8)
        for name, spec in self._specs.items():
            flat = np.ascontiguousarray(arrays[name][places]).reshape(len(places), -1)
            start = self._starts[name]
            rows[:, start : start + spec.bytes] = flat.view(np.uint8)
        return rows

    def _unpacked(self, rows: Tensor) -> dict[str, Tensor]:
        found = {}
        for name, spec in self._specs.items():
            start = self._starts[name]
            part = rows[:, start : start + spec.bytes]
            kind = getattr(torch, "bool" if spec.type == "bool" else spec.type)
            found[name] = part.view(kind).reshape(len(rows), *spec.shape)
        return found

    def _write(self, slot: int, row: NDArray[np.uint8]) -> None:
        if slot < self._most:
            if slot // CHUNK == len(self._chunks):
                self._chunks.append(np.empty((CHUNK, self.row_bytes), dtype=np.uint8))
            self._chunks[slot // CHUNK][slot % CHUNK] = row
            return
        try:
            if self._file is None:
                # It has no name: the system removes it with the process, however that ends.
                self._file = tempfile.TemporaryFile(prefix="visavis-", buffering=0)  # noqa: SIM115
                weakref.finalize(self, self._file.close)
            self._file.seek((slot - self._most) * self.row_bytes)
            self._file.write(row.tobytes())
        except OSError as error:
            raise storage_error(_temporary(), error) from error

    def _read(self, slot: int, row: NDArray[np.uint8]) -> None:
        if self._file is None:
            raise ValueError("a slot beyond the rows in memory, and no file")
        place = (slot - self._most) * self.row_bytes
        if hasattr(os, "preadv"):  # no lock: the file's position is not used
            os.preadv(self._file.fileno(), [row.data], place)
            return
        with self._lock:
            self._file.seek(place)
            row[:] = np.frombuffer(self._file.read(self.row_bytes), dtype=np.uint8)


def _temporary() -> Path:
    return Path(tempfile.gettempdir())
