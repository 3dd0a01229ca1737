"""Measuring several models side by side, their mean, and what re-ranking makes of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from visavis.config import plain
from visavis.data.corpus import Corpus
from visavis.data.features import Features
from visavis.evaluation.evaluate import Evaluation, evaluate, evaluate_ranks
from visavis.evaluation.protocols import Protocol, make_protocol
from visavis.evaluation.variants import (
    EnsembleConfig,
    RerankConfig,
    Source,
    TextVectors,
    check_galleries,
    ensemble,
    kept,
    reranked,
)
from visavis.layers.norm import l2norm
from visavis.models.pretrained import Pretrained
from visavis.recipes.assemble import Material, pretrained_texts
from visavis.recipes.engine import Engine, ranker_of, scorer_of
from visavis.recipes.measure import check_identity, environment
from visavis.recipes.precision import precision_changes
from visavis.scoring.encode import encode_sentences
from visavis.scoring.matrix import BLOCK, Block
from visavis.scoring.meter import Meter, total
from visavis.types import ComparesSentences, Matcher

Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class Variants:
    """What is made of the models, beside each by itself."""

    ensemble: EnsembleConfig | None = None
    rerank: RerankConfig | None = None


@dataclass(frozen=True, kw_only=True)
class Work:
    """How the figures are made; they depend on the precision of the block alone."""

    scratch: Path  # a folder for matrices too large for memory
    block: Block = BLOCK
    ledgers: Path | None = None  # a folder where a killed evaluation goes on; None: nowhere
    rank_changes: bool = False  # also say what differs from float32
    progress: Progress | None = None  # told how much is done, of how much


class _Counter:
    """Adds up what is done: images scored, and images of folds that were re-ranked or averaged."""

    def __init__(self, protocol: Protocol, progress: Progress | None) -> None:
        self.folds = [len(fold.image_ids) for fold in protocol.folds]
        self.progress = progress
        self.done = 0
        self.rows = 0  # times that all folds are gone through

    def advance(self, images: int) -> None:
        """Count some more."""
        self.done += images
        if self.progress is not None:
            self.progress(self.done, self.rows * sum(self.folds))


def measure_variants(
    models: Sequence[tuple[str, Pretrained]],
    material: Material,
    protocol: str,
    variants: Variants,
    work: Work,
) -> list[Evaluation]:
    """Evaluate each model, then their mean if it is wanted, then each of these re-ranked.

    Args:
        models: names and models; where scores are needed more than once they are made once and
            kept in the scratch folder, else no score matrix exists.
        material: what they are measured on: all images and sentences of the corpus.
        protocol: a name in the table of protocols.
        variants: what else is wanted.
        work: how it is done.

    Raises:
        DataError: features of another identity, a protocol that the corpus does not fill, a
            gallery smaller than K, a wrong number of weights.
    """
    folds = make_protocol(protocol, material.corpus)
    if variants.rerank is not None:
        check_galleries(folds, variants.rerank)
    for _, pretrained in models:
        check_identity(pretrained, material.features)
    counter, named = _Counter(folds, work.progress), _told_apart(models)
    if variants == Variants():
        found = _alone(named, material.features, folds, work, counter)
    else:
        rows = _rows(named, material.features, variants, work, counter)
        counter.rows = len(named) + len(rows) + _extra(work) * len(named)
        found = [_evaluated(row, folds, counter) for row in rows]
    if work.rank_changes:
        for number, (_, pretrained) in enumerate(named):
            engine = Engine(block=work.block, scratch=work.scratch, advance=counter.advance)
            changes = precision_changes(pretrained, material.features, folds, engine)
            details = {**found[number].details, "rank_changes": plain(changes)}
            found[number] = replace(found[number], details=details)
    return found


def _extra(work: Work) -> int:
    """Times that a model scores everything besides, for a comparison of precisions."""
    return 2 if work.rank_changes else 0


def _alone(
    named: Sequence[tuple[str, Pretrained]],
    features: Features,
    folds: Protocol,
    work: Work,
    counter: _Counter,
) -> list[Evaluation]:
    """Each model by itself: ranks, and no score matrix."""
    counter.rows = (1 + _extra(work)) * len(named)
    engine = Engine(block=work.block, ledgers=work.ledgers, advance=counter.advance)
    found = []
    for name, pretrained in named:
        meter = Meter(engine.block)
        evaluation = evaluate_ranks(
            ranker_of(pretrained, features, engine=engine, meter=meter),
            folds,
            name=name,
            details={**_details(pretrained, features), **environment()},
        )
        found.append(replace(evaluation, scoring=total([meter])))
    return found


def _rows(
    named: Sequence[tuple[str, Pretrained]],
    features: Features,
    variants: Variants,
    work: Work,
    counter: _Counter,
) -> list[Source]:
    """The models, their mean, and both re-ranked; scores of the models are made once."""
    rows = []
    for number, (name, pretrained) in enumerate(named):
        scratch = work.scratch / f"model{number}"
        engine = Engine(block=work.block, scratch=scratch, advance=counter.advance)
        source = _source(name, pretrained, features, engine)
        rows.append(kept(source, work.scratch / f"kept{number}"))
    if variants.ensemble is not None:
        rows.append(ensemble(tuple(rows), variants.ensemble, work.scratch / "mean"))
    if variants.rerank is not None:
        again = [reranked(row, variants.rerank, work.scratch / "reranked") for row in rows]
        rows += [row for group in again for row in group]
    return rows


def _told_apart(models: Sequence[tuple[str, Pretrained]]) -> list[tuple[str, Pretrained]]:
    """Runs of the same name get numbers: a row must say which one it is."""
    names = [name for name, _ in models]
    found = []
    for number, (name, pretrained) in enumerate(models):
        same = names.count(name) > 1
        place = names[: number + 1].count(name)
        found.append((f"{name} ({place})" if same else name, pretrained))
    return found


def _evaluated(source: Source, folds: Protocol, counter: _Counter) -> Evaluation:
    found = evaluate(
        source.score,
        folds,
        name=source.name,
        details={**source.details, **environment()},
        on_fold=lambda done, _: counter.advance(counter.folds[done - 1]),
    )
    return replace(found, scoring=total(source.meters))


def _details(pretrained: Pretrained, features: Features) -> dict[str, object]:
    return {"model": pretrained.name, "features": features.identity.digest}


def _source(name: str, pretrained: Pretrained, features: Features, engine: Engine) -> Source:
    meter = Meter(engine.block)
    return Source(
        name=name,
        score=scorer_of(pretrained, features, engine=engine, meter=meter),
        details=_details(pretrained, features),
        text_vectors=lambda corpus: text_vectors(pretrained, corpus),
        meters=(meter,),
    )


@torch.inference_mode()
def text_vectors(pretrained: Pretrained, corpus: Corpus) -> TextVectors:
    """Vectors of the sentences of a corpus whose inner products are a text-text similarity.

    A model that learned one gives it; of the others it is the cosine of their pooled vectors, or
    of the means of their word vectors where a sentence has no single vector.
    """
    model = pretrained.model
    if not isinstance(model, Matcher):
        raise TypeError("a matcher is needed")
    training = model.training
    model.eval()
    texts = pretrained_texts(pretrained, corpus.sentence_texts)
    encoded = encode_sentences(model, texts, device=next(pretrained.model.parameters()).device)
    model.train(training)
    if isinstance(model, ComparesSentences):
        left, right = model.text_vectors(encoded)
        return left.cpu(), right.cpu()
    if encoded.pooled is not None:
        vectors = encoded.pooled.float().cpu()
        return vectors, vectors
    real = encoded.mask.unsqueeze(2)  # (M, W, 1)
    mean = (encoded.tokens * real).sum(dim=1) / real.sum(dim=1).clamp_min(1)  # (M, D)
    vectors = l2norm(mean.float()).cpu()
    return vectors, vectors
