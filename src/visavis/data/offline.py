"""Training pairs with mined negatives: each epoch draws new ones, decided by seed and epoch.

AOQ (Chen et al., ECCV 2020, sections 3.2 and 4.2): for a pair (i, t), t_off is drawn uniformly from
the hardest sentences of i, and i_off from the hardest images of t; i~ is an image of t_off and t~
a sentence of i_off.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from visavis.config import plain
from visavis.data.batching import PairSource
from visavis.data.negatives import NONE, Negatives
from visavis.errors import DataError
from visavis.types import ImageBatch, SentenceBatch

logger = logging.getLogger("visavis.data")

TRIES = 50  # of drawing anew what belongs together


@dataclass(frozen=True, kw_only=True)
class DrawConfig:
    """Which of the mined negatives are drawn."""

    range_min: int = 0  # so many of the hardest sentences are left out; of the images a fifth
    range_max: int = 0  # and those after so many; 0: none
    max_score: float | None = None  # negatives score at most so much
    absolute_margin: float | None = None  # and so much below the anchor's lowest positive
    relative_margin: float | None = None  # and at most (1 - this) times it
    coupled: bool = False  # image and sentence of one rank, as in the published code
    resample: bool = True  # draw anew when i_off and t_off belong together; published: no

    def __post_init__(self) -> None:
        if self.range_min < 0 or self.range_max < 0:
            raise ValueError("range_min and range_max must be at least 0")
        if self.range_max and self.range_min >= self.range_max:
            raise ValueError(f"range_min {self.range_min} leaves nothing of {self.range_max}")

    @property
    def limits(self) -> bool:
        """Whether scores decide what is drawn."""
        given = (self.max_score, self.absolute_margin, self.relative_margin)
        return any(value is not None for value in given)


@dataclass(frozen=True, slots=True)
class Lists:
    """What may be drawn for each anchor: the first `counts` of its row."""

    places: NDArray[np.int32]  # (A, h)
    counts: NDArray[np.int64]  # (A,) at least 1


def narrowed(found: Negatives, pairs: NDArray[np.int64], config: DrawConfig) -> tuple[Lists, Lists]:
    """What the settings leave: sentences of each image, images of each sentence.

    An anchor that the limits leave nothing to keeps the last, that is the easiest, of its list.

    Raises:
        DataError: limits on scores, and lists without any; a range behind the lists' ends.
    """
    each = max(1, round(len(found.images) / len(found.sentences)))
    lowest = _lowest(found, pairs) if config.limits else (None, None)
    return (
        _narrowed(found.sentences, found.sentence_scores, lowest[0], config, 1),
        _narrowed(found.images, found.image_scores, lowest[1], config, each),
    )


def limited(found: Negatives, pairs: NDArray[np.int64], config: DrawConfig) -> Negatives:
    """Lists without what the settings leave out; scores of what stays."""
    values: list[NDArray[np.int32]] = []
    scores: list[NDArray[np.float32]] = []
    known = found.sentence_scores, found.image_scores
    whole = found.sentences, found.images
    for lists, before, score in zip(narrowed(found, pairs, config), whole, known, strict=True):
        ended = np.arange(lists.places.shape[1])[None] >= lists.counts[:, None]
        places = np.where(ended, NONE, lists.places)
        values.append(places)
        if score is not None:
            scores.append(_scores_of(places, before, score))
    both: tuple[NDArray[np.float32] | None, ...] = tuple(scores) or (None, None)
    return replace(
        found,
        sentences=values[0],
        images=values[1],
        sentence_scores=both[0],
        image_scores=both[1],
        about={**found.about, "limits": plain(config)},
    )


def _scores_of(
    places: NDArray[np.int32], before: NDArray[np.int32], scores: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Scores of what stays of rows, in its order: what stays keeps the order it had."""
    found = np.full(places.shape, -np.inf, dtype=np.float32)
    for row, (stays, had) in enumerate(zip(places, before, strict=True)):
        real = stays != NONE
        found[row, real] = scores[row, np.isin(had, stays[real])]
    return found


def _lowest(
    found: Negatives, pairs: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The lowest score among an anchor's own pairs, for images and for sentences."""
    if found.pair_scores is None or found.sentence_scores is None or found.image_scores is None:
        raise DataError("max_score and margins need scores; the published lists have none")
    images = np.full(len(found.sentences), np.inf, dtype=np.float32)
    sentences = np.full(len(found.images), np.inf, dtype=np.float32)
    np.minimum.at(images, pairs[:, 0], found.pair_scores[:, 0])
    np.minimum.at(sentences, pairs[:, 1], found.pair_scores[:, 1])
    return images, sentences


def _narrowed(
    places: NDArray[np.int32],
    scores: NDArray[np.float32] | None,
    lowest: NDArray[np.float32] | None,
    config: DrawConfig,
    each: int,
) -> Lists:
    first = config.range_min // each
    last = max(first + 1, config.range_max // each) if config.range_max else places.shape[1]
    if first >= places.shape[1]:
        raise DataError(f"range_min {config.range_min}: the lists end before; mine a larger h")
    places = places[:, first:last]
    allowed = places != NONE
    if scores is not None and lowest is not None:
        scores = scores[:, first:last]
        if config.max_score is not None:
            allowed &= scores <= config.max_score
        if config.absolute_margin is not None:
            allowed &= scores <= (lowest - config.absolute_margin)[:, None]
        if config.relative_margin is not None:
            allowed &= scores <= (lowest * (1 - config.relative_margin))[:, None]
    counts = allowed.sum(axis=1)
    empty = np.flatnonzero(counts == 0)
    if len(empty):
        real = (places[empty] != NONE).sum(axis=1)
        if not real.all():
            raise DataError("an image or a sentence has no negatives in the range; lower range_min")
        logger.warning("the limits leave %d of %d anchors one negative", len(empty), len(places))
        allowed[empty, real - 1] = True
        counts = allowed.sum(axis=1)
    if not allowed.all():
        places = np.take_along_axis(places, np.argsort(~allowed, axis=1, kind="stable"), axis=1)
    return Lists(places, counts.astype(np.int64))


class OfflineSource:
    """A source of pairs whose batches have mined negatives behind them.

    A row of its orders is pair, i_off, t_off and, when derived pairs are wanted, i~ and t~. The
    first P images and sentences of what it reads are the pairs', then come P of i_off and t_off,
    then P of i~ and t~. Epochs before `since` are those of the source itself, to the bit: a
    training that warms up without mined negatives begins as one that never reads them.
    """

    def __init__(
        self,
        source: PairSource,
        found: Negatives,
        config: DrawConfig,
        *,
        derived: bool = True,
        since: int = 0,
    ) -> None:
        self.source, self.config, self.derived, self.since = source, config, derived, since
        self.pairs = source.corpus.pairs
        self.of_images, self.of_sentences = narrowed(found, self.pairs, config)
        self.each = max(1, round(len(found.images) / len(found.sentences)))
        sides = len(found.sentences), len(found.images)
        self._sentences_of = _Groups(self.pairs[:, 0], self.pairs[:, 1], sides[0])
        self._images_of = _Groups(self.pairs[:, 1], self.pairs[:, 0], sides[1])
        self._truth = np.sort(self.pairs[:, 0] * sides[1] + self.pairs[:, 1])

    def __len__(self) -> int:
        return len(self.source)

    def order(self, seed: int, epoch: int) -> Tensor:
        """The order of the pairs, each with its negatives of this epoch: (P, 3) or (P, 5).

        Before the first epoch with negatives: (P,), the pairs alone.
        """
        order = self.source.order(seed, epoch)
        if epoch < self.since:
            return order
        generator = np.random.default_rng([seed, epoch, 2020])
        found = torch.from_numpy(self.draw(order.numpy(), generator))
        return torch.cat([order[:, None], found], dim=1)

    def draw(self, pairs: NDArray[np.int64], generator: np.random.Generator) -> NDArray[np.int64]:
        """Negatives of some pairs: i_off, t_off and, when wanted, i~ and t~."""
        found = self._drawn(pairs, generator)
        for _ in range(TRIES if self.config.resample else 0):
            again = np.flatnonzero(self.belong(found[:, 0], found[:, 1]))
            if not len(again):
                break
            found[again] = self._drawn(pairs[again], generator)
        return found if self.derived else found[:, :2]

    def belong(self, images: NDArray[np.int64], sentences: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which images and sentences, row by row, are pairs of the ground truth."""
        keys = images * len(self.of_sentences.counts) + sentences
        places = np.searchsorted(self._truth, keys).clip(max=len(self._truth) - 1)
        found: NDArray[np.bool_] = self._truth[places] == keys
        return found

    def _drawn(self, pairs: NDArray[np.int64], generator: np.random.Generator) -> NDArray[np.int64]:
        images, sentences = self.pairs[pairs].T
        draws = generator.random((len(pairs), 4))
        ranks = _places(draws[:, 0], self.of_images.counts[images])
        if self.config.coupled:
            other = (ranks // self.each).clip(max=self.of_sentences.counts[sentences] - 1)
        else:
            other = _places(draws[:, 1], self.of_sentences.counts[sentences])
        return self.picked(pairs, ranks, other, draws[:, 2:])

    def picked(
        self,
        pairs: NDArray[np.int64],
        sentence_ranks: NDArray[np.int64],
        image_ranks: NDArray[np.int64],
        draws: NDArray[np.float64],
    ) -> NDArray[np.int64]:
        """i_off, t_off, i~ and t~ of some ranks in the lists: (P, 4).

        Args:
            pairs: (P,) indices into the pairs of the corpus.
            sentence_ranks: (P,) of t_off among the sentences of i.
            image_ranks: (P,) of i_off among the images of t.
            draws: (P, 2) in [0, 1): which image of t_off, which sentence of i_off.
        """
        images, sentences = self.pairs[pairs].T
        t_off = self.of_images.places[images, sentence_ranks].astype(np.int64)
        i_off = self.of_sentences.places[sentences, image_ranks].astype(np.int64)
        i_far = self._images_of.pick(t_off, draws[:, 0])
        t_far = self._sentences_of.pick(i_off, draws[:, 1])
        return np.stack([i_off, t_off, i_far, t_far], axis=1)

    def read(
        self, rows: Sequence[int] | Sequence[Sequence[int]]
    ) -> tuple[ImageBatch, SentenceBatch, Tensor]:
        """Images and sentences of some rows of an order, positives (P, P) of the pairs alone."""
        table = np.asarray(rows, dtype=np.int64)
        if table.ndim == 1:
            return self.source.read(table.tolist())
        chosen = self.pairs[table[:, 0]]
        images = np.concatenate([chosen[:, 0], *table[:, 1::2].T])
        sentences = np.concatenate([chosen[:, 1], *table[:, 2::2].T])
        return (
            self.source.images(images),
            self.source.texts.read(sentences),
            self.source.positives(chosen),
        )


class _Groups:
    """What belongs to each of some keys, to be picked from at random."""

    def __init__(self, keys: NDArray[np.int64], values: NDArray[np.int64], count: int) -> None:
        self._values = values[np.argsort(keys, kind="stable")]
        self._counts = np.bincount(keys, minlength=count)
        self._starts = np.cumsum(self._counts) - self._counts

    def pick(self, keys: NDArray[np.int64], draws: NDArray[np.float64]) -> NDArray[np.int64]:
        """One value of each key, by numbers in [0, 1)."""
        found: NDArray[np.int64] = self._values[
            self._starts[keys] + _places(draws, self._counts[keys])
        ]
        return found


def _places(draws: NDArray[np.float64], counts: NDArray[np.int64]) -> NDArray[np.int64]:
    found: NDArray[np.int64] = (draws * counts).astype(np.int64)
    return found
