"""Boxes from a detector, vectors from a feature map: what the learned extractors share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from visavis.errors import DataError
from visavis.extract.base import Regions
from visavis.extract.boxes import grid_boxes, region_means, suppress

Array = NDArray[np.float32]
PixelRange = Literal["0-255", "0-1", "imagenet"]
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_THINNEST = 1e-3  # of a side: a thinner box holds nothing


@dataclass(frozen=True, kw_only=True)
class PoolConfig:
    """How boxes become vectors."""

    grid: int = 4  # cells on a side of the grid that is added to the detector's boxes; 0: none
    samples: int = 4  # bilinear samples on a side of each box
    square_root: bool = True  # flattens the few large activations of a rectified map
    unit: bool = False  # scale every vector to length 1

    def __post_init__(self) -> None:
        if self.grid < 0 or self.samples < 1:
            raise ValueError(
                f"grid {self.grid} and samples {self.samples}: expected 0 and 1 or more"
            )


@dataclass(frozen=True, kw_only=True)
class KeepConfig:
    """Which of a detector's boxes are kept."""

    count: int = 20  # at most so many boxes
    score_threshold: float = 0.0  # boxes below are dropped: a picture may then have fewer regions
    nms_iou: float = 0.55  # of two boxes that overlap by more, the better one stays

    def __post_init__(self) -> None:
        if self.count < 1 or not 0 < self.nms_iou <= 1:
            raise ValueError(
                f"count {self.count} and nms_iou {self.nms_iou:g}: expected 1 or more, and 0 to 1"
            )


def pool_regions(
    pictures: Sequence[Image.Image],
    found: Sequence[Array],
    maps: Sequence[Array],
    config: PoolConfig,
) -> list[Regions]:
    """The boxes that were found, then the cells of a grid, each with the mean of the map inside.

    Args:
        pictures: N pictures.
        found: Boxes (B, 4) of each picture, best first, as fractions.
        maps: The map (C, h, w) of each picture; it covers the whole picture.
        config: How boxes become vectors.

    Raises:
        DataError: a vector holds NaN or infinity, or a picture got no region at all.
    """
    grid = grid_boxes(config.grid, config.grid)
    regions = []
    for picture, boxes, feature_map in zip(pictures, found, maps, strict=True):
        every = np.concatenate([boxes, grid])
        if len(every) == 0:
            raise DataError(
                "the detector found nothing in a picture and there is no grid; "
                "lower score_threshold or set grid to 1 or more"
            )
        vectors = _vectors(feature_map, every, config)
        if not np.isfinite(vectors).all():
            raise DataError("the backbone gave NaN or infinity; try other weights")
        regions.append(Regions(vectors=vectors, boxes=every, size=picture.size))
    return regions


def no_boxes(pictures: Sequence[Image.Image]) -> list[Array]:
    """What a missing detector finds in each picture."""
    return [np.zeros((0, 4), dtype=np.float32) for _ in pictures]


def max_regions(keep: KeepConfig | None, config: PoolConfig) -> int:
    """The most regions that a picture gets."""
    return (keep.count if keep else 0) + config.grid**2


def keep_best(boxes: Array, scores: Array, keep: KeepConfig) -> Array:
    """The best boxes without near doubles, cut to the picture: (B, 4), best first."""
    boxes = boxes.clip(0, 1)
    usable = (boxes[:, 2:] - boxes[:, :2] > _THINNEST).all(axis=1) & (
        scores >= keep.score_threshold
    )
    boxes, scores = boxes[usable], scores[usable]
    return boxes[suppress(boxes, scores, keep.nms_iou, keep.count)]


def pixel_batch(
    pictures: Sequence[Image.Image], size: int, pixels: PixelRange, *, bgr: bool = False
) -> Array:
    """Pictures stretched to a square, as a model wants their numbers: (n, 3, size, size)."""
    batch = np.empty((len(pictures), 3, size, size), dtype=np.float32)
    for row, picture in zip(batch, pictures, strict=True):
        square = picture.resize((size, size), Image.Resampling.BILINEAR, reducing_gap=2.0)
        row[:] = np.asarray(square, dtype=np.uint8).transpose(2, 0, 1)
    if bgr:
        batch = batch[:, ::-1]
    if pixels == "0-255":
        return np.ascontiguousarray(batch)
    mean, spread = IMAGENET if pixels == "imagenet" else ((0.0,) * 3, (1.0,) * 3)
    if bgr:
        mean, spread = mean[::-1], spread[::-1]
    return normalised(batch, mean, spread)


def normalised(batch: Array, mean: Sequence[float], spread: Sequence[float]) -> Array:
    """Values of 0 to 255 as (value / 255 - mean) / spread for each channel."""
    scale = (1 / (255 * np.array(spread))).astype(np.float32)[:, None, None]
    shift = (np.array(mean) / np.array(spread)).astype(np.float32)[:, None, None]
    result: Array = batch * scale - shift
    return result


def _vectors(feature_map: Array, boxes: Array, config: PoolConfig) -> Array:
    vectors = region_means(feature_map, boxes, config.samples)
    if config.square_root:
        vectors = np.sign(vectors) * np.sqrt(np.abs(vectors))
    if config.unit:
        vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-8)
    return vectors.astype(np.float32)
