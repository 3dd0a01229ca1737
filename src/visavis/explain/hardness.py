"""How hard negatives are: where they stand among all wrong answers of the training set.

AOQ (Chen et al., ECCV 2020), section 1: the hardest negative of a random batch of B pairs has,
among n wrong answers, a rank of about (n + 1) / B in the mean, whatever the model; with B = 128 and
the 500,000 sentences of COCO some 4,000. Mined negatives are drawn from the first h.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from visavis.data.negatives import NONE
from visavis.errors import DataError
from visavis.explain.interval import Mean, mean_of

FIRST = 100  # ranks that the paper calls very hard

Rows = NDArray[np.int64]
Ranks = NDArray[np.int32]


@dataclass(frozen=True, slots=True, eq=False)
class Ranked:
    """All answers to A anchors of one side: G sentences to images, or G images to sentences."""

    scores: NDArray[np.float32]  # (A, G)
    ranks: Ranks  # (A, G) from 1 among the wrong answers; 0 where the answer is right
    batches: Rows  # (A, S, B - 1) answers in random batches, the largest; any beginning is one too
    mined: NDArray[np.int32]  # (A, h) answers in the mined list, `NONE` behind its end

    @property
    def wrong(self) -> float:
        """Wrong answers to an anchor, in the mean."""
        return float((self.ranks > 0).sum(axis=1).mean())

    def online(self, size: int) -> Rows:
        """The hardest wrong answer of each random batch of `size` pairs: (A, S); -1 if none is."""
        members = self.batches[:, :, : size - 1]
        ranks = np.take_along_axis(self.ranks[:, None], members, axis=2)  # (A, S, B - 1)
        shown = np.where(ranks > 0, ranks, np.iinfo(np.int32).max)
        best = shown.argmin(axis=2)[:, :, None]
        found = np.take_along_axis(members, best, axis=2)[:, :, 0]
        some: Rows = np.where((ranks > 0).any(axis=2), found, -1)
        return some


@dataclass(frozen=True, kw_only=True)
class Level:
    """How hard the negatives of one kind are."""

    rank: Mean
    first: float  # share of those that stand among the first `FIRST`
    expected: float | None = None  # the mean rank that random batches must have


@dataclass(frozen=True, slots=True)
class Hardness:
    """Negatives of one side's anchors."""

    wrong: float  # answers, for an anchor in the mean
    online: dict[int, Level]  # by batch size
    mined: Level
    listed: int  # length of the mined lists


def rank_answers(scores: NDArray[np.float32], right: Sequence[Rows]) -> Ranks:
    """Ranks from 1 among the wrong answers of each anchor; 0 for the right ones.

    Equal scores share the best of their ranks.

    Args:
        scores: (A, G).
        right: for each anchor the answers that belong to it.

    Raises:
        DataError: a score that is not finite.

    >>> rank_answers(np.array([[0.5, 0.9, 0.1, 0.7]], np.float32), [np.array([1])]).tolist()
    [[2, 0, 3, 1]]
    """
    if not np.isfinite(scores).all():
        raise DataError("a score is not finite; check the region vectors and the model's weights")
    ranks = np.empty(scores.shape, np.int32)
    for row, (values, own) in enumerate(zip(scores, right, strict=True)):
        wrong = np.sort(np.delete(values, own))
        ranks[row] = len(wrong) - np.searchsorted(wrong, values, side="right") + 1
        ranks[row, own] = 0
    return ranks


def random_batches(anchors: Rows, pairs: int, size: int, draws: int, seed: int) -> Rows:
    """Other pairs that stand in a batch with each anchor pair: (A, draws, size - 1).

    Args:
        anchors: (A,) numbers of pairs.
        pairs: how many there are.
        size: of a batch, the anchor's own pair included.
        draws: batches for each anchor.
        seed: decides them.

    Raises:
        DataError: fewer pairs than a batch has.
    """
    if size > pairs:
        raise DataError(f"{pairs} training pairs do not fill a batch of {size}; name smaller ones")
    generator = np.random.default_rng(seed)
    found = np.empty((len(anchors), draws, size - 1), np.int64)
    for row, anchor in enumerate(anchors):
        for draw in range(draws):
            others = generator.choice(pairs - 1, size - 1, replace=False)
            found[row, draw] = others + (others >= anchor)  # all but the anchor's own
    return found


def hardness(ranked: Ranked, sizes: Sequence[int], units: Rows, *, seed: int) -> Hardness:
    """Mean ranks of the negatives of random batches and of the mined ones.

    Args:
        ranked: the answers to all anchors.
        sizes: of batches.
        units: (A,) what is resampled: the image of each anchor.
        seed: of the resampling.
    """
    real = ranked.mined != NONE
    places = np.where(real, ranked.mined, 0).astype(np.int64)
    mined = np.take_along_axis(ranked.ranks, places, axis=1)
    return Hardness(
        wrong=ranked.wrong,
        online={size: _online(ranked, size, units, seed) for size in sizes},
        mined=_level(mined, real, units, seed),
        listed=ranked.mined.shape[1],
    )


def _online(ranked: Ranked, size: int, units: Rows, seed: int) -> Level:
    hardest = ranked.online(size)
    real = hardest >= 0
    ranks = np.take_along_axis(ranked.ranks, np.where(real, hardest, 0), axis=1)
    return _level(ranks, real, units, seed, (ranked.wrong + 1) / size)


def _level(
    ranks: Ranks, real: NDArray[np.bool_], units: Rows, seed: int, expected: float | None = None
) -> Level:
    """Ranks (A, K) of which some are `real`: a mean over all of them."""
    if not real.any():
        raise DataError("not a single negative in any batch; name larger batches")
    owner = np.broadcast_to(units[:, None], ranks.shape)[real]
    rank = mean_of(ranks[real], owner, seed=seed)
    return Level(rank=rank, first=float((ranks[real] <= FIRST).mean()), expected=expected)
