"""Measuring several models side by side, their mean, and what re-ranking makes of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from visavis.data.corpus import Corpus
from visavis.evaluation.evaluate import Evaluation, evaluate
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
from visavis.recipes.measure import check_identity, environment, scorer_of
from visavis.scoring.encode import encode_sentences
from visavis.types import ComparesSentences, Matcher

Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class Variants:
    """What is made of the models, beside each by itself."""

    ensemble: EnsembleConfig | None = None
    rerank: RerankConfig | None = None


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
    *,
    scratch: Path,
    progress: Progress | None = None,
) -> list[Evaluation]:
    """Evaluate each model, then their mean if it is wanted, then each of these re-ranked.

    Args:
        models: names and models; their scores are made once and kept in the scratch folder.
        material: what they are measured on: all images and sentences of the corpus.
        protocol: a name in the table of protocols.
        variants: what else is wanted.
        scratch: a folder for matrices too large for memory.
        progress: told how much is done, of how much.

    Raises:
        DataError: features of another identity, a protocol that the corpus does not fill, a
            gallery smaller than K, a wrong number of weights.
    """
    folds = make_protocol(protocol, material.corpus)
    if variants.rerank is not None:
        check_galleries(folds, variants.rerank)
    counter = _Counter(folds, progress)
    plain = [
        _source(name, pretrained, material, scratch / f"model{number}", counter)
        for number, (name, pretrained) in enumerate(_told_apart(models))
    ]
    if variants != Variants():  # scores are needed more than once
        plain = [kept(row, scratch / f"kept{number}") for number, row in enumerate(plain)]
    rows = list(plain)
    if variants.ensemble is not None:
        rows.append(ensemble(plain, variants.ensemble, scratch / "mean"))
    if variants.rerank is not None:
        again = [reranked(row, variants.rerank, scratch / "reranked") for row in rows]
        rows += [row for group in again for row in group]
    counter.rows = len(plain) + len(rows)
    return [_evaluated(row, folds, counter) for row in rows]


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
    return evaluate(
        source.score,
        folds,
        name=source.name,
        details={**source.details, **environment()},
        on_fold=lambda done, _: counter.advance(counter.folds[done - 1]),
    )


def _source(
    name: str, pretrained: Pretrained, material: Material, scratch: Path, counter: _Counter
) -> Source:
    check_identity(pretrained, material.features)
    return Source(
        name=name,
        score=scorer_of(pretrained, material.features, scratch=scratch, advance=counter.advance),
        details={"model": pretrained.name, "features": material.features.identity.digest},
        text_vectors=lambda corpus: text_vectors(pretrained, corpus),
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
