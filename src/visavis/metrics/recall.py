"""Recall and rank statistics of a retrieval run, as the papers print them, and what chance gives.

Recalls are percentages. An image finds its sentences when any one of them is among the first K; a
sentence finds its image likewise. Queries that nothing belongs to are left out of every mean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from visavis.errors import DataError
from visavis.metrics.ranks import NO_POSITIVE, Ranks, unique_pairs

CUTOFFS = (1, 5, 10)
DIRECTIONS = ("i2t", "t2i")
RECALLS = tuple(f"{direction}_r{cutoff}" for direction in DIRECTIONS for cutoff in CUTOFFS)
METRICS = (
    *(f"{way}_{what}" for way in DIRECTIONS for what in ("r1", "r5", "r10", "medr", "meanr")),
    "rsum",
    "mr",
)


def recall_metrics(ranks: Ranks) -> dict[str, float]:
    """Every entry of `METRICS`: R@1, R@5, R@10, median and mean rank per direction, sum and mean.

    Median and mean rank count from 1; the median is floor(median) + 1, as published code has it.
    `rsum` is the sum of the six recalls, `mr` their mean.

    Raises:
        DataError: a direction without a single query that something belongs to.

    >>> found = recall_metrics(Ranks(np.array([0, 4]), np.array([0, 0, 9, 20])))
    >>> found["i2t_r1"], found["t2i_r10"], found["t2i_medr"], found["rsum"]
    (50.0, 75.0, 5.0, 425.0)
    """
    values: dict[str, float] = {}
    for direction, found in (("i2t", ranks.i2t), ("t2i", ranks.t2i)):
        kept = found[found != NO_POSITIVE]
        if len(kept) == 0:
            raise DataError(f"{direction}: no query has a right answer; nothing can be measured")
        for cutoff in CUTOFFS:
            values[f"{direction}_r{cutoff}"] = 100.0 * int((kept < cutoff).sum()) / len(kept)
        values[f"{direction}_medr"] = float(np.floor(np.median(kept))) + 1.0
        values[f"{direction}_meanr"] = float(np.mean(kept)) + 1.0
    return _with_sums(values)


def chance_metrics(shape: tuple[int, int], pairs: NDArray[np.int64]) -> dict[str, float]:
    """What a random order gives on average: exact, for any number of right answers per query.

    Of n items, p of them right, the first K hold none with probability
    C(n - p, K) / C(n, K) (hypergeometric), and the best right one stands at place
    (n + 1) / (p + 1) on average. There is no median: its mean over orders has no simple form.

    Args:
        shape: how many images and sentences there are.
        pairs: (P, 2) image index, sentence index.

    >>> chance_metrics((2, 4), np.array([[0, 0], [0, 1], [1, 2], [1, 3]]))["i2t_r1"]
    50.0
    """
    unique = unique_pairs(pairs)
    values: dict[str, float] = {}
    for axis, direction in enumerate(DIRECTIONS):
        counts = np.bincount(unique[:, axis], minlength=shape[axis])
        counts = counts[counts > 0]
        items = shape[1 - axis]
        if len(counts) == 0:
            raise DataError(f"{direction}: no query has a right answer; nothing can be measured")
        for cutoff in CUTOFFS:
            values[f"{direction}_r{cutoff}"] = 100.0 * float(np.mean(_found(items, counts, cutoff)))
        values[f"{direction}_meanr"] = float(np.mean((items + 1) / (counts + 1)))
    return _with_sums(values)


def mean_metrics(folds: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of each column over folds, as the five-fold protocol wants it.

    >>> mean_metrics([{"rsum": 300.0}, {"rsum": 310.0}])
    {'rsum': 305.0}
    """
    return {key: float(np.mean([fold[key] for fold in folds])) for key in folds[0]}


def _with_sums(values: dict[str, float]) -> dict[str, float]:
    total = sum(values[key] for key in RECALLS)
    return {**values, "rsum": total, "mr": total / len(RECALLS)}


def _found(items: int, right: NDArray[np.int64], cutoff: int) -> NDArray[np.float64]:
    """The probability that a random order has a right item among its first `cutoff`."""
    missed = np.ones(len(right), dtype=np.float64)
    for place in range(min(cutoff, items)):
        missed *= np.maximum(items - right - place, 0) / (items - place)
    return 1.0 - missed
