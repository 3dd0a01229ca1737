"""Training pairs to batches. The order follows from seed and epoch: any step can be resumed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from visavis.data.corpus import Corpus
from visavis.data.features import Features
from visavis.data.texts import Texts
from visavis.types import ImageBatch, SentenceBatch


class PairSource:
    """The pairs of a corpus, ready to be read in batches: tokenised once, vectors memory-mapped."""

    def __init__(self, corpus: Corpus, features: Features, texts: Texts) -> None:
        """The corpus must be linked: its `rows` say which row of the features each image has."""
        if corpus.rows is None:
            raise ValueError("the corpus is not linked to its features")
        self.corpus = corpus
        self.rows = corpus.rows
        self.features = features
        self.texts = texts
        self._truth = {(int(i), int(j)) for i, j in corpus.pairs}
        images_of: dict[int, int] = {}
        for _, sentence in corpus.pairs:
            images_of[int(sentence)] = images_of.get(int(sentence), 0) + 1
        self._one_image_each = all(count == 1 for count in images_of.values())

    def __len__(self) -> int:
        return len(self.corpus.pairs)

    def order(self, seed: int, epoch: int) -> Tensor:
        """Indices of all pairs, shuffled."""
        generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
        return torch.randperm(len(self), generator=generator)

    def read(self, pairs: Sequence[int]) -> tuple[ImageBatch, SentenceBatch, Tensor]:
        """Images, sentences and positives (P, P) of some pairs."""
        chosen = self.corpus.pairs[np.asarray(pairs)]
        images = self.images(chosen[:, 0])
        sentences = self.texts.read(chosen[:, 1])
        return images, sentences, self.positives(chosen)

    def images(self, indices: NDArray[np.int64]) -> ImageBatch:
        """Region vectors of some images of the corpus."""
        return self.features.read(self.rows[indices])

    def positives(self, chosen: NDArray[np.int64]) -> Tensor:
        """Which image of the batch belongs to which sentence of the batch, by ground truth."""
        images = chosen[:, 0]
        if self._one_image_each:
            return torch.from_numpy(images[:, None] == images[None, :])
        truth = [[(int(i), int(j)) in self._truth for j in chosen[:, 1]] for i in images]
        return torch.tensor(truth)
