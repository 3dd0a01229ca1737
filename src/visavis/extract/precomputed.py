"""Feature files as they are, where an extractor is wanted: pictures are looked up by file name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePath
from typing import ClassVar

import numpy as np
from PIL import Image

from visavis.data.feature_files import open_features
from visavis.data.features import FeatureIdentity, Features
from visavis.errors import DataError
from visavis.extract.base import Regions
from visavis.extract.weights import Machine


@dataclass(frozen=True, kw_only=True)
class PrecomputedConfig:
    """Options of the `precomputed` extractor."""

    features: str  # folder or file with the vectors


class PrecomputedExtractor:
    """Gives the regions that were extracted elsewhere; it can say nothing of other pictures."""

    config_type: ClassVar[type] = PrecomputedConfig

    def __init__(self, config: PrecomputedConfig, machine: Machine | None = None) -> None:
        self._open(open_features(Path(config.features)))

    @classmethod
    def over(cls, features: Features) -> PrecomputedExtractor:
        """An extractor over features that are open already.

        Raises:
            DataError: the features do not name their images.
        """
        extractor = cls.__new__(cls)
        extractor._open(features)
        return extractor

    def _open(self, features: Features) -> None:
        if features.ids is None:
            raise DataError(
                "these features do not say which row belongs to which picture; "
                "write an ids.txt beside them, one file name for each row"
            )
        self._features = features
        first = np.zeros(1, dtype=np.int64)
        self._regions = features.read(first).mask.shape[1] if len(features) else 1

    @property
    def dim(self) -> int:
        """Width D of a region vector."""
        return self._features.dim

    @property
    def max_regions(self) -> int:
        """The most regions R that one picture gives."""
        return self._regions

    @property
    def identity(self) -> FeatureIdentity:
        """Where the vectors come from."""
        return self._features.identity

    def extract(self, pictures: Sequence[Image.Image]) -> list[Regions]:
        """The stored regions of pictures that `load_picture` read.

        Raises:
            DataError: a picture without a file name, or one that is not in the files.
        """
        rows = np.array([self._row(picture) for picture in pictures], dtype=np.int64)
        images = self._features.read(rows)
        found = []
        for index, picture in enumerate(pictures):
            real = images.mask[index]
            count = int(real.sum())
            boxes = (
                np.tile(np.array([0, 0, 1, 1], dtype=np.float32), (count, 1))
                if images.boxes is None
                else images.boxes[index][real].numpy()
            )
            vectors = images.regions[index][real].numpy()
            found.append(Regions(vectors=vectors, boxes=boxes, size=picture.size))
        return found

    @cached_property
    def _rows(self) -> dict[str, int]:
        """Rows by id, by file name and by file name without its ending, the exact ones first."""
        ids = self._features.ids or ()
        rows: dict[str, int] = {}
        for name_of in (str, lambda name: PurePath(name).name, lambda name: PurePath(name).stem):
            for row, name in enumerate(ids):
                rows.setdefault(name_of(name), row)
        return rows

    def _row(self, picture: Image.Image) -> int:
        name = str(picture.info.get("filename", ""))
        row = self._rows.get(name, self._rows.get(PurePath(name).stem) if name else None)
        if row is None:
            raise DataError(
                f"{name or 'a picture without a file name'}: not in the feature files; "
                "extract it with another extractor, then train and index with that"
            )
        return row
