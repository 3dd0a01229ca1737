"""The protocol between pictures and region vectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from visavis.data.features import FeatureIdentity


@dataclass(frozen=True, slots=True)
class Regions:
    """What an extractor finds in one picture."""

    vectors: NDArray[np.float32]  # (R, D)
    boxes: NDArray[np.float32]  # (R, 4) x1 y1 x2 y2 as fractions of width and height
    size: tuple[int, int]  # width and height of the picture, in pixels


class Extractor(Protocol):
    """Pictures to boxes and vectors."""

    @property
    def dim(self) -> int:
        """Width D of a region vector."""
        ...

    @property
    def max_regions(self) -> int:
        """The most regions R that one picture gives."""
        ...

    @property
    def identity(self) -> FeatureIdentity:
        """Name, options and hash: enough to rebuild the extractor, and to refuse other vectors."""
        ...

    def extract(self, pictures: Sequence[Image]) -> list[Regions]:
        """Regions of each picture. Pictures are RGB, already turned upright."""
        ...
