"""Region vectors on disk behind one protocol: a feature store, or feature files as they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from visavis.types import ImageBatch


@dataclass(frozen=True, kw_only=True)
class FeatureIdentity:
    """Where vectors come from. A model reads only vectors of the identity it was trained on."""

    extractor: str  # name in the table of extractors, or `precomputed`
    options: dict[str, object] = field(default_factory=dict)  # what rebuilds the extractor
    digest: str = ""  # hash of the extractor's weights and options, or of the files' content


class Features(Protocol):
    """Region vectors of many images, memory-mapped: reading some rows reads only those rows."""

    @property
    def dim(self) -> int:
        """Width D of a region vector."""
        ...

    @property
    def identity(self) -> FeatureIdentity:
        """Where the vectors come from."""
        ...

    @property
    def ids(self) -> Sequence[str] | None:
        """Image id of each row, or None when only the position tells."""
        ...

    def __len__(self) -> int: ...

    def read(self, rows: NDArray[np.int64]) -> ImageBatch:
        """The images of some rows, in the order given: float32 vectors, mask, boxes if known.

        Raises:
            DataError: a vector holds NaN or infinity.
        """
        ...


@dataclass(frozen=True, slots=True, eq=False)
class MemoryFeatures:
    """Features of a few images, in memory."""

    images: ImageBatch
    identity: FeatureIdentity
    ids: Sequence[str] | None = None

    @property
    def dim(self) -> int:
        """Width D of a region vector."""
        return self.images.regions.shape[2]

    def __len__(self) -> int:
        return len(self.images)

    def read(self, rows: NDArray[np.int64]) -> ImageBatch:
        """The images of some rows, in the order given."""
        return self.images.select(torch.from_numpy(rows))
