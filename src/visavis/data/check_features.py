"""The part of `check` that reads every feature row: NaN, infinity, and pictures in two splits."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visavis.data.draft import Collect, Draft
from visavis.data.feature_files import VECTOR_FILES, NpyFeatures, open_vectors
from visavis.data.precomp import PrecompSplit
from visavis.errors import DataError

_BLOCK = 32 * 2**20  # bytes that are in memory at a time


@dataclass(frozen=True, kw_only=True, eq=False)
class Source:
    """A feature file and whose rows it holds."""

    path: Path
    vectors: NDArray[Any]  # (rows, R, D)
    image_of_row: NDArray[np.int64]  # (rows,) image of the draft, -1 for none

    @staticmethod
    def of_split(split: PrecompSplit, draft: Draft) -> Source:
        """The feature file of a precomp split."""
        first = draft.image_splits.index(split.name)
        return Source(
            path=split.vectors_file, vectors=split.vectors, image_of_row=split.image_of_row + first
        )


def open_sources(draft: Draft, folder: Path, problems: Collect) -> list[Source]:
    """Feature files beside a corpus whose images know their rows."""
    found = [folder / name for name in VECTOR_FILES if (folder / name).is_file()]
    if not found:
        return []
    path = found[0]
    try:
        NpyFeatures(path)  # what stands beside the vectors must fit too
        vectors = open_vectors(path)
    except DataError as error:
        problems.add_error(error)
        return []
    image_of_row = np.full(len(vectors), -1, dtype=np.int64)
    for image, row in enumerate(draft.rows):
        if row >= len(vectors):
            problems.add(
                f"{path}: image {draft.image_ids[image]!r}",
                f"has a row beyond the last, there are {len(vectors)} rows",
            )
        elif image_of_row[row] >= 0:
            problems.add(
                f"{path}: image {draft.image_ids[image]!r}", "has the row of another image"
            )
        else:
            image_of_row[row] = image
    return [Source(path=path, vectors=vectors, image_of_row=image_of_row)]


def scan_sources(
    draft: Draft,
    sources: Sequence[Source],
    problems: Collect,
    notes: Collect,
    progress: Callable[[int, int], None],
) -> None:
    """Read every row once, in blocks; `progress` gets bytes done and bytes in all."""
    widths = {source.path.name: source.vectors.shape[2] for source in sources}
    if len(set(widths.values())) > 1:
        problems.add(draft.name, f"vectors of different widths ({_listed(widths)})")
    scan = _Scan(draft, problems, notes)
    total = sum(source.vectors.nbytes for source in sources)
    done = 0
    for source in sources:
        row_bytes = source.vectors.nbytes // len(source.vectors)
        step = max(1, _BLOCK // row_bytes)
        for start in range(0, len(source.vectors), step):
            block = np.ascontiguousarray(source.vectors[start : start + step])
            scan.add(source, start, block)
            done += block.nbytes
            progress(done, total)


@dataclass
class _Scan:
    """What was seen so far: a hash for each row, not the row."""

    draft: Draft
    problems: Collect
    notes: Collect
    _image_of: dict[bytes, int] = field(default_factory=dict)
    _digest_of: dict[int, bytes] = field(default_factory=dict)

    def add(self, source: Source, start: int, block: NDArray[Any]) -> None:
        """Look at the rows from `start` on: (rows, R, D)."""
        if block.dtype.kind == "f":
            finite = np.isfinite(block).reshape(len(block), -1).all(axis=1)
            for bad in np.flatnonzero(~finite).tolist():
                self.problems.add(
                    f"{source.path}: row {start + bad}", "a feature row holds NaN or infinity"
                )
        for row, vectors in enumerate(block, start=start):
            image = int(source.image_of_row[row])
            if image >= 0:
                digest = hashlib.blake2b(vectors, digest_size=16).digest()
                self._compare(f"{source.path}: row {row}", image, digest)

    def _compare(self, where: str, image: int, digest: bytes) -> None:
        if self._digest_of.setdefault(image, digest) != digest:
            self.problems.add(where, "rows of one image id hold different vectors")
            return
        other = self._image_of.setdefault(digest, image)
        keys, splits = self.draft.image_keys, self.draft.image_splits
        if keys[other] == keys[image]:
            return  # the same image again, or told by its id already
        where = f"{where} (images {keys[other]!r} and {keys[image]!r})"
        if splits[other] == splits[image] or {splits[other], splits[image]} == {"test", "testall"}:
            self.notes.add(where, "two images have the same vectors")
        else:
            both = " and in ".join(sorted((splits[other], splits[image]), key=splits.index))
            self.problems.add(where, f"the same vectors are in {both}: a leak")


def _listed(widths: dict[str, int]) -> str:
    return ", ".join(f"{name} {width}" for name, width in widths.items())
