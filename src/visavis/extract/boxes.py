"""Boxes, as fractions of width and height: grids, overlap, suppression, means over feature maps."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


def grid_boxes(rows: int, columns: int) -> Array:
    """The cells of an even grid, row by row: (rows * columns, 4).

    >>> grid_boxes(1, 2).tolist()
    [[0.0, 0.0, 0.5, 1.0], [0.5, 0.0, 1.0, 1.0]]
    """
    y, x = np.divmod(np.arange(rows * columns), columns)
    edges = [x / columns, y / rows, (x + 1) / columns, (y + 1) / rows]
    return np.stack(edges, axis=1).astype(np.float32)


def iou(first: Array, second: Array) -> Array:
    """Intersection over union of every box with every box: (A, 4), (B, 4) to (A, B)."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])  # (A, B, 2)
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    both = (high - low).clip(min=0).prod(axis=2)
    union = _area(first)[:, None] + _area(second)[None, :] - both
    overlap: Array = (both / np.maximum(union, 1e-12)).astype(np.float32)
    return overlap


def suppress(boxes: Array, scores: Array, threshold: float, keep: int) -> NDArray[np.int64]:
    """Greedy non-maximum suppression: indices of what stays, best first, at most `keep`.

    A box goes when it overlaps a better one that stays by more than `threshold` (IoU). Equal
    scores keep their order.
    """
    order = np.argsort(-scores, kind="stable")
    # What stays depends only on what is better, so the best few hundred are mostly enough.
    for tried in (order[: 16 * keep], order):
        kept = _greedy(boxes[tried], threshold, keep)
        if len(kept) == keep or len(tried) == len(order):
            break
    return tried[kept]


def _greedy(boxes: Array, threshold: float, keep: int) -> NDArray[np.int64]:
    """Positions of what stays of boxes in falling order of score."""
    alive = np.ones(len(boxes), dtype=bool)
    kept: list[int] = []
    while len(kept) < keep and alive.any():
        best = int(alive.argmax())
        kept.append(best)
        alive[best] = False
        rest = np.flatnonzero(alive)
        alive[rest] = iou(boxes[best : best + 1], boxes[rest])[0] <= threshold
    return np.array(kept, dtype=np.int64)


def region_means(feature_map: Array, boxes: Array, samples: int = 4) -> Array:
    """The mean over evenly spaced bilinear samples of a map inside each box.

    Samples lie at the middles of a `samples` x `samples` grid of the box; map values stand at the
    middles of their cells and the border is continued outwards (RoIAlign, He et al. 2017, with
    one bin). Bilinear weights of a grid are a product of a row and a column part, so the mean is
    one small matrix product.

    Args:
        feature_map: (C, h, w).
        boxes: (R, 4), fractions.
        samples: Samples per side.

    Returns:
        (R, C).
    """
    channels, height, width = feature_map.shape
    across = _sample_weights(boxes[:, 0], boxes[:, 2], width, samples)  # (R, w)
    down = _sample_weights(boxes[:, 1], boxes[:, 3], height, samples)  # (R, h)
    weights = (down[:, :, None] * across[:, None, :]).reshape(len(boxes), -1)  # (R, h * w)
    means: Array = (weights @ feature_map.reshape(channels, -1).T).astype(np.float32)
    return means


def _sample_weights(low: Array, high: Array, cells: int, samples: int) -> Array:
    """How much each of `cells` cells adds to the mean of bilinear samples along one side."""
    steps = (np.arange(samples, dtype=np.float32) + 0.5) / samples
    at = low[:, None] + (high - low)[:, None] * steps  # (R, samples)
    at = (at * cells - 0.5).clip(0, cells - 1)
    distance = np.abs(at[:, :, None] - np.arange(cells, dtype=np.float32))  # (R, samples, cells)
    weights: Array = (1 - distance).clip(min=0).mean(axis=1, dtype=np.float32)
    return weights


def _area(boxes: Array) -> Array:
    sides: Array = (boxes[:, 2:] - boxes[:, :2]).clip(min=0)
    area: Array = sides.prod(axis=1)
    return area
