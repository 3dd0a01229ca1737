"""Evaluate a scorer under a protocol, and keep everything needed to check or compare it later."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from visavis.data.corpus import Corpus
from visavis.errors import DataError
from visavis.evaluation.protocols import Protocol
from visavis.metrics.ranks import Ranks, ranks
from visavis.metrics.recall import chance_metrics, mean_metrics, recall_metrics
from visavis.metrics.significance import Interval, Resampling, Units, intervals, units_of
from visavis.scoring.meter import Scoring
from visavis.types import Scores

TIES = "ties lose"

ScoreFold = Callable[[Corpus], Scores]
RankFold = Callable[[Corpus], Ranks]


@dataclass(frozen=True, slots=True, eq=False)
class Queries:
    """What every query of one fold found."""

    ranks: Ranks
    pairs: NDArray[np.int64]  # (P, 2) image index, sentence index, within the fold


@dataclass(frozen=True, kw_only=True)
class Fold:
    """One fold of an evaluation."""

    images: int
    sentences: int
    metrics: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What was evaluated on. Two evaluations compare only when it is equal."""

    corpus: str
    splits: tuple[str, ...]
    fingerprint: str  # of the images, sentences and ground truth that took part
    images: int
    sentences: int
    fewest_sentences: int  # per image, images without any left out
    mean_sentences: float
    most_sentences: int
    images_without_sentence: int  # they stand in the gallery and ask nothing
    sentences_without_image: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Evaluation:
    """The figures of one run under one protocol, with what they depend on."""

    name: str  # of the run: a model, a baseline
    protocol: str
    note: str  # of the protocol; empty when there is nothing to know
    ties: str
    subject: Subject
    metrics: dict[str, float]  # the mean over folds, by column
    intervals: dict[str, Interval]  # of the recalls and their sum; empty for a single image
    chance: dict[str, float]  # what a random order gives
    folds: tuple[Fold, ...]
    resampling: Resampling
    details: dict[str, object] = field(default_factory=dict)  # seeds, hashes: what explains it
    scoring: Scoring | None = None  # None: by something else than the engine, or long ago
    queries: tuple[Queries, ...] = ()  # one per fold; empty when they were not kept

    def units(self) -> tuple[Units, ...]:
        """The queries of each fold, gathered by image.

        Raises:
            DataError: the ranks of single queries were not kept.
        """
        if not self.queries:
            raise DataError(f"{self.name}: no ranks of single queries are kept; evaluate it again")
        return tuple(units_of(fold.ranks, fold.pairs) for fold in self.queries)


def evaluate(
    score_fold: ScoreFold,
    protocol: Protocol,
    *,
    name: str,
    details: Mapping[str, object] | None = None,
    resampling: Resampling | None = None,
    on_fold: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Score and rank every fold of a protocol.

    One fold's scores are alive at a time, so that five folds need no more memory than one.

    Args:
        score_fold: gives the (N, M) scores of a corpus.
        protocol: the folds.
        name: of what is evaluated, as it stands in reports.
        details: JSON values that explain the figures: seeds, hashes, settings.
        resampling: how intervals are made.
        on_fold: told how many folds are done, of how many.

    Raises:
        DataError: scores of the wrong shape, with NaN or infinity; a fold without a single pair.
    """
    return evaluate_ranks(
        lambda fold: _ranked(score_fold(fold), fold),
        protocol,
        name=name,
        details=details,
        resampling=resampling,
        on_fold=on_fold,
    )


def evaluate_ranks(
    rank_fold: RankFold,
    protocol: Protocol,
    *,
    name: str,
    details: Mapping[str, object] | None = None,
    resampling: Resampling | None = None,
    on_fold: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Evaluate what ranks every fold of a protocol, whether or not a score matrix exists.

    Args:
        rank_fold: gives the ranks of all queries of a corpus.
        protocol: the folds.
        name: of what is evaluated, as it stands in reports.
        details: JSON values that explain the figures: seeds, hashes, settings.
        resampling: how intervals are made.
        on_fold: told how many folds are done, of how many.

    Raises:
        DataError: a fold without a single pair; whatever `rank_fold` raises.
    """
    settings = resampling or Resampling()
    queries: list[Queries] = []
    for fold in protocol.folds:
        queries.append(Queries(rank_fold(fold), fold.pairs))
        if on_fold is not None:
            on_fold(len(queries), len(protocol.folds))
    folds = tuple(_fold(fold, found) for fold, found in zip(protocol.folds, queries, strict=True))
    return Evaluation(
        name=name,
        protocol=protocol.name,
        note=protocol.note,
        ties=TIES,
        subject=describe(protocol.corpus),
        metrics=mean_metrics([fold.metrics for fold in folds]),
        intervals=intervals([units_of(found.ranks, found.pairs) for found in queries], settings),
        chance=_chance(protocol.folds),
        folds=folds,
        resampling=settings,
        details=dict(details or {}),
        queries=tuple(queries),
    )


def describe(corpus: Corpus) -> Subject:
    """What a reader must know of a corpus to understand figures made on it."""
    pairs = np.unique(corpus.pairs, axis=0)
    per_image = np.bincount(pairs[:, 0], minlength=len(corpus.image_ids))
    per_sentence = np.bincount(pairs[:, 1], minlength=len(corpus.sentence_ids))
    used = per_image[per_image > 0]
    if len(used) == 0:
        raise DataError(f"{corpus.name}: no image has a sentence; nothing can be evaluated")
    return Subject(
        corpus=corpus.name,
        splits=corpus.splits,
        fingerprint=corpus.fingerprint(),
        images=len(corpus.image_ids),
        sentences=len(corpus.sentence_ids),
        fewest_sentences=int(used.min()),
        mean_sentences=float(used.mean()),
        most_sentences=int(used.max()),
        images_without_sentence=int((per_image == 0).sum()),
        sentences_without_image=int((per_sentence == 0).sum()),
    )


def _ranked(scores: Scores, fold: Corpus) -> Ranks:
    wanted = (len(fold.image_ids), len(fold.sentence_ids))
    if tuple(scores.i2t.shape) != wanted:
        raise DataError(
            f"{fold.name}: scores of shape {tuple(scores.i2t.shape)} for {wanted[0]} images and "
            f"{wanted[1]} sentences; rows must be images and columns sentences"
        )
    return ranks(scores, fold.pairs)


def _fold(fold: Corpus, found: Queries) -> Fold:
    return Fold(
        images=len(fold.image_ids),
        sentences=len(fold.sentence_ids),
        metrics=recall_metrics(found.ranks),
    )


def _chance(folds: Sequence[Corpus]) -> dict[str, float]:
    return mean_metrics(
        [chance_metrics((len(f.image_ids), len(f.sentence_ids)), f.pairs) for f in folds]
    )
