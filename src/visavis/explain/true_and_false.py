"""Pairs that belong together and as many that do not, of the same images and sentences."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from visavis.errors import DataError

TRIES = 200  # of exchanging sentences until none stands beside an image of its own

Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class TrueAndFalse:
    """P pairs that belong together, then P that do not, made of the same images and sentences.

    So neither an image nor a sentence by itself tells which kind a pair is of. Nothing is shared
    between two folds.
    """

    rows: Rows  # (2 P, 2) image, sentence
    folds: Rows  # (2 P,)
    units: Rows  # (2 P,) images that share sentences are one unit

    @property
    def true(self) -> NDArray[np.bool_]:
        """Which belong together: (2 P,)."""
        return np.arange(len(self.rows)) < len(self.rows) // 2


def draw_pairs(truth: Rows, count: int, *, seed: int, folds: int = 1) -> TrueAndFalse:
    """Draw pairs of the ground truth, and exchange their sentences for the false ones.

    Args:
        truth: (T, 2) image, sentence.
        count: how many true pairs, at most all.
        seed: decides all of it.
        folds: parts that share neither image nor sentence.

    Raises:
        DataError: too few images for so many folds, or images that every sentence belongs to.

    >>> found = draw_pairs(np.array([[0, 0], [1, 1]]), 2, seed=0)
    >>> sorted(found.rows[~found.true].tolist())
    [[0, 1], [1, 0]]
    """
    truth = np.unique(truth, axis=0)
    generator = np.random.default_rng(seed)
    units = _units(truth)
    numbers = generator.permutation(int(units.max(initial=-1)) + 1)
    if len(numbers) < 2 * folds:
        raise DataError(
            f"{len(numbers)} images that share no sentence, {2 * folds} at least are needed; "
            "take a larger split"
        )
    chosen = generator.permutation(len(truth))[:count]
    fold = numbers[units[chosen]] % folds
    false = truth[chosen]
    for part in range(folds):
        inside = np.flatnonzero(fold == part)
        false[inside, 1] = _exchanged(false[inside], truth, generator)
    return TrueAndFalse(
        np.concatenate([truth[chosen], false]),
        np.concatenate([fold, fold]),
        np.concatenate([units[chosen], units[chosen]]),
    )


def _exchanged(pairs: Rows, truth: Rows, generator: np.random.Generator) -> Rows:
    """The sentences of some pairs in an order in which none stands beside an image of its own."""
    width = int(truth[:, 1].max()) + 1
    known = truth[:, 0] * width + truth[:, 1]
    sentences = generator.permutation(pairs[:, 1])
    for _ in range(TRIES):
        wrong = np.flatnonzero(np.isin(pairs[:, 0] * width + sentences, known))
        if not len(wrong):
            return sentences
        for place in wrong:
            other = generator.integers(len(sentences))
            sentences[[place, other]] = sentences[[other, place]]
    raise DataError(
        f"{len(pairs)} pairs of too few images: no other sentence is wrong for each; take more"
    )


def _units(pairs: Rows) -> Rows:
    """A number for each pair (T,): the same for images and sentences that hang together."""
    images, sentences = (int(side) + 1 for side in pairs.max(axis=0, initial=-1))
    size = images + sentences
    edges = (np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1] + images))
    _, labels = sparse.csgraph.connected_components(
        sparse.coo_array(edges, shape=(size, size)), directed=False
    )
    _, found = np.unique(labels[pairs[:, 0]], return_inverse=True)
    return found.astype(np.int64)
