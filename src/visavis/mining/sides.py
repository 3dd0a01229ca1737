"""What is mined in, and tiles of its scores."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from visavis.data.corpus import Corpus
from visavis.data.features import Features
from visavis.data.negatives import NONE, Negatives
from visavis.data.texts import Texts
from visavis.errors import DataError
from visavis.scoring.matrix import Block, scored_at
from visavis.scoring.sides import held_sentences, read_images
from visavis.scoring.stream import Stream, Tile
from visavis.types import Encoded, ImageBatch, Matcher, Scores, SentenceBatch

BLOCK = Block(rows=512, memory_bytes=2**30)
TILE_CELLS = 2**26  # of a tile of candidates, at most
TOGETHER = 512  # candidates of an image that are scored at once


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


def exhaustive(model: Matcher, sides: Sides, block: Block = BLOCK) -> Stream:
    """Tiles of every image with every sentence.

    Sentences are encoded once and kept, images with their tiles: there may be many.
    """
    rows, features = sides.rows, sides.features
    images = read_images(
        model, lambda items: features.read(rows[items]), len(rows), device=sides.device
    )
    sentences = held_sentences(model, sides.texts, device=sides.device)
    return Stream(model, images, sentences, block)


class Rescored:
    """Tiles of a cheaper miner's candidates alone: exact scores, far fewer of them.

    Args:
        model: scores them.
        sides: what is mined in.
        candidates: lists of the cheaper miner.
        block: images of a tile.
    """

    def __init__(
        self, model: Matcher, sides: Sides, candidates: Negatives, block: Block = BLOCK
    ) -> None:
        self.whole = exhaustive(model, sides, block)
        self.shape = self.whole.shape
        self._items, self._starts = _candidates_of(
            candidates, sides.corpus, self.whole.sentences.order
        )
        self._rows = max(1, min(block.rows, TILE_CELLS // max(1, self.shape[1])))

    @property
    def grid(self) -> Mapping[str, object]:
        """How many images are in a tile; which sentences follows from the candidates."""
        return {"rows": self._rows, "candidates": len(self._items)}

    @property
    def count(self) -> int:
        """Number of tiles."""
        return -(-self.shape[0] // self._rows)

    def start(self, first: int) -> Iterator[Tile]:
        """Tiles from number `first` on: -inf where a pair is no candidate."""
        for number in range(first, self.count):
            start = number * self._rows
            yield self._tile(start, min(start + self._rows, self.shape[0]))

    @torch.inference_mode()
    def _tile(self, start: int, stop: int) -> Tile:
        images = self.whole.images.at(slice(start, stop))
        device = images.mask.device
        columns = np.unique(self._items[self._starts[start] : self._starts[stop]])
        i2t = torch.full((stop - start, len(columns)), -torch.inf, device=device)
        t2i = i2t
        for row in range(stop - start):
            span = slice(self._starts[start + row], self._starts[start + row + 1])
            places = torch.from_numpy(np.searchsorted(columns, self._items[span])).to(device)
            found = self._scores(images.select(slice(row, row + 1)), self._items[span])
            if found.decoupled and t2i is i2t:
                t2i = torch.full_like(i2t, -torch.inf)
            i2t[row, places] = found.i2t[0]
            if found.decoupled:
                t2i[row, places] = found.t2i[0]
        rows = torch.arange(start, stop, device=device)
        chosen = torch.from_numpy(columns.astype(np.int64)).to(device)
        return Tile(rows, chosen, Scores(i2t, t2i), last=True)

    def _scores(self, image: Encoded, items: NDArray[np.int32]) -> Scores:
        """One image with some sentences, those of like length together: (1, C)."""
        whole = self.whole
        chosen = [items[at : at + TOGETHER] for at in range(0, len(items), TOGETHER)]
        parts = [
            scored_at(whole.model, image, whole.sentences.pick(some.astype(np.int64)), whole.block)
            for some in chosen
        ]
        if not parts:
            return Scores.shared(torch.zeros(1, 0, device=image.mask.device))
        i2t = torch.cat([part.i2t for part in parts], dim=1)
        if not parts[0].decoupled:
            return Scores.shared(i2t)
        return Scores(i2t, torch.cat([part.t2i for part in parts], dim=1))


def _candidates_of(
    found: Negatives, corpus: Corpus, order: NDArray[np.int64]
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """For each image its candidates in either direction and its own sentences.

    Sentences (K,), image after image, by rising length, and where each image's begin (N + 1,).
    """
    images, sentences = len(found.sentences), len(found.images)
    place = np.empty(sentences, dtype=np.int64)
    place[order] = np.arange(sentences)
    keys = [corpus.pairs[:, 0] * sentences + place[corpus.pairs[:, 1]]]
    rows, columns = np.nonzero(found.sentences != NONE)
    keys.append(rows * sentences + place[found.sentences[rows, columns]])
    rows, columns = np.nonzero(found.images != NONE)
    keys.append(found.images[rows, columns].astype(np.int64) * sentences + place[rows])
    known = np.unique(np.concatenate(keys))
    starts = np.searchsorted(known, np.arange(images + 1) * sentences)
    return order[known % sentences].astype(np.int32), starts


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


def device_of(parameters: Iterable[Tensor]) -> torch.device:
    """Where a model is."""
    return next((value.device for value in parameters), torch.device("cpu"))
