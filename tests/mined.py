"""A corpus and a model whose vectors a test decides: for mining and what reads its lists."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from visavis.data.corpus import Corpus
from visavis.data.features import FeatureIdentity, MemoryFeatures
from visavis.mining.sides import Sides
from visavis.types import Encoded, ImageBatch, Scores, SentenceBatch


class RowTexts:
    """Sentences whose only token is their number; they say to be of many lengths."""

    def __init__(self, count: int) -> None:
        self.lengths: NDArray[np.int64] = np.random.default_rng(1).integers(1, 9, count)

    def __len__(self) -> int:
        return len(self.lengths)

    def read(self, rows: Sequence[int] | NDArray[np.int64]) -> SentenceBatch:
        ids = torch.tensor(np.asarray(rows))[:, None]
        return SentenceBatch(ids, torch.ones_like(ids, dtype=torch.bool))


class Fixed:
    """A matcher: region 0 is an image's vector, sentence number n has a given vector.

    With a third tensor the directions are scored differently: t2i has its own sentence vectors.
    """

    def __init__(self, texts: Tensor, other: Tensor | None = None) -> None:
        self.texts, self.other = texts, other
        self.seen = 0  # images encoded

    def encode_images(self, images: ImageBatch) -> Encoded:
        self.seen += len(images)
        return Encoded(images.regions, images.mask, pooled=images.regions[:, 0, :2])

    def encode_sentences(self, sentences: SentenceBatch) -> Encoded:
        rows = sentences.ids[:, 0]
        vectors = self.texts[rows][:, None]
        extra = {} if self.other is None else {"other": self.other[rows]}
        return Encoded(vectors, sentences.mask, pooled=vectors[:, 0, :2], extra=extra)

    def score(self, images: Encoded, sentences: Encoded) -> Scores:
        i2t = images.tokens[:, 0] @ sentences.tokens[:, 0].T
        if self.other is None:
            return Scores.shared(i2t)
        return Scores(i2t, images.tokens[:, 0] @ sentences.extra["other"].T)

    def score_pairs(self, images: Encoded, sentences: Encoded) -> Scores:
        i2t = (images.tokens[:, 0] * sentences.tokens[:, 0]).sum(dim=1)
        if self.other is None:
            return Scores.shared(i2t)
        return Scores(i2t, (images.tokens[:, 0] * sentences.extra["other"]).sum(dim=1))


def corpus_of(images: int, each: int = 5) -> Corpus:
    """Image n has sentences each * n on."""
    index = np.arange(images * each)
    return Corpus(
        name="five",
        image_ids=tuple(f"i{n}" for n in range(images)),
        image_splits=("train",) * images,
        sentence_ids=tuple(f"s{n}" for n in index),
        sentence_texts=tuple(f"number {n}" for n in index),
        pairs=np.stack([index // each, index], axis=1),
        rows=np.arange(images),
    )


def sides_of(vectors: Tensor, each: int = 5, corpus: Corpus | None = None) -> tuple[Corpus, Sides]:
    """A corpus of images with given vectors (N, D), ready to be mined in."""
    corpus = corpus or corpus_of(len(vectors), each)
    batch = ImageBatch(vectors[:, None], torch.ones(len(vectors), 1, dtype=torch.bool))
    identity = FeatureIdentity(extractor="precomputed", digest="fixture")
    features = MemoryFeatures(batch, identity, corpus.image_ids)
    return corpus, Sides(corpus, features, RowTexts(len(corpus.sentence_ids)))
