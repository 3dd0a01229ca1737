"""What readers see: the records and first-stage vectors of one version of a table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from visavis.errors import IndexError_
from visavis.search.rows import Arrays, Record, Specs
from visavis.search.store import TOGETHER, VectorStore

BUDGET = 2**30  # bytes of vectors in memory; a larger table is asked itself
TRIES = 5  # while others write


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """One version of a table. It never changes; a refresh makes another one."""

    version: int
    records: tuple[Record, ...]  # N, sorted by id
    place_of: Mapping[str, int]
    # (N, P) of each space, in half precision: reading them is what the first stage spends its time
    # on. Empty when they are beyond the budget.
    vectors: Mapping[str, Tensor]

    def __len__(self) -> int:
        return len(self.records)

    def ids(self, places: Sequence[int] | NDArray[np.int64]) -> list[str]:
        """The ids at some places."""
        return [self.records[place].id for place in places]


def take(
    store: VectorStore,
    specs: Specs,
    spaces: Sequence[str],
    before: Snapshot | None = None,
    *,
    budget: int = BUDGET,
) -> Snapshot:
    """The newest version.

    Args:
        store: the table.
        specs: arrays of its rows.
        spaces: names of the arrays of first-stage vectors.
        before: an older one: the vectors that it has are not read again.
        budget: bytes of vectors in memory.

    Raises:
        IndexError_: it cannot be read, or others write without a pause.
    """
    names = [name for name in dict.fromkeys(spaces) if name in specs]
    for _ in range(TRIES):
        version = store.version()
        records = tuple(store.records())
        held = sum(specs[name].bytes // 2 for name in names) * len(records)
        vectors = _vectors(store, specs, names, records, before) if held <= budget else {}
        if vectors is not None:
            place_of = {record.id: place for place, record in enumerate(records)}
            return Snapshot(version, records, place_of, vectors)
    raise IndexError_("the index changed each time it was read; try again")


def _vectors(
    store: VectorStore,
    specs: Specs,
    names: Sequence[str],
    records: Sequence[Record],
    before: Snapshot | None,
) -> dict[str, Tensor] | None:
    """The vectors of some records; None when one was taken out meanwhile."""
    place_of = {record.id: place for place, record in enumerate(records)}
    half = torch.float16
    arrays = {name: torch.zeros(len(records), *specs[name].shape, dtype=half) for name in names}
    missing = set(place_of) if names else set()
    if before is not None and before.vectors:
        known = [name for name in place_of if name in before.place_of]
        there = [before.place_of[name] for name in known]
        for name in names:
            arrays[name][[place_of[item] for item in known]] = before.vectors[name][there]
        missing.difference_update(known)
    for part, values in _read(store, missing, len(records), names):
        rows = [row for row, item in enumerate(part) if item in missing]
        for name in names:
            places = [place_of[part[row]] for row in rows]
            arrays[name][places] = torch.from_numpy(values[name][rows]).half()
        missing.difference_update(part)
    return None if missing else arrays


def _read(
    store: VectorStore, ids: set[str], total: int, names: Sequence[str]
) -> Iterator[tuple[list[str], Arrays]]:
    """Some rows one after the other, or all of them where most are wanted."""
    if not ids:
        return
    if 4 * len(ids) > total:
        yield from store.scan(names)
        return
    wanted = sorted(ids)
    for start in range(0, len(wanted), TOGETHER):
        part = wanted[start : start + TOGETHER]
        try:
            yield part, store.read(part, names)
        except IndexError_:  # taken out meanwhile: the caller begins again
            return
