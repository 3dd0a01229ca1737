"""What can be made of the scores of trained models: means of several, re-ranked ones.

A `Source` gives the scores of a fold; a mean of sources and a re-ranked source are sources again,
so that each is evaluated, saved and compared like a model. Re-ranking looks at the whole gallery
and at all queries at once: its figures hold for that set of images and sentences only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Generic, TypeVar

import torch
from torch import Tensor

from visavis.data.corpus import Corpus
from visavis.errors import DataError
from visavis.evaluation.evaluate import ScoreFold
from visavis.evaluation.protocols import Protocol
from visavis.rerank.ensemble import Normalisation, mean_scores
from visavis.rerank.groups import GROUP, Groups, Kind, alone, nearest_vectors, oracle
from visavis.rerank.matrices import copied
from visavis.rerank.reciprocal import Candidates, i2t_candidates, t2i_candidates, with_order
from visavis.scoring.meter import Meter
from visavis.types import Scores

TextVectors = tuple[Tensor, Tensor]  # (M, D) twice: S_TT(T, T') rises with their inner product
T = TypeVar("T")
_GROUP_OF: Mapping[str, object] = {"none": 1, "oracle": "ground truth"}


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """Scores of folds, with a name and what explains them."""

    name: str
    score: ScoreFold
    details: Mapping[str, object] = field(default_factory=dict)
    text_vectors: Callable[[Corpus], TextVectors] | None = None  # None: nothing was learned
    meters: tuple[Meter, ...] = ()  # of the models whose scores these are made of


@dataclass(frozen=True, kw_only=True)
class EnsembleConfig:
    """How scores of several models are averaged."""

    normalise: Normalisation = "none"
    weights: tuple[float, ...] = ()  # one for each model; empty: all alike


@dataclass(frozen=True, kw_only=True)
class RerankConfig:
    """Reciprocal re-ranking for one K or several."""

    k: tuple[int, ...] = (15,)
    neighbours: Kind = "none"
    group: int = GROUP  # K' of eq. 14, the sentence itself counted


class _Once(Generic[T]):
    """A function of a fold that is called once for each, whoever asks."""

    def __init__(self, make: Callable[[Corpus], T]) -> None:
        self._make = make
        self._made: list[tuple[Corpus, T]] = []

    def __call__(self, corpus: Corpus) -> T:
        for known, value in self._made:
            if known is corpus:
                return value
        self._made.append((corpus, self._make(corpus)))
        return self._made[-1][1]


def kept(source: Source, folder: Path) -> Source:
    """The same source, asked once for each fold; large matrices are kept as files of a folder."""
    number = 0

    def keep(corpus: Corpus) -> Scores:
        nonlocal number
        number += 1
        scores = source.score(corpus)
        i2t = copied(scores.i2t, folder, f"fold{number}_i2t")
        if not scores.decoupled:
            return Scores.shared(i2t)
        return Scores(i2t, copied(scores.t2i, folder, f"fold{number}_t2i"))

    return replace(source, score=_Once(keep))


def ensemble(sources: Sequence[Source], config: EnsembleConfig, folder: Path) -> Source:
    """The mean of the scores of sources that are scored on the same images and sentences.

    Its text-text similarity is the same mean of theirs, where all have one.

    Raises:
        DataError: fewer than two sources, or another number of weights.
    """
    if len(sources) < 2:
        raise DataError(f"an ensemble of {len(sources)}; give two models or more")
    if config.weights and len(config.weights) != len(sources):
        raise DataError(
            f"{len(config.weights)} weights for {len(sources)} models; give one for each"
        )
    weights = config.weights or (1.0,) * len(sources)

    def score(corpus: Corpus) -> Scores:
        parts = (source.score(corpus) for source in sources)
        return mean_scores(parts, weights=weights, normalise=config.normalise, folder=folder)

    return Source(
        name=f"mean of {len(sources)}" + _said(config),
        score=kept(Source("", score), folder).score,
        details={
            "ensemble": {
                "method": "mean",
                "normalise": config.normalise,
                "weights": list(weights),
                "of": {source.name: dict(source.details) for source in sources},
            }
        },
        text_vectors=_mean_vectors(sources, weights),
        meters=tuple(meter for source in sources for meter in source.meters),
    )


def _said(config: EnsembleConfig) -> str:
    return "" if config.normalise == "none" else f", {config.normalise}"


def _mean_vectors(
    sources: Sequence[Source], weights: Sequence[float]
) -> Callable[[Corpus], TextVectors] | None:
    makers = [source.text_vectors for source in sources]
    found = [maker for maker in makers if maker is not None]
    if len(found) < len(makers):
        return None

    def vectors(corpus: Corpus) -> TextVectors:
        # Inner products of joined vectors are the sum of the inner products of the parts.
        left, right = zip(*(maker(corpus) for maker in found), strict=True)
        shares = [weight / sum(weights) for weight in weights]
        scaled = [share * part for share, part in zip(shares, left, strict=True)]
        return torch.cat(scaled, dim=1), torch.cat(right, dim=1)

    return vectors


def reranked(source: Source, config: RerankConfig, folder: Path) -> list[Source]:
    """A source for each K; a fold is looked at once, for the largest of them.

    Raises:
        DataError: learned neighbours of a source that has no text-text similarity.
    """
    if config.neighbours == "learned" and source.text_vectors is None:
        raise DataError(f"{source.name}: has no text-text similarity; use neighbours none")
    largest = max(config.k)

    def find(corpus: Corpus) -> tuple[Candidates, Candidates]:
        scores = source.score(corpus)
        groups = _groups(source, config, corpus)
        return i2t_candidates(scores, largest), t2i_candidates(scores, largest, groups)

    find_once = _Once(find)

    def at(k: int) -> ScoreFold:
        def score(corpus: Corpus) -> Scores:
            scores = source.score(corpus)
            forward, backward = (side.first(k).reordered() for side in find_once(corpus))
            return Scores(
                with_order(scores.i2t, forward, folder=folder, name="i2t"),
                with_order(scores.t2i, backward, folder=folder, name="t2i", by_column=True),
            )

        return score

    return [
        Source(
            f"{source.name} {_called(config.neighbours, k)}",
            at(k),
            _explained(source, config, k),
            meters=source.meters,
        )
        for k in config.k
    ]


def _explained(source: Source, config: RerankConfig, k: int) -> dict[str, object]:
    settings = {
        "method": "reciprocal",
        "of": source.name,
        "k": k,
        "neighbours": config.neighbours,
        "group": _GROUP_OF.get(config.neighbours, config.group),
    }
    return {**source.details, "rerank": settings}


def _called(neighbours: Kind, k: int) -> str:
    said = {"none": "", "learned": ", learned", "oracle": ", ORACLE (diagnostic)"}[neighbours]
    return f"RR k={k}{said}"


def _groups(source: Source, config: RerankConfig, corpus: Corpus) -> Groups:
    count = len(corpus.sentence_ids)
    if config.neighbours == "oracle":
        return oracle(corpus.pairs, count)
    if config.neighbours == "learned" and source.text_vectors is not None:
        vectors, others = source.text_vectors(corpus)
        return nearest_vectors(vectors, config.group, others=others)
    return alone(count)


def check_galleries(protocol: Protocol, config: RerankConfig) -> None:
    """See that every fold has enough images and sentences, before anything is scored.

    Raises:
        DataError: a K or a group that is larger than a fold.
    """
    largest = max(config.k)
    for fold in protocol.folds:
        for count, what in ((len(fold.image_ids), "images"), (len(fold.sentence_ids), "sentences")):
            if largest > count:
                raise DataError(f"k {largest} for a gallery of {count} {what}; give 1 to {count}")
        if config.neighbours == "learned" and config.group > len(fold.sentence_ids):
            count = len(fold.sentence_ids)
            raise DataError(f"groups of {config.group} among {count} sentences; give 1 to {count}")
