"""How a feature store lies on disk: a folder of shards.

    store.json            format version, extractor, widths, list of shards with their checksums
    shard-00000/          one shard, put in place in a single step
        shard.json        image ids, and the SHA-256 of each array below
        vectors.npy       (T, D) float16, the regions of the images one after the other
        boxes.npy         (T, 4) float32 x1 y1 x2 y2 as fractions of width and height
        counts.npy        (N,) int32, how many of the T regions each image has
        sizes.npy         (N, 2) int32, width and height in pixels

A shard is there wholly or not at all, so whatever moment a writer dies at, the shards that stand
are good and the next writer goes on behind them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visavis.data.feature_files import STORE_FILE, open_array
from visavis.data.features import FeatureIdentity
from visavis.errors import DataError
from visavis.files import read_json

FORMAT = 1
_SHARD = re.compile(r"shard-\d+")
ARRAYS = ("vectors", "boxes", "counts", "sizes")


@dataclass(frozen=True, kw_only=True)
class StoreInfo:
    """What `store.json` says."""

    identity: FeatureIdentity
    dim: int
    max_regions: int
    finished: bool
    shards: Mapping[str, str]  # name of a shard: SHA-256 of its shard.json
    skipped: Mapping[str, str]  # image id: reason

    def plain(self) -> dict[str, object]:
        """For JSON."""
        return {
            "format": FORMAT,
            "extractor": self.identity.extractor,
            "options": self.identity.options,
            "digest": self.identity.digest,
            "dim": self.dim,
            "max_regions": self.max_regions,
            "finished": self.finished,
            "shards": dict(self.shards),
            "skipped": dict(self.skipped),
        }


class Shard:
    """One shard, opened."""

    def __init__(self, folder: Path, dim: int) -> None:
        self.folder = folder
        self.ids, self.checksums = read_shard(folder)
        self.arrays: dict[str, NDArray[Any]] = {
            name: open_array(folder / f"{name}.npy") for name in ARRAYS
        }
        counts = np.asarray(self.arrays["counts"], dtype=np.int64)
        self._starts = np.cumsum(counts) - counts
        self._counts = counts
        total = int(counts.sum())
        wanted = ((total, dim), (total, 4), (len(self.ids),), (len(self.ids), 2))
        for name, shape in zip(ARRAYS, wanted, strict=True):
            if self.arrays[name].shape != shape:
                raise DataError(
                    f"{folder / name}.npy: shape {self.arrays[name].shape}, expected {shape}; "
                    "delete the store and extract again"
                )

    def locate(
        self, rows: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """For every region of some rows: which of the rows, which region of it, where it lies."""
        counts = self._counts[rows]
        image = np.repeat(np.arange(len(rows)), counts)
        region = np.arange(len(image)) - np.repeat(np.cumsum(counts) - counts, counts)
        return image, region, self._starts[rows][image] + region


def read_info(folder: Path) -> StoreInfo:
    """What `store.json` of a folder says.

    Raises:
        DataError: no store, one of a newer format, or a damaged file.
    """
    file = folder / STORE_FILE
    if not file.is_file():
        raise DataError(f"{folder}: no feature store ({STORE_FILE} is missing)")
    content = read_json(file)
    version = content.get("format") if isinstance(content, dict) else None
    if not isinstance(version, int):
        raise DataError(f"{file}: not written by a feature store; no format version")
    if version > FORMAT:
        raise DataError(
            f"{file}: written in format {version} by a newer visavis; this one reads up to "
            f"{FORMAT}, update it"
        )
    try:
        shards = {str(name): str(checksum) for name, checksum in content["shards"].items()}
        if not all(_SHARD.fullmatch(name) for name in shards):
            raise ValueError("a name that is no shard's")  # noqa: TRY301
        return StoreInfo(
            identity=FeatureIdentity(
                extractor=str(content["extractor"]),
                options=dict(content["options"]),
                digest=str(content["digest"]),
            ),
            dim=int(content["dim"]),
            max_regions=int(content["max_regions"]),
            finished=bool(content["finished"]),
            shards=shards,
            skipped=dict(content["skipped"]),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{file}: damaged ({error}); delete the store and extract again") from error


def read_shard(folder: Path) -> tuple[list[str], dict[str, str]]:
    """Image ids and checksums of a shard.

    Raises:
        DataError: the file is missing or damaged.
    """
    file = folder / "shard.json"
    content = read_json(file)
    try:
        return [str(name) for name in content["ids"]], dict(content["sha256"])
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{file}: damaged ({error}); delete the store and extract again") from error
