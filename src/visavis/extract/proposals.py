"""Boxes of things that stand out, found without learning: segments, their unions, a grid.

Segments are those of Felzenszwalb and Huttenlocher (IJCV 2004); neighbours are merged step by step
in order of likeness (selective search, Uijlings et al., IJCV 2013). Every box remembers the pixels
it was drawn around, so that a descriptor need not mix a thing with what lies behind it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from visavis.extract.boxes import grid_boxes, suppress

Array = NDArray[np.float32]
_BIGGEST = 0.7  # of the picture's area: a larger segment is taken for background
_SAME = 8.0  # Lab distance of neighbours that are one background
_SMALLEST = 5e-4  # of the picture's area, about 6 pixels of 128 x 96


@dataclass(frozen=True, slots=True)
class Proposals:
    """Boxes and the segments each was drawn around."""

    boxes: Array  # (R, 4) x1 y1 x2 y2 as fractions
    labels: NDArray[np.int64]  # (h, w) the segment of each pixel
    members: NDArray[np.bool_]  # (R, S) which segments belong to each box


@dataclass(frozen=True, slots=True)
class _Segments:
    """Sums over the pixels of S sets of segments, enough to merge two by adding."""

    members: NDArray[np.bool_]  # (S, segments)
    counts: Array  # (S,) pixels
    sums: Array  # (S, 3) of Lab
    boxes: NDArray[np.int64]  # (S, 4) x1 y1 x2 y2 in pixels, the far edges excluded

    def select(self, rows: NDArray[np.int64]) -> _Segments:
        """A copy of some sets."""
        return _Segments(self.members[rows], self.counts[rows], self.sums[rows], self.boxes[rows])

    def union(self, rows: NDArray[np.int64]) -> _Segments:
        """One set of all the segments in some sets."""
        low, high = self.boxes[rows, :2].min(axis=0), self.boxes[rows, 2:].max(axis=0)
        return _Segments(
            members=np.logical_or.reduce(self.members[rows], axis=0, keepdims=True),
            counts=self.counts[rows].sum()[None],
            sums=self.sums[rows].sum(axis=0)[None],
            boxes=np.concatenate([low, high])[None],
        )

    def merge(self, i: int, j: int) -> None:
        """Set i takes in set j, in place."""
        self.members[i] |= self.members[j]
        self.counts[i] += self.counts[j]
        self.sums[i] += self.sums[j]
        self.boxes[i, :2] = np.minimum(self.boxes[i, :2], self.boxes[j, :2])
        self.boxes[i, 2:] = np.maximum(self.boxes[i, 2:], self.boxes[j, 2:])


def propose(lab: Array, count: int, cells: int) -> Proposals:
    """The `count` best boxes: the whole picture, then what stands out, then a grid to fill up.

    Args:
        lab: (h, w, 3) CIE Lab.
        count: How many boxes.
        cells: The last boxes are the cells of a grid of so many cells on a side.
    """
    from skimage.segmentation import felzenszwalb

    height, width = lab.shape[:2]
    # Equal edges are common on flat colours and their order is up to the sort: far too small to
    # see, this makes them differ, in the same way on every machine (and sorting is faster).
    dither = np.random.default_rng(0).random((height, width, 1), dtype=np.float32) * 1e-5
    labels = felzenszwalb(
        lab / 100 + dither,
        scale=45.0,
        sigma=0.5,
        min_size=max(8, height * width // 700),
        channel_axis=2,
    ).astype(np.int64)
    segments = _with_unions(_measure(labels, lab), labels)
    sides = np.array([width, height, width, height], dtype=np.float32)
    boxes = (segments.boxes / sides).astype(np.float32)
    scores = _standing_out(segments, lab)
    fixed = _fixed_boxes(cells)
    wanted = count - cells * cells - 1
    usable = np.flatnonzero(scores > 0)
    found = usable[suppress(boxes[usable], scores[usable], 0.7, wanted)]
    missing = wanted - len(found)
    spare = fixed[: 1 + missing]  # the whole picture first
    grid = grid_boxes(cells, cells)
    whole = np.ones((1, segments.members.shape[1]), dtype=bool)
    return Proposals(
        boxes=np.concatenate([boxes[found], spare, grid]),
        labels=labels,
        members=np.concatenate(
            [segments.members[found], whole.repeat(len(spare) + len(grid), axis=0)]
        ),
    )


def _measure(labels: NDArray[np.int64], lab: Array) -> _Segments:
    segments = int(labels.max()) + 1
    height, width = labels.shape
    flat = labels.ravel()
    rows, columns = np.divmod(np.arange(flat.size), width)
    boxes = np.empty((segments, 4), dtype=np.int64)
    boxes[:, :2] = (width, height)
    boxes[:, 2:] = 0
    for side, values in ((0, columns), (1, rows)):
        np.minimum.at(boxes[:, side], flat, values)
        np.maximum.at(boxes[:, side + 2], flat, values + 1)
    sums = [np.bincount(flat, weights=lab[..., k].ravel(), minlength=segments) for k in range(3)]
    return _Segments(
        members=np.eye(segments, dtype=bool),
        counts=np.bincount(flat, minlength=segments).astype(np.float32),
        sums=np.stack(sums, axis=1).astype(np.float32),
        boxes=boxes,
    )


def _with_unions(start: _Segments, labels: NDArray[np.int64]) -> _Segments:
    """The segments and every union made while the two most alike neighbours are merged."""
    now = start.select(np.arange(len(start.counts)))  # row i becomes what i was merged into
    near = _neighbours(labels, len(start.counts))
    costs = np.where(near, _unlikeness(now, slice(None), slice(None)), np.inf)
    unions = [start, *_islands(start, near)]
    for _ in range(len(start.counts) - 1):
        i, j = divmod(int(costs.argmin()), len(costs))
        now.merge(i, j)
        near[i] |= near[j]
        near[:, i] |= near[:, j]
        near[i, i] = False
        near[j] = near[:, j] = False
        costs[j] = costs[:, j] = np.inf
        around = np.flatnonzero(near[i])
        costs[i, around] = costs[around, i] = _unlikeness(now, slice(i, i + 1), around)[0]
        unions.append(now.select(np.array([i])))
    return _Segments(
        members=np.concatenate([part.members for part in unions]),
        counts=np.concatenate([part.counts for part in unions]),
        sums=np.concatenate([part.sums for part in unions]),
        boxes=np.concatenate([part.boxes for part in unions]),
    )


def _islands(segments: _Segments, near: NDArray[np.bool_]) -> list[_Segments]:
    """What is left in one piece when the background is taken away: things of several colours.

    Background is the largest segment, and whatever goes on from it in almost the same colour.
    """
    means = segments.sums / segments.counts[:, None]
    smooth = near & (np.linalg.norm(means[:, None] - means[None], axis=2) < _SAME)
    background = np.zeros(len(means), dtype=bool)
    background[segments.counts.argmax()] = True
    while (grown := background | smooth[background].any(axis=0)).sum() > background.sum():
        background = grown
    return [segments.union(island) for island in _pieces(near, ~background)]


def _pieces(near: NDArray[np.bool_], inside: NDArray[np.bool_]) -> list[NDArray[np.int64]]:
    """The connected groups of two or more segments among those inside."""
    from scipy.sparse.csgraph import connected_components

    rows = np.flatnonzero(inside)
    count, group = connected_components(near[np.ix_(rows, rows)], directed=False)
    groups = (rows[group == k] for k in range(count))
    return [members for members in groups if len(members) > 1]


def _unlikeness(
    segments: _Segments, first: slice | NDArray[np.int64], second: slice | NDArray[np.int64]
) -> Array:
    """Distance in colour, and how much picture the merged box would take: (A, B)."""
    means = segments.sums / segments.counts[:, None]
    colour = np.linalg.norm(means[first, None] - means[None, second], axis=2)
    boxes = segments.boxes
    low = np.minimum(boxes[first, None, :2], boxes[None, second, :2])
    high = np.maximum(boxes[first, None, 2:], boxes[None, second, 2:])
    area = (high - low).prod(axis=2)
    cost: Array = (colour + 40.0 * area / segments.counts.sum()).astype(np.float32)
    return cost


def _neighbours(labels: NDArray[np.int64], segments: int) -> NDArray[np.bool_]:
    near = np.zeros((segments, segments), dtype=bool)
    for first, second in ((labels[:, :-1], labels[:, 1:]), (labels[:-1], labels[1:])):
        near[first.ravel(), second.ravel()] = True
    near |= near.T
    np.fill_diagonal(near, val=False)
    return near


def _standing_out(segments: _Segments, lab: Array) -> Array:
    """How far the colour inside is from the colour around, in a frame 2 pixels wider than the box.

    Larger things count somewhat more, things cut by the border less; background scores 0.
    """
    height, width = lab.shape[:2]
    low, high = segments.boxes[:, :2], segments.boxes[:, 2:]
    total = np.zeros((height + 1, width + 1, 3))
    total[1:, 1:] = lab.cumsum(axis=0, dtype=np.float64).cumsum(axis=1)
    x1, y1 = (low - 2).clip(min=0).T
    x2, y2 = np.minimum(high + 2, [width, height]).T
    frame = total[y2, x2] - total[y1, x2] - total[y2, x1] + total[y1, x1]  # (S, 3)
    around = (x2 - x1) * (y2 - y1) - segments.counts
    inside = segments.sums / segments.counts[:, None]
    outside = (frame - segments.sums) / np.maximum(around, 1)[:, None]
    contrast = np.linalg.norm(inside - outside, axis=1)
    touching = (low <= 0).sum(axis=1) + (high >= [width, height]).sum(axis=1)
    area = (high - low).prod(axis=1) / (height * width)
    scores = contrast / (contrast + 15) * area**0.12 * 0.75**touching
    usable = (area >= _SMALLEST) & (area <= _BIGGEST) & (around > 0)
    return np.where(usable, scores, 0).astype(np.float32)


def _fixed_boxes(cells: int) -> Array:
    """The whole picture, then windows of several sizes that fill up when little stands out."""
    windows = [np.array([[0, 0, 1, 1]], dtype=np.float32), grid_boxes(2, 2)]
    for side, steps in ((0.5, 3), (0.34, 4)):
        at = np.linspace(0, 1 - side, steps)
        y, x = (axis.ravel() for axis in np.meshgrid(at, at, indexing="ij"))
        windows.append(np.stack([x, y, x + side, y + side], axis=1).astype(np.float32))
    return np.concatenate(windows)
