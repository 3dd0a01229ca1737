"""Where the best positive of every query lands.

Ranks count from 0. The rank of a query is the number of wrong items that score at least as high as
its best right item: ties lose, so the result does not depend on the order of the items, and a model
that scores everything alike finds nothing. Without ties this is the position that the published
loops find after sorting (SCAN, VSE++: best of the five sentences of an image).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from visavis.errors import DataError
from visavis.types import Scores

NO_POSITIVE = -1  # the rank of a query that nothing belongs to: a distractor, counted by no metric
BLOCK_BYTES = 32 << 20


@dataclass(frozen=True, slots=True, eq=False)
class Ranks:
    """The rank of every query, from 0; `NO_POSITIVE` where nothing belongs to the query."""

    i2t: NDArray[np.int64]  # (N,) an image asks for a sentence
    t2i: NDArray[np.int64]  # (M,) a sentence asks for an image


@dataclass(frozen=True, slots=True, eq=False)
class TopOne:
    """The best item of every query; the first of several equal ones."""

    i2t: NDArray[np.int64]  # (N,) sentence index
    t2i: NDArray[np.int64]  # (M,) image index


def ranks(scores: Scores, pairs: NDArray[np.int64], *, block_bytes: int = BLOCK_BYTES) -> Ranks:
    """Rank the sentences for every image and the images for every sentence.

    Stripes of rows are read once, in order, so that a memory-mapped matrix is streamed; besides it
    only a few arrays of `block_bytes` exist. Positives are never laid out as a matrix: the count of
    items at or above the best positive, less the positives among them, is the rank.

    Args:
        scores: (N, M) for both directions, on any device.
        pairs: (P, 2) image index, sentence index.
        block_bytes: how large a temporary of one stripe may be.

    Raises:
        DataError: scores with NaN or infinity, of unlike shapes, or not a matrix; no pair at all;
            a pair outside of the matrix.

    >>> pairs = np.array([[0, 0], [1, 1]])
    >>> found = ranks(Scores.shared(torch.tensor([[0.9, 0.9], [0.1, 0.5]])), pairs)
    >>> found.i2t.tolist(), found.t2i.tolist()
    ([1, 0], [0, 1])
    """
    images, sentences = _checked_pairs(scores, pairs)
    best_sentence = _best(scores.i2t[images, sentences], images, scores.i2t.shape[0])  # (N,)
    best_image = _best(scores.t2i[images, sentences], sentences, scores.t2i.shape[1])  # (M,)
    i2t = -_count(
        scores.i2t[images, sentences] >= best_sentence[images], images, len(best_sentence)
    )
    t2i = -_count(
        scores.t2i[images, sentences] >= best_image[sentences], sentences, len(best_image)
    )
    for start, stripe in _stripes(scores.i2t, block_bytes):
        rows = slice(start, start + len(stripe))
        i2t[rows] += (stripe >= best_sentence[rows, None]).sum(dim=1, dtype=torch.int32)
        if not scores.decoupled:
            t2i += (stripe >= best_image).sum(dim=0, dtype=torch.int32)
    if scores.decoupled:
        for _, stripe in _stripes(scores.t2i, block_bytes):
            t2i += (stripe >= best_image).sum(dim=0, dtype=torch.int32)
    # Without a positive nothing is at or above +infinity, and nothing was taken off: 0, not a rank.
    i2t[best_sentence == torch.inf] = NO_POSITIVE
    t2i[best_image == torch.inf] = NO_POSITIVE
    return Ranks(i2t.cpu().numpy(), t2i.cpu().numpy())


def top_one(scores: Scores, *, block_bytes: int = BLOCK_BYTES) -> TopOne:
    """The sentence that every image likes best, and the image that every sentence likes best.

    Raises:
        DataError: scores with NaN or infinity, of unlike shapes, or not a matrix.

    >>> top_one(Scores.shared(torch.tensor([[0.9, 0.2], [0.1, 0.5]]))).i2t.tolist()
    [0, 1]
    """
    scores.matrix_shape()
    i2t = torch.cat([s.argmax(dim=1) for _, s in _stripes(scores.i2t, block_bytes)])  # (N,)
    highest = scores.t2i.new_full((scores.t2i.shape[1],), -torch.inf)  # (M,)
    t2i = torch.zeros_like(highest, dtype=torch.int64)
    for start, stripe in _stripes(scores.t2i, block_bytes):
        row = stripe.argmax(dim=0)  # (M,)
        value = stripe.gather(0, row[None])[0]
        better = value > highest
        t2i[better] = row[better] + start
        highest[better] = value[better]
    return TopOne(i2t.cpu().numpy(), t2i.cpu().numpy())


def unique_pairs(pairs: NDArray[np.int64]) -> NDArray[np.int64]:
    """Ground truth without repeated entries, in order of image and sentence."""
    return np.unique(np.asarray(pairs, dtype=np.int64).reshape(-1, 2), axis=0)


def _checked_pairs(scores: Scores, pairs: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
    shape = scores.matrix_shape()
    unique = unique_pairs(pairs)  # a pair given twice would be taken off twice
    if len(unique) == 0:
        raise DataError("ground truth without a single pair; nothing can be ranked")
    if (unique < 0).any() or (unique >= np.array(shape)).any():
        raise DataError(
            f"ground truth names image {unique[:, 0].max()} and sentence {unique[:, 1].max()}, "
            f"scores are of shape {shape}; score the corpus that the pairs belong to"
        )
    moved = torch.from_numpy(unique).to(scores.i2t.device)
    return moved[:, 0], moved[:, 1]


def _best(values: Tensor, queries: Tensor, count: int) -> Tensor:
    """The highest value of each query; +infinity, which no score reaches, where there is none."""
    best = values.new_full((count,), -torch.inf)
    best = best.scatter_reduce(0, queries, values, "amax")
    return best.masked_fill(best == -torch.inf, torch.inf)


def _count(flags: Tensor, queries: Tensor, count: int) -> Tensor:
    return torch.bincount(queries[flags], minlength=count)


def _stripes(matrix: Tensor, block_bytes: int) -> Iterator[tuple[int, Tensor]]:
    """Rows of a matrix, some at a time, each stripe looked through for NaN and infinity."""
    height = max(1, block_bytes // (matrix.shape[1] * matrix.element_size()))
    for start in range(0, matrix.shape[0], height):
        stripe = matrix[start : start + height]
        low, high = torch.aminmax(stripe)  # NaN anywhere makes both NaN
        if not (torch.isfinite(low) and torch.isfinite(high)):
            raise DataError(
                f"scores of images {start} to {start + len(stripe) - 1} hold NaN or infinity; "
                "they cannot be ranked"
            )
        yield start, stripe
