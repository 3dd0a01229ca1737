"""Writing a feature store, so that no picture is ever extracted twice.

The layout is described in `store_format`.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from visavis.data.feature_files import STORE_FILE
from visavis.data.features import FeatureIdentity
from visavis.data.store_format import ARRAYS, StoreInfo, read_info, read_shard
from visavis.errors import DataError, StorageError
from visavis.files import atomic_path, sha256_of, write_json

_LARGEST = float(np.finfo(np.float16).max)


@dataclass(frozen=True, slots=True)
class _Item:
    """An image that waits for its shard."""

    image_id: str
    vectors: NDArray[np.float16]
    boxes: NDArray[np.float32]
    size: tuple[int, int]


class StoreWriter:
    """Adds images to a store; opening a folder that holds some goes on behind them.

    Images are safe when their shard is: every `shard_size` images, at `flush`, and at `close`.
    Used as a context manager it closes at the end, unless an error left the block: the store then
    stays unfinished with everything that was added.
    """

    def __init__(
        self,
        folder: Path,
        identity: FeatureIdentity,
        *,
        dim: int,
        max_regions: int,
        shard_size: int = 1024,
    ) -> None:
        """Begin a store, or go on with one.

        Raises:
            DataError: the folder holds other things, vectors of another extractor, or a store of
                a newer format.
            StorageError: the folder cannot be written.
        """
        self._folder = folder
        self._identity = identity
        self._dim = dim
        self._max_regions = max_regions
        self._shard_size = shard_size
        self._skipped: dict[str, str] = {}
        self._shards: dict[str, str] = {}
        self._done: set[str] = set()
        self._waiting: list[_Item] = []
        self._waiting_ids: set[str] = set()
        if (folder / STORE_FILE).is_file():
            self._resume()
        elif folder.is_dir() and any(folder.iterdir()):
            raise DataError(f"{folder}: holds other files; give an empty or a new folder")
        else:
            self._write_info(finished=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()
        elif not issubclass(kind, StorageError):
            self.flush()

    @property
    def done(self) -> Set[str]:
        """Ids of the images that are safely stored."""
        return self._done

    def add(
        self,
        image_id: str,
        vectors: NDArray[np.float32],
        boxes: NDArray[np.float32],
        size: tuple[int, int],
    ) -> None:
        """Take the regions of an image: (R, D) vectors, (R, 4) boxes, width and height.

        Raises:
            DataError: an id that is there already, wrong shapes, values that float16 cannot hold.
            StorageError: a full disk, when the image completes a shard.
        """
        if image_id in self._done or image_id in self._waiting_ids:
            raise DataError(f"{self._folder}: image {image_id!r} is in the store already")
        self._check(image_id, vectors, boxes)
        item = _Item(image_id, vectors.astype(np.float16), boxes.astype(np.float32), size)
        self._waiting.append(item)
        self._waiting_ids.add(image_id)
        self._skipped.pop(image_id, None)
        if len(self._waiting) >= self._shard_size:
            self.flush()

    def skip(self, image_id: str, reason: str) -> None:
        """Record that an image has no vectors; a later writer may try it again."""
        self._skipped[image_id] = reason

    def flush(self) -> None:
        """Make safe what was added so far.

        Raises:
            StorageError: a full disk; what was safe before still is.
        """
        if self._waiting:
            self._write_shard()
        self._write_info(finished=False)

    def close(self) -> None:
        """Make everything safe and mark the store finished: from now on it can be read.

        Raises:
            StorageError: a full disk; what was safe before still is.
        """
        if self._waiting:
            self._write_shard()
        self._write_info(finished=True)

    def _resume(self) -> None:
        info = read_info(self._folder)
        if _told(info.identity) != _told(self._identity):
            raise DataError(
                f"{self._folder}: holds vectors of {_named(info.identity)}, not of "
                f"{_named(self._identity)}; give another folder"
            )
        if (info.dim, info.max_regions) != (self._dim, self._max_regions):
            raise DataError(
                f"{self._folder}: holds up to {info.max_regions} vectors of width {info.dim} an "
                f"image, not {self._max_regions} of {self._dim}; give another folder"
            )
        self._skipped = dict(info.skipped)
        for leftover in self._folder.glob(".*.tmp"):  # of a writer that died
            if leftover.is_dir():
                shutil.rmtree(leftover, ignore_errors=True)
            else:
                leftover.unlink(missing_ok=True)
        # The folders tell what is safe: a writer may have died between a shard and store.json.
        for shard in sorted(self._folder.glob("shard-*")):
            self._done.update(read_shard(shard)[0])
            self._shards[shard.name] = sha256_of(shard / "shard.json")

    def _check(
        self, image_id: str, vectors: NDArray[np.float32], boxes: NDArray[np.float32]
    ) -> None:
        count = len(vectors)
        where = f"{self._folder}: image {image_id!r}"
        if not 0 < count <= self._max_regions or vectors.shape != (count, self._dim):
            raise DataError(
                f"{where}: vectors of shape {vectors.shape}, expected 1 to {self._max_regions} "
                f"of width {self._dim}"
            )
        if boxes.shape != (count, 4):
            raise DataError(f"{where}: boxes of shape {boxes.shape}, expected ({count}, 4)")
        if not np.isfinite(boxes).all() or not (np.abs(vectors) <= _LARGEST).all():
            raise DataError(f"{where}: NaN, infinity or a number beyond {_LARGEST:.0f}")

    def _write_shard(self) -> None:
        number = 1 + max((int(shard.removeprefix("shard-")) for shard in self._shards), default=-1)
        name = f"shard-{number:05d}"
        target = self._folder / name
        if target.exists():
            raise StorageError(f"{target}: written by another process; run one at a time")
        with atomic_path(target) as folder:
            folder.mkdir(parents=True)
            for file, array in zip(ARRAYS, _arrays(self._waiting), strict=True):
                np.save(folder / f"{file}.npy", array)
            checksums = {file: sha256_of(folder / f"{file}.npy") for file in ARRAYS}
            ids = [item.image_id for item in self._waiting]
            write_json(folder / "shard.json", {"ids": ids, "sha256": checksums})
        self._shards[name] = sha256_of(target / "shard.json")
        self._done |= self._waiting_ids
        self._waiting, self._waiting_ids = [], set()

    def _write_info(self, *, finished: bool) -> None:
        info = StoreInfo(
            identity=self._identity,
            dim=self._dim,
            max_regions=self._max_regions,
            finished=finished,
            shards=self._shards,
            skipped=self._skipped,
        )
        write_json(self._folder / STORE_FILE, info.plain())


def _arrays(items: Sequence[_Item]) -> tuple[NDArray[np.generic], ...]:
    """Vectors, boxes, counts and sizes of a shard, in the order of `ARRAYS`."""
    return (
        np.concatenate([item.vectors for item in items]),
        np.concatenate([item.boxes for item in items]),
        np.array([len(item.vectors) for item in items], dtype=np.int32),
        np.array([item.size for item in items], dtype=np.int32),
    )


def _told(identity: FeatureIdentity) -> str:
    """The identity as JSON tells it: what was a tuple before writing is a list after reading."""
    return json.dumps([identity.extractor, identity.options, identity.digest], sort_keys=True)


def _named(identity: FeatureIdentity) -> str:
    return f"{identity.extractor} {json.dumps(identity.options)} ({identity.digest or 'no digest'})"
