"""Regions without any download: segmentation for boxes, hand-made descriptors for vectors.

Weaker than a pretrained network on photographs, but exact on flat colours and simple shapes, and
it runs wherever NumPy and scikit-image run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from PIL import Image

from visavis.config import plain
from visavis.data.features import FeatureIdentity
from visavis.extract.base import Regions
from visavis.extract.descriptors import DIM, describe, pixel_maps
from visavis.extract.proposals import propose
from visavis.extract.weights import Machine, digest_of

_VERSION = 1  # raise it when boxes or vectors change: stored ones no longer compare


@dataclass(frozen=True, kw_only=True)
class ClassicConfig:
    """Options of the `classic` extractor."""

    regions: int = 36
    cells: int = 4  # the last regions are the cells of a grid of so many cells on a side
    working_side: int = 144  # pictures are looked at in this size (longest side, pixels)

    def __post_init__(self) -> None:
        if self.cells < 0 or self.regions < self.cells**2 + 2:
            raise ValueError(
                f"{self.regions} regions do not hold a grid of {self.cells} x {self.cells} cells, "
                "the whole picture and something found"
            )
        if not 48 <= self.working_side <= 640:
            raise ValueError(f"working_side is {self.working_side}, expected 48 to 640")


class ClassicExtractor:
    """Tight boxes around what stands out, then a grid; colour, shape, gradients, texture, place."""

    config_type: ClassVar[type] = ClassicConfig

    def __init__(self, config: ClassicConfig, machine: Machine | None = None) -> None:
        self.config = config
        options = plain(config)
        self.identity = FeatureIdentity(
            extractor="classic", options=options, digest=digest_of(options, [str(_VERSION)])
        )

    @property
    def dim(self) -> int:
        """Width D of a region vector."""
        return DIM

    @property
    def max_regions(self) -> int:
        """The number of regions that every picture gives."""
        return self.config.regions

    def extract(self, pictures: Sequence[Image.Image]) -> list[Regions]:
        """Regions of each picture. Pictures are RGB, already turned upright."""
        return [self._one(picture) for picture in pictures]

    def _one(self, picture: Image.Image) -> Regions:
        from skimage.color import rgb2lab

        scale = self.config.working_side / max(picture.size)
        # At least 16 pixels: a strip of a picture still has a grid of cells.
        width, height = (max(16, round(side * scale)) for side in picture.size)
        small = picture.convert("RGB").resize((width, height), Image.Resampling.BICUBIC)
        rgb = np.asarray(small)
        lab = rgb2lab(rgb).astype(np.float32)
        found = propose(lab, self.config.regions, self.config.cells)
        maps = pixel_maps(rgb, lab)
        vectors = describe(maps, found.boxes, found.labels, found.members)
        return Regions(vectors=vectors, boxes=found.boxes, size=picture.size)
