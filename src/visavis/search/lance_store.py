"""Rows in a LanceDB table.

Commits are atomic and readers see whole versions. What is ours to do: joining fragments, dropping
old versions, one writer at a time in a folder, and trying again.
"""

from __future__ import annotations

import contextlib
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from visavis.errors import IndexError_, StorageError
from visavis.search.arrow import NUMBERS, TEXTS, array_of, empty, table_of
from visavis.search.rows import Arrays, Record, Rows, Specs, check_arrays
from visavis.search.store import TOGETHER, StoreStats
from visavis.search.where import Condition, any_of

T = TypeVar("T")

ALL = 2**31 - 1  # a limit that no table reaches
TRIES, PAUSE = 6, 0.2  # of a commit that met another one; of a read whose files were dropped
KEPT = timedelta(seconds=5)  # versions that readers may be in the middle of
ERRORS = (RuntimeError, OSError, ValueError)  # what lancedb raises, without a base of its own


class LanceStore:
    """Rows in a table."""

    def __init__(
        self,
        table: Any,  # noqa: ANN401  (no types)
        specs: Specs,
        lock: Callable[[], AbstractContextManager[None]] | None,
    ) -> None:
        self._table = table
        self._specs = specs
        self._lock = lock

    def put(self, rows: Rows) -> None:
        """Add or replace rows, in one commit."""
        check_arrays(rows.arrays, self._specs)
        data = table_of(rows, self._specs)
        ids = [record.id for record in rows.records]

        def write() -> None:
            self._table.checkout_latest()
            # With the lock held nobody else adds the same rows: appending is several times faster.
            if self._lock is not None and not self._known(ids):
                self._table.add(data)
                return
            merge = self._table.merge_insert("id").when_matched_update_all()
            merge.when_not_matched_insert_all().execute(data)

        with self._lock() if self._lock else contextlib.nullcontext():
            writing(self._table, write)

    def _known(self, ids: Sequence[str]) -> bool:
        where = any_of("id", ids).sql()
        return bool(self._table.count_rows(filter=where))

    def remove(self, ids: Sequence[str]) -> int:
        """Take rows out, in one commit."""
        if not ids:
            return 0

        def write() -> int:
            self._table.checkout_latest()
            return int(self._table.delete(any_of("id", ids).sql()).num_deleted_rows)

        with self._lock() if self._lock else contextlib.nullcontext():
            return writing(self._table, write)

    def records(self) -> list[Record]:
        """All records, sorted by id."""
        found = self._query([*TEXTS, *NUMBERS, "tags"])
        columns = {name: found.column(name).to_pylist() for name in found.column_names}
        columns["tags"] = [tuple(tags or ()) for tags in columns["tags"]]
        names, lists = tuple(columns), tuple(columns.values())
        made = (
            Record(**dict(zip(names, values, strict=True))) for values in zip(*lists, strict=True)
        )
        by_id = {record.id: record for record in made}
        return [by_id[name] for name in sorted(by_id)]

    def select(self, where: Condition) -> set[str]:
        """Ids of the rows for which a condition holds."""
        return {*self._query(["id"], where).column("id").to_pylist()}

    def read(self, ids: Sequence[str], names: Sequence[str]) -> Arrays:
        """Arrays of some rows."""
        made = {name: empty(len(ids), self._specs[name]) for name in names}
        for start in range(0, len(ids), TOGETHER):
            part = ids[start : start + TOGETHER]
            found = self._query(["id", *names], any_of("id", part))
            place_of = {name: row for row, name in enumerate(found.column("id").to_pylist())}
            missing = [name for name in part if name not in place_of]
            if missing:
                raise IndexError_(f"{missing[0]!r} is not in the index")
            rows = [place_of[name] for name in part]
            for name in names:
                array = array_of(found.column(name), self._specs[name])
                made[name][start : start + len(part)] = array[rows]
        return made

    def scan(self, names: Sequence[str]) -> Iterator[tuple[list[str], Arrays]]:
        """Arrays of all rows."""
        query = self._table.search().select(["id", *names]).limit(ALL)
        try:
            for batch in query.to_batches(batch_size=TOGETHER):
                found = pa.Table.from_batches([batch])
                arrays = {name: array_of(found.column(name), self._specs[name]) for name in names}
                yield found.column("id").to_pylist(), arrays
        except ERRORS as error:
            raise IndexError_(
                f"the index cannot be read to its end ({in_one_line(error)}); try again"
            ) from error

    def nearest(
        self, name: str, vector: NDArray[np.float32], k: int, where: Condition | None = None
    ) -> list[tuple[str, float]]:
        """The largest inner products."""

        def ask() -> pa.Table:
            query = self._table.search(vector, vector_column_name=name).distance_type("dot")
            if where is not None:
                query = query.where(where.sql(), prefilter=True)
            return query.select(["id", "_distance"]).limit(k).to_arrow()

        found = reading(self._table, ask)
        # The engine's distance is 1 - product.
        pairs = zip(
            found.column("id").to_pylist(), found.column("_distance").to_pylist(), strict=True
        )
        return [(item, 1.0 - float(distance)) for item, distance in pairs]

    def version(self) -> int:
        """The newest version that anyone has written."""

        def latest() -> int:
            self._table.checkout_latest()
            return int(self._table.version)

        return reading(self._table, latest)

    def stats(self) -> StoreStats:
        """How it lies on disk."""
        self.version()
        told = self._table.stats()
        versions = len(self._table.list_versions())
        fragments = int(told["fragment_stats"]["num_fragments"])
        return StoreStats(int(told["num_rows"]), int(told["total_bytes"]), versions, fragments)

    def compact(self) -> None:
        """Join fragments and drop old versions."""

        def write() -> None:
            self._table.checkout_latest()
            self._table.optimize(cleanup_older_than=KEPT)

        with self._lock() if self._lock else contextlib.nullcontext():
            writing(self._table, write)

    def close(self) -> None:
        """The library closes tables by itself."""

    def _query(self, columns: list[str], where: Condition | None = None) -> pa.Table:
        def ask() -> pa.Table:
            query = self._table.search().select(columns).limit(ALL)
            return (query if where is None else query.where(where.sql())).to_arrow()

        return reading(self._table, ask)


def reading(table: Any, ask: Callable[[], T]) -> T:  # noqa: ANN401  (no types)
    """Ask; once more when the version was dropped meanwhile."""
    for number in range(TRIES):
        try:
            return ask()
        except ERRORS as error:
            if number == TRIES - 1:
                raise IndexError_(f"the index cannot be read ({in_one_line(error)})") from error
            time.sleep(PAUSE * number)
            with contextlib.suppress(*ERRORS):
                table.checkout_latest()
    raise AssertionError("the last try returns or raises")


def writing(table: Any, write: Callable[[], T]) -> T:  # noqa: ANN401
    """Write; once more when another writer was first."""
    for number in range(TRIES):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # on dropping versions: we do mean it
                return write()
        except ERRORS as error:
            if "onflict" not in str(error) and "concurrent" not in str(error):
                raise write_error(error, str(table.name)) from error
            if number == TRIES - 1:
                raise StorageError(
                    f"{table.name}: other writers were faster {TRIES} times; try again"
                ) from error
            time.sleep(PAUSE * 2**number)
    raise AssertionError("the last try returns or raises")


def write_error(error: Exception, where: str) -> StorageError:
    """What went wrong while writing, said so that a user knows what to do."""
    text = str(error)
    if "os error 28" in text or "os error 122" in text:
        return StorageError(f"{where}: the disk is full; free some space and run the command again")
    return StorageError(f"{where}: cannot be written ({in_one_line(error)})")


def in_one_line(error: Exception) -> str:
    """The beginning of a message of many lines."""
    return " ".join(str(error).split())[:200]
