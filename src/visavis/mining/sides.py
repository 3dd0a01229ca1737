"""What is mined in, and scores of a stripe of its images with all sentences."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from visavis.data.corpus import Corpus
from visavis.data.features import Features
from visavis.data.negatives import NONE, Negatives
from visavis.data.texts import Texts
from visavis.errors import DataError
from visavis.scoring.encode import SENTENCES_AT_ONCE, encode_images
from visavis.scoring.matrix import score_stripe
from visavis.types import Encoded, ImageBatch, Matcher, Scores, SentenceBatch

SENTENCES_TOGETHER = 8  # batches of like length that are kept and scored as one


@dataclass(frozen=True, slots=True, eq=False)
class Sides:
    """A linked corpus with the vectors and token ids that a miner reads."""

    corpus: Corpus
    features: Features
    texts: Texts  # the corpus's sentences as this miner's tokenizer cuts them
    device: torch.device | str = "cpu"

    @property
    def rows(self) -> NDArray[np.int64]:
        """Row of each image in the features.

        Raises:
            ValueError: the corpus is not linked.
        """
        if self.corpus.rows is None:
            raise ValueError("the corpus is not linked to its features")
        return self.corpus.rows


class StripeScorer(Protocol):
    """Scores of images with all sentences, a stripe of images at a time."""

    @property
    def order(self) -> NDArray[np.int64]:
        """Which sentence each column is: (M,)."""
        ...

    def score(self, start: int, stop: int) -> Scores:
        """Images `start` to `stop`: (B, M) float32; -inf where a pair is out of the question."""
        ...


class Exhaustive:
    """Every sentence, by the model itself. Sentences are encoded once, images with their stripe."""

    def __init__(self, model: Matcher, sides: Sides) -> None:
        self.model, self.sides = model, sides
        self.order = np.argsort(sides.texts.lengths, kind="stable")
        self.parts = list(_encoded(model, sides, self.order))
        self.starts = np.cumsum([0, *(len(part) for part in self.parts)])

    def images(self, start: int, stop: int) -> Encoded:
        """Some images as the model keeps them."""
        rows, features = self.sides.rows[start:stop], self.sides.features
        return encode_images(
            self.model, lambda part: features.read(rows[part]), len(rows), device=self.sides.device
        )

    @torch.inference_mode()
    def score(self, start: int, stop: int) -> Scores:
        """All pairs of a stripe: (B, M), columns in the order of `order`."""
        images = self.images(start, stop)
        shape = (stop - start, len(self.order))
        i2t = torch.empty(shape, device=self.sides.device)
        t2i = i2t
        for part, first in zip(self.parts, self.starts, strict=False):
            found = score_stripe(self.model, images, part)
            if found.decoupled and t2i is i2t:
                t2i = torch.empty_like(i2t)
            columns = slice(int(first), int(first) + len(part))
            i2t[:, columns] = found.i2t
            if found.decoupled:
                t2i[:, columns] = found.t2i
        return Scores(i2t, t2i)


class Rescored:
    """Candidates of a cheaper miner alone, by the model itself: exact scores, far fewer of them."""

    def __init__(self, model: Matcher, sides: Sides, candidates: Negatives) -> None:
        self.whole = Exhaustive(model, sides)
        self.order = self.whole.order
        self._columns, self._starts = _candidate_columns(candidates, sides.corpus, self.order)

    @torch.inference_mode()
    def score(self, start: int, stop: int) -> Scores:
        """The candidates of a stripe and its own pairs: (B, M), -inf elsewhere."""
        model, device = self.whole.model, self.whole.sides.device
        images = self.whole.images(start, stop)
        i2t = torch.full((stop - start, len(self.order)), -torch.inf, device=device)
        t2i = i2t
        for number in range(stop - start):
            span = slice(self._starts[start + number], self._starts[start + number + 1])
            columns = self._columns[span].astype(np.int64)
            image = images.select(slice(number, number + 1))
            for part, inside, into in self._by_part(columns):
                found = score_stripe(model, image, part.select(torch.from_numpy(inside).to(device)))
                if found.decoupled and t2i is i2t:
                    t2i = torch.full_like(i2t, -torch.inf)
                places = torch.from_numpy(into).to(device)
                i2t[number, places] = found.i2t[0]
                if found.decoupled:
                    t2i[number, places] = found.t2i[0]
        return Scores(i2t, t2i)

    def _by_part(
        self, columns: NDArray[np.int64]
    ) -> Iterator[tuple[Encoded, NDArray[np.int64], NDArray[np.int64]]]:
        """Rising columns, by the part of the sentences that they stand in."""
        cuts = np.searchsorted(columns, self.whole.starts)
        for part, first, low, high in zip(
            self.whole.parts, self.whole.starts, cuts, cuts[1:], strict=False
        ):
            if high > low:
                yield part, columns[low:high] - first, columns[low:high]


def _candidate_columns(
    found: Negatives, corpus: Corpus, order: NDArray[np.int64]
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """For each image the columns of its candidates in either direction and of its own sentences.

    Rising columns (K,), image after image, and where each image's begin (N + 1,).
    """
    images, sentences = len(found.sentences), len(found.images)
    column = np.empty(sentences, dtype=np.int64)
    column[order] = np.arange(sentences)
    keys = [corpus.pairs[:, 0] * sentences + column[corpus.pairs[:, 1]]]
    rows, places = np.nonzero(found.sentences != NONE)
    keys.append(rows * sentences + column[found.sentences[rows, places]])
    rows, places = np.nonzero(found.images != NONE)
    keys.append(found.images[rows, places].astype(np.int64) * sentences + column[rows])
    known = np.unique(np.concatenate(keys))
    starts = np.searchsorted(known, np.arange(images + 1) * sentences)
    return (known % sentences).astype(np.int32), starts


class Pooled:
    """A model reduced to its pooled vectors: scores are their inner products."""

    def __init__(self, model: Matcher) -> None:
        self.model = model

    def encode_images(self, images: ImageBatch) -> Encoded:
        """Pooled vectors alone: (N, 1, P)."""
        return _pooled(self.model.encode_images(images))

    def encode_sentences(self, sentences: SentenceBatch) -> Encoded:
        """Pooled vectors alone: (M, 1, P)."""
        return _pooled(self.model.encode_sentences(sentences))

    def score(self, images: Encoded, sentences: Encoded) -> Scores:
        """(N, M)."""
        return Scores.shared(images.tokens[:, 0] @ sentences.tokens[:, 0].T)

    def score_pairs(self, images: Encoded, sentences: Encoded) -> Scores:
        """(P,)."""
        return Scores.shared((images.tokens[:, 0] * sentences.tokens[:, 0]).sum(dim=1))

    def pair_bytes(self, regions: int, words: int) -> int:
        """Memory of a pair while it is scored: its score."""
        return 4


def _pooled(items: Encoded) -> Encoded:
    if items.pooled is None:
        raise DataError("the model has no pooled vectors; name a cheaper model as the first stage")
    vectors = items.pooled
    return Encoded(vectors[:, None], torch.ones_like(vectors[:, :1], dtype=torch.bool))


@torch.inference_mode()
def _encoded(model: Matcher, sides: Sides, order: NDArray[np.int64]) -> Iterator[Encoded]:
    """Sentences in an order of rising length, in parts that hardly have padding."""
    batches: list[Encoded] = []
    for start in range(0, len(order), SENTENCES_AT_ONCE):
        batch = sides.texts.read(order[start : start + SENTENCES_AT_ONCE]).to(sides.device)
        batches.append(model.encode_sentences(batch))
        if len(batches) == SENTENCES_TOGETHER:
            yield Encoded.join(batches)
            batches = []
    if batches:
        yield Encoded.join(batches)


def device_of(parameters: Iterable[Tensor]) -> torch.device:
    """Where a model is."""
    return next((value.device for value in parameters), torch.device("cpu"))
