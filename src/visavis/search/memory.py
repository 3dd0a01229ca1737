"""Rows in memory, for tests and for a few pictures."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from visavis.errors import IndexError_
from visavis.search.rows import Arrays, Record, Rows, Specs, check_arrays
from visavis.search.store import TOGETHER, StoreStats
from visavis.search.where import Condition


class MemoryStore:
    """Rows by id, in a dictionary that is never changed: a write makes another one."""

    def __init__(self, specs: Specs) -> None:
        self._specs = specs
        self._rows: dict[str, tuple[Record, Arrays]] = {}
        self._version = 0
        self._lock = threading.Lock()

    def put(self, rows: Rows) -> None:
        """Add or replace rows."""
        check_arrays(rows.arrays, self._specs)
        new = {
            record.id: (record, {name: array[place] for name, array in rows.arrays.items()})
            for place, record in enumerate(rows.records)
        }
        with self._lock:
            self._rows = {**self._rows, **new}
            self._version += 1

    def remove(self, ids: Sequence[str]) -> int:
        """Take rows out."""
        gone = {*ids}
        with self._lock:
            kept = {name: row for name, row in self._rows.items() if name not in gone}
            count = len(self._rows) - len(kept)
            self._rows = kept
            self._version += count > 0
        return count

    def records(self) -> list[Record]:
        """All records, sorted by id."""
        rows = self._rows
        return [rows[name][0] for name in sorted(rows)]

    def select(self, where: Condition) -> set[str]:
        """Ids of the rows for which a condition holds."""
        return {name for name, (record, _) in self._rows.items() if where.holds(record)}

    def read(self, ids: Sequence[str], names: Sequence[str]) -> Arrays:
        """Arrays of some rows."""
        return _stacked(self._rows, ids, names, self._specs)

    def scan(self, names: Sequence[str]) -> Iterator[tuple[list[str], Arrays]]:
        """Arrays of all rows."""
        rows = self._rows
        ids = list(rows)
        for start in range(0, len(ids), TOGETHER):
            part = ids[start : start + TOGETHER]
            yield part, _stacked(rows, part, names, self._specs)

    def nearest(
        self, name: str, vector: NDArray[np.float32], k: int, where: Condition | None = None
    ) -> list[tuple[str, float]]:
        """The largest inner products."""
        ids = sorted(self._rows if where is None else self.select(where))
        products = _stacked(self._rows, ids, [name], self._specs)[name] @ vector
        order = np.argsort(-products, kind="stable")[:k]
        return [(ids[place], float(products[place])) for place in order]

    def version(self) -> int:
        """How many writes there were."""
        return self._version

    def stats(self) -> StoreStats:
        """Memory instead of disk."""
        each = sum(spec.bytes for spec in self._specs.values())
        return StoreStats(len(self._rows), len(self._rows) * each, 1, 1)

    def compact(self) -> None:
        """Nothing: there is one version."""

    def close(self) -> None:
        """Nothing is open."""


def _stacked(
    rows: dict[str, tuple[Record, Arrays]], ids: Sequence[str], names: Sequence[str], specs: Specs
) -> Arrays:
    missing = [name for name in ids if name not in rows]
    if missing:
        raise IndexError_(f"{missing[0]!r} is not in the index")
    made: Arrays = {}
    for name in names:
        spec = specs[name]
        made[name] = np.empty((len(ids), *spec.shape), dtype=spec.type)
        for place, item in enumerate(ids):
            made[name][place] = rows[item][1][name]
    return made
