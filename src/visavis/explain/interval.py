"""Means with the interval that resampling their units gives."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

AT_ONCE = 100  # resamples


@dataclass(frozen=True, kw_only=True)
class Mean:
    """A mean with its percentile bootstrap interval."""

    mean: float
    low: float
    high: float


def mean_of(
    values: ArrayLike,
    units: NDArray[np.int64],
    *,
    seed: int,
    resamples: int = 2000,
    level: float = 0.95,
) -> Mean:
    """The mean of some values and its interval; whole units are drawn anew, with all their values.

    Args:
        values: (V,).
        units: (V,) the unit of each.
        seed: of the resampling.
        resamples: how many.
        level: of the interval.

    >>> mean_of([1.0, 1.0], np.array([0, 1]), seed=0)
    Mean(mean=1.0, low=1.0, high=1.0)
    """
    numbers = np.asarray(values, np.float64)
    _, place = np.unique(units, return_inverse=True)
    counts = np.bincount(place).astype(np.float64)  # (U,)
    sums = np.bincount(place, weights=numbers)
    generator = np.random.default_rng(seed)
    even = np.full(len(counts), 1 / len(counts))
    found = []
    for start in range(0, resamples, AT_ONCE):
        size = min(AT_ONCE, resamples - start)
        drawn = generator.multinomial(len(counts), even, size=size)  # (B, U)
        found.append((drawn @ sums) / (drawn @ counts))
    low, high = np.quantile(np.concatenate(found), [(1 - level) / 2, (1 + level) / 2])
    return Mean(mean=float(numbers.mean()), low=float(low), high=float(high))
