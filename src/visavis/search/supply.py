"""Region vectors for the pictures of an index: made by an extractor, or stored with a corpus."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from visavis.data.corpus import Corpus
from visavis.data.feature_files import open_features
from visavis.data.features import FeatureIdentity, Features
from visavis.data.open import link, open_corpus
from visavis.errors import DataError
from visavis.extract.base import Extractor, Regions
from visavis.extract.pictures import read_picture
from visavis.extract.table import from_identity
from visavis.search.manifest import CorpusPlace, refuse_other_features
from visavis.types import ImageBatch

LARGEST = float(np.finfo(np.float16).max)


@dataclass(frozen=True, slots=True)
class Item:
    """A picture that belongs to an index."""

    root: str  # key of the root
    path: str  # relative to it
    file: Path | None
    name: str = ""  # id in its corpus
    row: int = -1  # in the features of its corpus
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Supplied:
    """Region vectors of those items that have some."""

    places: list[int]  # of the items
    images: ImageBatch | None  # None when there is no place
    skipped: list[tuple[int, str]]  # place and reason


class Supply(Protocol):
    """What has region vectors."""

    @property
    def sizes(self) -> tuple[int, int, bool]:
        """The most regions of a picture, the width of a vector, whether there are boxes."""
        ...

    def read(self, items: Sequence[Item]) -> Supplied:
        """Region vectors of some items; one without does not take the others with it."""
        ...


class ExtractorSupply:
    """Pictures are looked at."""

    def __init__(self, extractor: Extractor, *, workers: int = 1) -> None:
        self._extractor = extractor
        self._workers = max(1, workers)

    @property
    def sizes(self) -> tuple[int, int, bool]:
        """Those of the extractor."""
        return self._extractor.max_regions, self._extractor.dim, True

    def read(self, items: Sequence[Item]) -> Supplied:
        """Extract, pictures side by side."""
        with ThreadPoolExecutor(self._workers) as pool:
            found = list(pool.map(self._one, [item.file for item in items]))
        places = [place for place, one in enumerate(found) if isinstance(one, Regions)]
        regions = [one for one in found if isinstance(one, Regions)]
        skipped = [(place, one) for place, one in enumerate(found) if isinstance(one, str)]
        return Supplied(places, self._batch(regions) if regions else None, skipped)

    def one(self, path: Path) -> ImageBatch:
        """One picture that is in no index.

        Raises:
            DataError: it cannot be used.
        """
        found = self._one(path)
        if isinstance(found, str):
            raise DataError(found)
        return self._batch([found])

    def _one(self, path: Path | None) -> Regions | str:
        if path is None:
            return "no file"
        try:
            picture = read_picture(path)
            (found,) = self._extractor.extract([picture.image])
        except DataError as error:
            return str(error)
        if not (np.abs(found.vectors) <= LARGEST).all():
            return f"{path}: region vectors that half precision cannot hold"
        return found

    def _batch(self, found: Sequence[Regions]) -> ImageBatch:
        regions = torch.zeros(len(found), self._extractor.max_regions, self._extractor.dim)
        boxes = torch.zeros(len(found), self._extractor.max_regions, 4)
        mask = torch.zeros(len(found), self._extractor.max_regions, dtype=torch.bool)
        for place, one in enumerate(found):
            count = len(one.vectors)
            regions[place, :count] = torch.from_numpy(one.vectors)
            boxes[place, :count] = torch.from_numpy(one.boxes)
            mask[place, :count] = True
        return ImageBatch(regions, mask, boxes)


class CorpusSupply:
    """Vectors are there; rows of the corpus name them."""

    def __init__(self, corpus: Corpus, features: Features) -> None:
        self.corpus = corpus
        self._features = features

    @property
    def sizes(self) -> tuple[int, int, bool]:
        """Those of the first image."""
        first = self._features.read(np.zeros(1, dtype=np.int64))
        return first.mask.shape[1], self._features.dim, first.boxes is not None

    def read(self, items: Sequence[Item]) -> Supplied:
        """Read rows."""
        places = [place for place, item in enumerate(items) if item.row >= 0]
        skipped = [
            (place, f"{item.path}: not in the corpus, so it has no region vectors")
            for place, item in enumerate(items)
            if item.row < 0
        ]
        rows = np.array([items[place].row for place in places], dtype=np.int64)
        return Supplied(places, self._features.read(rows) if places else None, skipped)

    def items(self, key_of: dict[str, str]) -> list[Item]:
        """The pictures of the corpus.

        Args:
            key_of: key of each root by its folder.
        """
        if self.corpus.rows is None:
            raise TypeError("a linked corpus is needed")
        made = []
        pictures = self.corpus.pictures or (None,) * len(self.corpus.image_ids)
        rows = self.corpus.rows.tolist()
        for name, file, row in zip(self.corpus.image_ids, pictures, rows, strict=True):
            root, path = place_of(file, key_of) if file else (next(iter(key_of.values())), name)
            made.append(Item(root, path, file, name, row))
        return made


def place_of(file: Path, key_of: dict[str, str]) -> tuple[str, str]:
    """The root that a file lies in and its path below it.

    Raises:
        DataError: it lies in none.
    """
    resolved = file.parent.resolve() / file.name
    for folder, key in key_of.items():
        if resolved.is_relative_to(folder):
            return key, resolved.relative_to(folder).as_posix()
    raise DataError(f"{file}: lies in none of the folders of the index")


def open_extractor(
    identity: FeatureIdentity, weights: Path | None, *, device: str = "cpu", workers: int = 1
) -> ExtractorSupply:
    """What makes the vectors that a model reads.

    Raises:
        DataError: they come from files, or the extractor's weights are not there.
    """
    return ExtractorSupply(from_identity(identity, weights, device=device), workers=workers)


def open_corpus_supply(place: CorpusPlace, identity: FeatureIdentity) -> CorpusSupply:
    """The corpus that an index is built from, with its vectors.

    Raises:
        DataError: it cannot be read.
        IndexError_: its vectors are of another extractor than the model reads.
    """
    corpus = open_corpus(Path(place.data), place.name)
    features = open_features(Path(place.features))
    refuse_other_features(place.features, identity, features.identity)
    corpus = replace(corpus, rows=link(corpus, features))
    return CorpusSupply(corpus if place.split == "all" else corpus.split(place.split), features)


def padded(images: ImageBatch, regions: int) -> ImageBatch:
    """The same with room for a fixed number of regions.

    Raises:
        DataError: there are more.
    """
    count = images.mask.shape[1]
    if count == regions:
        return images
    if count > regions:
        raise DataError(f"{count} regions in a picture, the index has room for {regions}")

    def wider(tensor: torch.Tensor) -> torch.Tensor:
        room = tensor.new_zeros(len(tensor), regions, *tensor.shape[2:])
        room[:, :count] = tensor
        return room

    boxes = None if images.boxes is None else wider(images.boxes)
    return ImageBatch(wider(images.regions), wider(images.mask), boxes)


def spooled(data: bytes) -> Path:
    """Bytes as a file, for what reads files; the caller removes it."""
    handle, name = tempfile.mkstemp(prefix="visavis-", suffix=".picture")
    with os.fdopen(handle, "wb") as stream:
        stream.write(data)
    return Path(name)
