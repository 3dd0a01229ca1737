"""How far a recall could be luck: intervals, and a paired test between two runs.

The resampled unit is the image, and its sentences travel with it: the sentences of one picture are
not independent observations, and an interval that treats them so is too narrow. Images that share a
sentence make one unit. The gallery stays as it is: what is resampled is which queries were asked.

Folds are resampled separately and averaged by column, as the metric itself is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse, stats

from visavis.errors import DataError
from visavis.metrics.ranks import NO_POSITIVE, Ranks, unique_pairs
from visavis.metrics.recall import CUTOFFS, RECALLS

COLUMNS = (*RECALLS, "rsum")
_ELEMENTS = 1 << 22  # of one batch of resamples: 32 MiB of float64
_I2T = slice(0, len(CUTOFFS))
_T2I = slice(len(CUTOFFS), 2 * len(CUTOFFS))


@dataclass(frozen=True, kw_only=True)
class Resampling:
    """How resampling is done; equal settings on equal runs give equal numbers."""

    resamples: int = 2000
    permutations: int = 4999
    level: float = 0.95
    seed: int = 0

    def __post_init__(self) -> None:
        if self.resamples < 1 or self.permutations < 1 or not 0 < self.level < 1:
            raise ValueError(
                f"{self.resamples} resamples, {self.permutations} permutations, level {self.level};"
                " expected positive counts and a level between 0 and 1"
            )


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A confidence interval, in the unit of its metric."""

    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One metric of a first run less that of a second, in percentage points."""

    value: float
    low: float
    high: float
    p_value: float  # two-sided; not corrected for looking at several metrics


@dataclass(frozen=True, slots=True, eq=False)
class Units:
    """What the units of one fold contribute to its recalls.

    A unit is an image with its sentences, or several images that share some.
    """

    hits: NDArray[np.float64]  # (U, 6) queries found, in the order of `RECALLS`
    queries: NDArray[np.float64]  # (U, 6) queries asked: images three times, sentences three times


def units_of(ranks: Ranks, pairs: NDArray[np.int64]) -> Units:
    """Gather the queries of a fold by the image they belong to.

    Args:
        ranks: the rank of every query of the fold.
        pairs: (P, 2) image index, sentence index, within the fold.

    >>> units = units_of(Ranks(np.array([0]), np.array([0, 3])), np.array([[0, 0], [0, 1]]))
    >>> units.hits.tolist(), units.queries.tolist()
    ([[1.0, 1.0, 1.0, 1.0, 2.0, 2.0]], [[1.0, 1.0, 1.0, 2.0, 2.0, 2.0]])
    """
    images, sentences = len(ranks.i2t), len(ranks.t2i)
    edges = unique_pairs(pairs)
    size = images + sentences
    graph = sparse.coo_array(
        (np.ones(len(edges)), (edges[:, 0], edges[:, 1] + images)), shape=(size, size)
    )
    count, labels = sparse.csgraph.connected_components(graph, directed=False)
    hits = np.zeros((count, 2 * len(CUTOFFS)))
    queries = np.zeros_like(hits)
    for ways, found, unit in (
        (_I2T, ranks.i2t, labels[:images]),
        (_T2I, ranks.t2i, labels[images:]),
    ):
        asked = found != NO_POSITIVE
        queries[:, ways] = np.bincount(unit[asked], minlength=count)[:, None]
        for column, cutoff in zip(range(ways.start, ways.stop), CUTOFFS, strict=True):
            hits[:, column] = np.bincount(unit[asked & (found < cutoff)], minlength=count)
    kept = queries[:, 0] > 0  # an image without a sentence, a sentence without an image: no query
    return Units(hits[kept], queries[kept])


def intervals(folds: Sequence[Units], settings: Resampling) -> dict[str, Interval]:
    """Percentile bootstrap intervals of the six recalls and of their sum.

    Empty when a fold has fewer than two images: one observation has no spread to measure.
    """
    if any(len(fold.hits) < 2 for fold in folds):
        return {}
    tables = [np.concatenate([fold.hits, fold.queries], axis=1) for fold in folds]  # (U, 12)
    return _bootstrap(tables, settings)


def paired_test(
    first: Sequence[Units], second: Sequence[Units], settings: Resampling
) -> dict[str, Difference]:
    """The difference of two runs on the same queries, metric by metric.

    The p-value is that of a sign-flip permutation test: were the two runs equally good, swapping
    their results on any image would change nothing. All metrics share the swaps. The interval is
    the percentile bootstrap of the difference over images.

    Raises:
        DataError: the runs did not ask the same queries, or a fold has fewer than two images.
    """
    _check_same_queries(first, second)
    if any(len(fold.hits) < 2 for fold in first):
        raise DataError("a fold with fewer than two images; a difference cannot be tested on it")
    gains = [a.hits - b.hits for a, b in zip(first, second, strict=True)]  # F of (U, 6)
    parts = [
        _with_sum(100.0 * gain / fold.queries.sum(axis=0) / len(first))
        for gain, fold in zip(gains, first, strict=True)
    ]  # F of (U, 7): what each image adds to the difference
    tables = [
        np.concatenate([gain, fold.queries], axis=1)
        for gain, fold in zip(gains, first, strict=True)
    ]
    p_values = _sign_flips(np.concatenate(parts), settings)
    drawn = _bootstrap(tables, settings)
    observed = sum(part.sum(axis=0) for part in parts)
    return {
        key: Difference(
            value=float(observed[column]),
            low=drawn[key].low,
            high=drawn[key].high,
            p_value=float(p_values[column]),
        )
        for column, key in enumerate(COLUMNS)
    }


def _check_same_queries(first: Sequence[Units], second: Sequence[Units]) -> None:
    same = len(first) == len(second) and all(
        np.array_equal(a.queries, b.queries) for a, b in zip(first, second, strict=True)
    )
    if not same:
        raise DataError(
            "the two runs did not ask the same queries; evaluate both on the same corpus and "
            "protocol"
        )


def _with_sum(recalls: NDArray[np.float64]) -> NDArray[np.float64]:
    """(..., 6) to (..., 7): the sum stands last, as in `COLUMNS`."""
    return np.concatenate([recalls, recalls.sum(axis=-1, keepdims=True)], axis=-1)


def _bootstrap(tables: Sequence[NDArray[np.float64]], settings: Resampling) -> dict[str, Interval]:
    """Percentile intervals of hits over queries, averaged over folds; a table is (U, 12)."""

    def recalls(*chosen: NDArray[np.int64], axis: int) -> NDArray[np.float64]:
        folds = []
        for table, units in zip(tables, chosen, strict=True):
            sums = table[units].sum(axis=axis - 1)  # (B, 12): the columns come after `axis`
            folds.append(_with_sum(100.0 * sums[..., :6] / sums[..., 6:]))
        return np.moveaxis(np.mean(folds, axis=0), -1, 0)  # (7, B)

    found = stats.bootstrap(
        [np.arange(len(table)) for table in tables],
        recalls,
        vectorized=True,
        method="percentile",
        n_resamples=settings.resamples,
        confidence_level=settings.level,
        batch=max(1, _ELEMENTS // sum(table.size for table in tables)),
        random_state=np.random.default_rng(settings.seed),
    ).confidence_interval
    return {
        key: Interval(low=float(found.low[column]), high=float(found.high[column]))
        for column, key in enumerate(COLUMNS)
    }


def _sign_flips(parts: NDArray[np.float64], settings: Resampling) -> NDArray[np.float64]:
    """Two-sided p-values of the column sums of (U, 7) under random signs of the rows."""
    moving = parts[np.any(parts != 0.0, axis=1)]  # a row of zeros is the same under either sign
    if len(moving) < 2:
        return np.ones(parts.shape[1])  # one image swapped or not: both are as far from zero
    found: NDArray[np.float64] = stats.permutation_test(
        [np.ones(len(moving))],
        # Sums of equal worth must compare equal whatever the order of adding: steps are above 1e-8.
        lambda signs, axis: np.round(signs @ moving, 9),
        permutation_type="samples",
        vectorized=True,
        n_resamples=settings.permutations,
        batch=max(1, _ELEMENTS // (4 * len(moving))),
        random_state=np.random.default_rng(settings.seed),
    ).pvalue
    return found
