"""Folders of precomputed features as SCAN published them: `SPLIT_{ims.npy,caps.txt,ids.txt}`.

    SPLIT_ims.npy       (rows, R, D) region vectors
    SPLIT_caps.txt      one caption a line, UTF-8; captions of one image follow each other
    SPLIT_ids.txt       optional: the image id of each row of `ims`, or of each caption
    SPLIT_ims_bbx.npy   optional: (rows, R, 4) boxes in pixels, with
    SPLIT_ims_size.npy  (rows, 2) width and height

Which captions belong to which image:

- As many captions as rows: each caption has a row of its own (published dev and test files repeat
  every row five times). More captions than rows: each row has the same number of consecutive
  captions (published train files). This is the published rule `c // im_div` for any number of
  captions per image; its `5` is nowhere assumed.
- Rows with the same id are one image. Its vectors are taken from the first of them, so an image
  is encoded once.
- When there is an id for each caption instead of each row, the ids group the captions; then
  images may have different numbers of captions.
- Without ids, consecutive rows with equal vectors are one image, which gives the published reading
  of the published files; when the groups so found differ in size nothing is guessed.

Image ids are those of the file. When a split shares ids with another one (published `test` is a
part of `testall`) all ids of the second are written `SPLIT/ID`; `testall` comes before `test`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from visavis.data.corpus import Corpus
from visavis.data.draft import BYTES_FAULT, Draft, Faults, Refuse, is_printed_bytes
from visavis.data.feature_files import (
    check_finite,
    check_rows,
    open_vectors,
    precomputed_identity,
    read_lines,
)
from visavis.data.features import FeatureIdentity
from visavis.data.precomp_boxes import PixelBoxes, open_boxes
from visavis.errors import DataError
from visavis.types import ImageBatch

_ORDER = ("train", "restval", "dev", "val", "test", "testall")  # others follow by name
_COMPARED = 64  # leading numbers of a row that tell two images apart


@dataclass(frozen=True, kw_only=True, eq=False)
class PrecompSplit:
    """One split of a folder: which row and which caption belongs to which image."""

    name: str
    vectors_file: Path
    vectors: NDArray[Any]  # (rows, R, D)
    image_keys: tuple[str, ...]  # N, the ids of the file
    image_of_row: NDArray[np.int64]  # (rows,)
    row_of_caption: NDArray[np.int64]  # (M,)
    captions: tuple[str, ...]  # M
    boxes: PixelBoxes | None

    @property
    def first_rows(self) -> NDArray[np.int64]:
        """(N,) the row that an image's vectors are taken from."""
        return np.unique(self.image_of_row, return_index=True)[1].astype(np.int64)

    @property
    def image_of_caption(self) -> NDArray[np.int64]:
        """(M,)."""
        return self.image_of_row[self.row_of_caption]


def read_precomp(folder: Path) -> Corpus:
    """Read the images and captions of a precomp folder; features are `PrecompFeatures(folder)`.

    Raises:
        DataError: a file is missing or damaged, captions do not fit the rows, or a caption is a
            printed bytes object.
    """
    return draft_precomp(folder, open_splits(folder, Refuse())).corpus()


def draft_precomp(folder: Path, splits: Sequence[PrecompSplit]) -> Draft:
    """Splits one after the other; feature rows count images, as `PrecompFeatures` does."""
    draft = Draft(name=folder.resolve().name)
    for split, ids in zip(splits, _unique_ids(splits), strict=True):
        first = len(draft.image_ids)
        draft.image_ids += ids
        draft.image_keys += split.image_keys
        draft.image_splits += [split.name] * len(ids)
        start = len(draft.texts)
        draft.texts += split.captions
        draft.sentence_ids += [f"{split.name}#{line}" for line in range(len(split.captions))]
        owners = (split.image_of_caption + first).tolist()
        draft.pairs += [(image, start + line) for line, image in enumerate(owners)]
    draft.rows = list(range(len(draft.image_ids)))
    return draft


def split_names(folder: Path) -> tuple[str, ...]:
    """Splits that have a caption file or a feature file, in the usual order."""
    found = {file.name.removesuffix("_caps.txt") for file in folder.glob("*_caps.txt")}
    found |= {file.name.removesuffix("_ims.npy") for file in folder.glob("*_ims.npy")}
    return tuple(sorted(found, key=lambda name: ((*_ORDER, name).index(name), name)))


def open_splits(folder: Path, faults: Faults) -> list[PrecompSplit]:
    """Every split of a folder that can be read; what cannot goes to `faults`."""
    names = split_names(folder)
    if not names:
        raise DataError(f"{folder}: no SPLIT_caps.txt with SPLIT_ims.npy in this folder")
    splits = []
    for name in names:
        try:
            splits.append(_open_split(folder, name, faults))
        except DataError as error:
            faults.add_error(error)
    return splits


class PrecompFeatures:
    """The vectors of a precomp folder, one row for each image, splits one after the other.

    The rows are those of `read_precomp(folder)`. Fewer regions in one split than in another are
    masked. Boxes are given when every image that is read has them.
    """

    def __init__(self, folder: Path) -> None:
        """Open a folder; captions and ids are read, vectors are not.

        Raises:
            DataError: as `read_precomp`, or vectors of different widths.
        """
        self._folder = folder
        self._splits = open_splits(folder, Refuse())
        self._ids = tuple(name for ids in _unique_ids(self._splits) for name in ids)
        counts = [len(split.image_keys) for split in self._splits]
        self._ends = np.cumsum(counts)
        self._first_rows = [split.first_rows for split in self._splits]
        self._regions = max(split.vectors.shape[1] for split in self._splits)
        for split in self._splits:
            if split.vectors.shape[2] != self.dim:
                raise DataError(
                    f"{split.vectors_file}: vectors of width {split.vectors.shape[2]}, but "
                    f"{self._splits[0].vectors_file.name} has {self.dim}"
                )

    def __reduce__(self) -> tuple[type[PrecompFeatures], tuple[Path]]:
        return PrecompFeatures, (self._folder,)

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def dim(self) -> int:
        """Width D of a region vector."""
        return int(self._splits[0].vectors.shape[2])

    @property
    def ids(self) -> Sequence[str]:
        """Image id of each row."""
        return self._ids

    @cached_property
    def identity(self) -> FeatureIdentity:
        """A hash of the headers and a sample of the rows of every split."""
        return precomputed_identity("precomp", [split.vectors for split in self._splits])

    def read(self, rows: NDArray[np.int64]) -> ImageBatch:
        """The images of some rows, in the order given.

        Raises:
            DataError: a row that is not there, a vector with NaN or infinity, boxes outside of
                their picture.
        """
        check_rows(rows, len(self), self._folder)
        regions = torch.zeros(len(rows), self._regions, self.dim)  # (N, R, D)
        mask = torch.zeros(len(rows), self._regions, dtype=torch.bool)
        boxes = torch.zeros(len(rows), self._regions, 4)
        boxed = True
        split_of = np.searchsorted(self._ends, rows, side="right")
        for index in np.unique(split_of).tolist():
            split = self._splits[index]
            places = np.flatnonzero(split_of == index)
            images = rows[places] - (self._ends[index] - len(split.image_keys))
            file_rows = self._first_rows[index][images]
            block = torch.from_numpy(split.vectors[file_rows]).to(torch.float32)
            check_finite(block, file_rows, split.vectors_file)
            regions[places, : block.shape[1]] = block
            mask[places, : block.shape[1]] = True
            if split.boxes is None:
                boxed = False
            else:
                boxes[places, : block.shape[1]] = split.boxes.read(file_rows, images)
        return ImageBatch(regions, mask, boxes if boxed else None)


def _open_split(folder: Path, name: str, faults: Faults) -> PrecompSplit:
    vectors_file, captions_file = folder / f"{name}_ims.npy", folder / f"{name}_caps.txt"
    for file, other in ((vectors_file, captions_file), (captions_file, vectors_file)):
        if not file.is_file():
            raise DataError(f"{file}: no such file beside {other.name}; add it, or remove both")
    vectors = open_vectors(vectors_file)
    if vectors.dtype == np.int8:
        raise DataError(f"{vectors_file}: int8 vectors, expected float32 or float16")
    captions = tuple(read_lines(captions_file))
    for line, caption in enumerate(captions, start=1):
        if is_printed_bytes(caption):
            faults.add(f"{captions_file}, line {line}", BYTES_FAULT)
    keys, image_of_row, row_of_caption = _layout(folder, name, vectors, len(captions))
    return PrecompSplit(
        name=name,
        vectors_file=vectors_file,
        vectors=vectors,
        image_keys=keys,
        image_of_row=image_of_row,
        row_of_caption=row_of_caption,
        captions=captions,
        boxes=open_boxes(folder, name, vectors.shape[:2], len(keys)),
    )


_Numbers = NDArray[np.int64]


def _layout(
    folder: Path, name: str, vectors: NDArray[Any], captions: int
) -> tuple[tuple[str, ...], _Numbers, _Numbers]:
    """Image ids (N), image of each row, row of each caption: the rules of this module's head."""
    ids_file = folder / f"{name}_ids.txt"
    rows = len(vectors)
    if not ids_file.is_file():
        row_of_caption = _rows_of_captions(folder, name, rows, captions)
        images = _equal_neighbours(folder, name, vectors) if rows == captions else np.arange(rows)
        keys = tuple(f"{name}/{image}" for image in range(int(images[-1]) + 1))
        return keys, images.astype(np.int64), row_of_caption
    ids = read_lines(ids_file)
    keys, image_of_id = _grouped(ids)
    if len(ids) == rows:
        return keys, image_of_id, _rows_of_captions(folder, name, rows, captions)
    if len(ids) == captions and len(keys) == rows:
        return keys, np.arange(rows, dtype=np.int64), image_of_id
    raise DataError(
        f"{ids_file}: {len(ids)} ids ({len(keys)} different) for {rows} feature rows and "
        f"{captions} captions; write one id for each row"
    )


def _rows_of_captions(folder: Path, name: str, rows: int, captions: int) -> _Numbers:
    per_row, rest = divmod(captions, rows)
    if rest or not per_row:
        raise DataError(
            f"{folder / name}_caps.txt: {captions} captions do not fit the {rows} rows of "
            f"{name}_ims.npy; expected one caption for each row, or the same number for each"
        )
    return np.arange(captions, dtype=np.int64) // per_row


def _grouped(ids: Sequence[str]) -> tuple[tuple[str, ...], _Numbers]:
    """Different ids in order of appearance, and which of them each entry is."""
    places = {key: place for place, key in enumerate(dict.fromkeys(ids))}
    return tuple(places), np.array([places[key] for key in ids], dtype=np.int64)


def _equal_neighbours(folder: Path, name: str, vectors: NDArray[Any]) -> _Numbers:
    """Number of the image of each row when consecutive rows with equal vectors are one image."""
    heads = np.array(vectors.reshape(len(vectors), -1)[:, :_COMPARED])
    starts = np.flatnonzero(np.append(True, (heads[1:] != heads[:-1]).any(axis=1)))
    sizes = np.diff(np.append(starts, len(vectors)))
    if len(np.unique(sizes)) > 1:
        raise DataError(
            f"{folder / name}_ims.npy: rows repeat {sizes.min()} to {sizes.max()} times, so which "
            f"captions share an image is not known; add {name}_ids.txt with one id for each row"
        )
    return np.repeat(np.arange(len(starts)), sizes)


def _unique_ids(splits: Sequence[PrecompSplit]) -> list[list[str]]:
    """Image ids of each split, prefixed where an earlier split has one of them already."""
    taken: set[str] = set()
    named: dict[str, list[str]] = {}
    for split in sorted(splits, key=lambda split: split.name == "test"):
        prefix = "" if taken.isdisjoint(split.image_keys) else f"{split.name}/"
        named[split.name] = [prefix + key for key in split.image_keys]
        taken.update(split.image_keys)
    return [named[split.name] for split in splits]
