"""The protocol of tables that hold rows. Every implementation passes the same tests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from visavis.search.rows import Arrays, Record, Rows
from visavis.search.where import Condition

TOGETHER = 512  # rows that are read or written at once


@dataclass(frozen=True, slots=True)
class StoreStats:
    """How a table lies on disk."""

    rows: int
    bytes: int
    versions: int
    fragments: int


class VectorStore(Protocol):
    """Rows by id. What a write returned from is kept, whatever happens to the process."""

    def put(self, rows: Rows) -> None:
        """Add rows; those whose id is there already take its place. All of them or none.

        Raises:
            IndexError_: arrays that are not as the table's.
            StorageError: no room, or no right to write.
        """
        ...

    def remove(self, ids: Sequence[str]) -> int:
        """Take rows out; returns how many there were."""
        ...

    def records(self) -> list[Record]:
        """All records, sorted by id, each once."""
        ...

    def select(self, where: Condition) -> set[str]:
        """Ids of the rows for which a condition holds."""
        ...

    def read(self, ids: Sequence[str], names: Sequence[str]) -> Arrays:
        """Arrays of some rows, in the order given.

        Raises:
            IndexError_: an id that is not there.
        """
        ...

    def scan(self, names: Sequence[str]) -> Iterator[tuple[list[str], Arrays]]:
        """Arrays of all rows, some at a time, with their ids. One snapshot, in any order."""
        ...

    def nearest(
        self, name: str, vector: NDArray[np.float32], k: int, where: Condition | None = None
    ) -> list[tuple[str, float]]:
        """Ids of the rows whose vectors have the largest inner product with one, best first."""
        ...

    def version(self) -> int:
        """A number that is another one after every write, of this process or of others."""
        ...

    def stats(self) -> StoreStats:
        """How it lies on disk."""
        ...

    def compact(self) -> None:
        """Join fragments and drop old versions; rows stay as they are."""
        ...

    def close(self) -> None:
        """Let go of what is open."""
        ...
