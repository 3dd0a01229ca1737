"""The feature store: vectors of every picture, written once, safely, and read where they lie.

`StoreWriter` fills a folder and goes on with one that is half filled; `FeatureStore` reads a
finished one. `store_format` describes the files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from visavis.data.feature_files import check_finite, check_rows
from visavis.data.features import FeatureIdentity
from visavis.data.store_format import ARRAYS, Shard, read_info
from visavis.data.store_writer import StoreWriter
from visavis.errors import DataError
from visavis.files import sha256_of
from visavis.types import ImageBatch

__all__ = ["FeatureStore", "StoreWriter"]


class FeatureStore:
    """Region vectors of a finished store, memory-mapped."""

    def __init__(self, folder: Path) -> None:
        """Open a store.

        Raises:
            DataError: no store, an unfinished one, one of a newer format, or a damaged one.
        """
        self._folder = folder
        self._info = read_info(folder)
        if not self._info.finished:
            raise DataError(f"{folder}: unfinished; run `visavis extract` again, it goes on")
        self._shards = [Shard(folder / name, self._info.dim) for name in self._info.shards]
        self._ids = tuple(name for shard in self._shards for name in shard.ids)
        self._ends = np.cumsum([len(shard.ids) for shard in self._shards], dtype=np.int64)

    def __reduce__(self) -> tuple[type[FeatureStore], tuple[Path]]:
        # A worker process opens the store again: pickled memory maps would carry all their bytes.
        return FeatureStore, (self._folder,)

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def dim(self) -> int:
        """Width D of a region vector."""
        return self._info.dim

    @property
    def max_regions(self) -> int:
        """The most regions R that one image has; what `read` pads to."""
        return self._info.max_regions

    @property
    def identity(self) -> FeatureIdentity:
        """The extractor that made the vectors."""
        return self._info.identity

    @property
    def ids(self) -> Sequence[str]:
        """Image id of each row."""
        return self._ids

    @cached_property
    def row_of(self) -> Mapping[str, int]:
        """The row of each image id."""
        return {name: row for row, name in enumerate(self._ids)}

    @property
    def skipped(self) -> Mapping[str, str]:
        """Images that have no vectors, and why."""
        return self._info.skipped

    @cached_property
    def sizes(self) -> NDArray[np.int32]:
        """(N, 2) width and height of each picture in pixels."""
        parts = [np.asarray(shard.arrays["sizes"]) for shard in self._shards]
        return np.concatenate([np.zeros((0, 2), dtype=np.int32), *parts])

    def read(self, rows: NDArray[np.int64]) -> ImageBatch:
        """The images of some rows, in the order given, padded to `max_regions`.

        Raises:
            DataError: a row that is not there, or a vector with NaN or infinity.
        """
        check_rows(rows, len(self), self._folder)
        regions = torch.zeros(len(rows), self.max_regions, self.dim)  # (N, R, D)
        boxes = torch.zeros(len(rows), self.max_regions, 4)
        mask = torch.zeros(len(rows), self.max_regions, dtype=torch.bool)
        shard_of = np.searchsorted(self._ends, rows, side="right")
        for index in np.unique(shard_of).tolist():
            shard = self._shards[index]
            places = np.flatnonzero(shard_of == index)
            inside = rows[places] - (self._ends[index] - len(shard.ids))
            image, region, flat = shard.locate(inside)
            target = (torch.from_numpy(places[image]), torch.from_numpy(region))
            regions[target] = torch.from_numpy(shard.arrays["vectors"][flat]).to(torch.float32)
            boxes[target] = torch.from_numpy(shard.arrays["boxes"][flat])
            mask[target] = True
        check_finite(regions, rows, self._folder)
        return ImageBatch(regions, mask, boxes)

    def verify(self) -> None:
        """Read every file and compare its checksum.

        Raises:
            DataError: files that are not as they were written, all of them named.
        """
        damaged = []
        for shard, checksum in zip(self._shards, self._info.shards.values(), strict=True):
            if sha256_of(shard.folder / "shard.json") != checksum:
                damaged.append(f"{shard.folder.name}/shard.json")
            for name in ARRAYS:
                if sha256_of(shard.folder / f"{name}.npy") != shard.checksums.get(name):
                    damaged.append(f"{shard.folder.name}/{name}.npy")
        if damaged:
            raise DataError(
                f"{self._folder}: damaged ({', '.join(damaged)}); delete the folder and "
                "extract again"
            )
