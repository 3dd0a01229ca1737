"""Region vectors in `.npy` files, read where they lie, and the one door to every kind of features.

A file holds (rows, R, D) numbers: float16, float32, or int8 with a scale beside it (a vector is
then the integers times the scale). Beside `NAME.npy` (or `NAME_int8.npy`) these are picked up:

    NAME_scale.npy            (D,) or one number; needed for int8
    NAME_boxes.npy, boxes.npy (rows, R, 4) x1 y1 x2 y2 as fractions of width and height
    NAME_ids.txt, ids.txt     one image id a line; without it only the position tells
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from visavis.data.features import FeatureIdentity, Features
from visavis.errors import DataError
from visavis.types import ImageBatch

# File names that are taken for the vectors when a folder is given, in this order.
VECTOR_FILES = ("regions.npy", "regions_int8.npy", "features.npy", "features_int8.npy")
STORE_FILE = "store.json"  # what a feature store is recognised by
PRECOMP_FILES = "*_ims.npy"  # what a precomp folder is recognised by
_SAMPLES = 64  # rows that enter a digest: enough to tell two files apart, quick for 30 GB


def open_features(path: Path) -> Features:
    """Open features, whatever they are stored as: a store, `.npy` files or a precomp folder.

    Raises:
        DataError: nothing recognised, or what was recognised cannot be read.
    """
    if not path.exists():
        raise DataError(f"{path}: no such file or folder")
    if path.is_file():
        return NpyFeatures(path)
    if (path / STORE_FILE).is_file():
        from visavis.data.store import FeatureStore

        return FeatureStore(path)
    for name in VECTOR_FILES:
        if (path / name).is_file():
            return NpyFeatures(path / name)
    if any(path.glob(PRECOMP_FILES)):
        from visavis.data.precomp import PrecompFeatures

        return PrecompFeatures(path)
    raise DataError(
        f"{path}: no features here; looked for {STORE_FILE} (a feature store), "
        f"{', '.join(VECTOR_FILES)} and {PRECOMP_FILES} (a precomp folder)"
    )


class NpyFeatures:
    """Region vectors of one `.npy` file with what stands beside it."""

    def __init__(self, path: Path) -> None:
        """Open a file; nothing but its header is read.

        Raises:
            DataError: not a `.npy` file of region vectors, or a companion that does not fit.
        """
        self._path = path
        self._vectors = open_vectors(path)
        stem = path.stem.removesuffix("_int8")
        scale_file = path.with_name(f"{stem}_scale.npy")
        self._scale: Tensor | None = None
        if self._vectors.dtype == np.int8:
            self._scale = _scale(scale_file, self.dim)
        boxes_file = _first_of(path.with_name(f"{stem}_boxes.npy"), path.with_name("boxes.npy"))
        self._boxes = None if boxes_file is None else self._open_boxes(boxes_file)
        self._boxes_file = boxes_file
        ids_file = _first_of(path.with_name(f"{stem}_ids.txt"), path.with_name("ids.txt"))
        self._ids = None if ids_file is None else self._read_ids(ids_file)

    def __reduce__(self) -> tuple[type[NpyFeatures], tuple[Path]]:
        # A worker process opens the file again: a pickled memory map would carry all its bytes.
        return NpyFeatures, (self._path,)

    def __len__(self) -> int:
        return len(self._vectors)

    @property
    def dim(self) -> int:
        """Width D of a region vector."""
        return int(self._vectors.shape[2])

    @property
    def ids(self) -> Sequence[str] | None:
        """Image id of each row, or None when only the position tells."""
        return self._ids

    @cached_property
    def identity(self) -> FeatureIdentity:
        """The file's name, and a hash of its header, a sample of its rows and the scale."""
        parts = [self._vectors] if self._scale is None else [self._vectors, self._scale.numpy()]
        return precomputed_identity(self._path.stem, parts)

    def read(self, rows: NDArray[np.int64]) -> ImageBatch:
        """The images of some rows, in the order given.

        Raises:
            DataError: a row that is not there, a vector with NaN or infinity, boxes that are not
                fractions.
        """
        check_rows(rows, len(self), self._path)
        regions = torch.from_numpy(self._vectors[rows]).to(torch.float32)  # (N, R, D)
        if self._scale is None:
            check_finite(regions, rows, self._path)
        else:
            regions *= self._scale  # integers times a finite scale are finite
        boxes = None
        if self._boxes is not None and self._boxes_file is not None:
            boxes = torch.from_numpy(self._boxes[rows]).to(torch.float32)
            check_boxes(boxes, rows, self._boxes_file)
        mask = torch.ones(regions.shape[:2], dtype=torch.bool)
        return ImageBatch(regions, mask, boxes)

    def _open_boxes(self, file: Path) -> NDArray[Any]:
        boxes = open_array(file)
        wanted = (*self._vectors.shape[:2], 4)
        if boxes.shape != wanted or boxes.dtype.kind != "f":
            raise DataError(
                f"{file}: {boxes.dtype} of shape {boxes.shape}, expected floats of shape {wanted} "
                f"to go with {self._path.name}"
            )
        return boxes

    def _read_ids(self, file: Path) -> tuple[str, ...]:
        ids = tuple(read_lines(file))
        if len(ids) != len(self):
            raise DataError(
                f"{file}: {len(ids)} ids, but {self._path.name} has {len(self)} rows; "
                "write one id a line"
            )
        return ids


def open_array(path: Path) -> NDArray[Any]:
    """A `.npy` file as a read-only array in its place on disk; never unpickled.

    Raises:
        DataError: no such file, not a `.npy` file, cut short, or an array of objects.
    """
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path}: not a readable .npy array ({_one_line(error)})") from error
    if not isinstance(array, np.ndarray):
        raise DataError(f"{path}: an archive of arrays; expected one array, written by numpy.save")
    # A plain view of the same memory: slicing the memmap class itself is several times slower.
    return np.asarray(array)


def open_vectors(path: Path) -> NDArray[Any]:
    """A `.npy` file of region vectors, (rows, R, D) float or int8.

    Raises:
        DataError: it cannot be opened, or has another shape or type.
    """
    array = open_array(path)
    if array.ndim != 3 or 0 in array.shape:
        raise DataError(f"{path}: shape {array.shape}, expected (rows, regions, width)")
    if array.dtype not in (np.float16, np.float32, np.float64, np.int8):
        raise DataError(f"{path}: {array.dtype} vectors, expected float16, float32 or int8")
    return array


def precomputed_identity(name: str, arrays: Sequence[NDArray[Any]]) -> FeatureIdentity:
    """The identity of vectors that were made elsewhere.

    The name is no path: moving a file does not make other features of it.
    """
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        if array.ndim == 0:
            digest.update(array.tobytes())
            continue
        sampled = np.unique(np.linspace(0, len(array) - 1, _SAMPLES).astype(np.int64))
        for row in sampled:
            digest.update(np.ascontiguousarray(array[row]).tobytes())
    return FeatureIdentity(
        extractor="precomputed", options={"name": name}, digest=digest.hexdigest()[:16]
    )


def check_rows(rows: NDArray[np.int64], count: int, path: Path) -> None:
    """Refuse rows that are not there; numpy would take -1 for the last one.

    Raises:
        DataError: a row below 0 or beyond the last.
    """
    if rows.size and (rows.min() < 0 or rows.max() >= count):
        wrong = rows[(rows < 0) | (rows >= count)][0]
        raise DataError(f"{path}: row {wrong} asked for, but there are {count} rows")


def check_finite(regions: Tensor, rows: NDArray[np.int64], path: Path) -> None:
    """Refuse vectors with NaN or infinity; `rows` are what to call them, one for each image.

    Raises:
        DataError: such a vector; the message names its row.
    """
    # The sum is finite in all but the bad cases, and several times quicker than looking at each.
    if bool(torch.isfinite(regions.sum())):
        return
    bad = ~torch.isfinite(regions).flatten(1).all(dim=1)
    if bool(bad.any()):
        row = rows[int(bad.nonzero()[0])]
        raise DataError(f"{path}: row {row} holds NaN or infinity; extract its vectors again")


def check_boxes(boxes: Tensor, rows: NDArray[np.int64], path: Path) -> None:
    """Refuse boxes that are not fractions of width and height.

    Raises:
        DataError: such a box; the message names its row.
    """
    good = ((boxes >= -1e-2) & (boxes <= 1.01)).flatten(1).all(dim=1)  # NaN compares False
    if not bool(good.all()):
        row = rows[int((~good).nonzero()[0])]
        raise DataError(
            f"{path}: boxes of row {row} are not between 0 and 1; divide them by the picture's "
            "width and height"
        )


def read_lines(path: Path) -> list[str]:
    """The lines of a UTF-8 text file, stripped; the end of the last line starts no new one.

    Only a line feed ends a line: captions may hold other separators that `splitlines` cuts at.

    Raises:
        DataError: the file is missing or is not UTF-8.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: byte {error.start} is not UTF-8; save the file as UTF-8"
        ) from error
    return [line.strip() for line in text.removesuffix("\n").split("\n")] if text else []


def _scale(path: Path, dim: int) -> Tensor:
    if not path.is_file():
        raise DataError(f"{path}: no such file; int8 vectors need their scale, ({dim},) floats")
    scale = open_array(path)
    if scale.shape not in ((), (1,), (dim,)) or scale.dtype.kind != "f":
        raise DataError(
            f"{path}: {scale.dtype} of shape {scale.shape}, expected floats of shape ({dim},)"
        )
    if not np.isfinite(scale).all():
        raise DataError(f"{path}: holds NaN or infinity")
    return torch.from_numpy(scale.astype(np.float32))


def _first_of(*paths: Path) -> Path | None:
    return next((path for path in paths if path.is_file()), None)


def _one_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
