"""Training pairs to batches. The order follows from seed and epoch: any step can be resumed."""

from __future__ import annotations

import copy
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
        self._together = 1

    def grouped(self, sentences: int) -> PairSource:
        """The same pairs, in orders where so many of an image follow each other.

        Batches of a multiple of `sentences` then hold whole groups. What an image has left over
        is put into groups with what others have.
        """
        found = copy.copy(self)
        found._together = sentences
        return found

    def __len__(self) -> int:
        return len(self.corpus.pairs)

    def order(self, seed: int, epoch: int) -> Tensor:
        """Indices of all pairs, shuffled."""
        generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
        order = torch.randperm(len(self), generator=generator)
        if self._together == 1:
            return order
        images = torch.from_numpy(self.corpus.pairs[:, 0])
        return _in_groups(order, images, self._together, generator)

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


def _in_groups(order: Tensor, images: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Pairs (P,) put anew so that, from the start, each `size` of them are of one image if it has.

    Which pairs of an image stand together, and where, is as random as the order was.
    """
    order = order[images[order].argsort(stable=True)]  # image by image
    owner = images[order]
    place = torch.arange(len(order))
    begins = torch.ones(len(order), dtype=torch.bool)
    begins[1:] = owner[1:] != owner[:-1]
    within = place - torch.where(begins, place, 0).cummax(dim=0).values
    whole = within < owner.bincount()[owner] // size * size
    rest = order[~whole]
    rest = rest[torch.randperm(len(rest), generator=generator)]
    used = len(rest) // size * size
    groups = torch.cat([order[whole], rest[:used]]).view(-1, size)
    groups = groups[torch.randperm(len(groups), generator=generator)]
    return torch.cat([groups.flatten(), rest[used:]])
