"""A matcher reduced to its student: inner products stand for its scores, at their price."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from visavis.search.answers import Direction
from visavis.search.student import Pool, Student, named_towers
from visavis.types import Encoded, ImageBatch, Matcher, Scores, SentenceBatch


class Taught:
    """Follows the protocol of models. A token is a tower's vector; decoupled ones have two."""

    def __init__(self, model: Matcher, student: Student) -> None:
        """`student` was distilled from `model`; the caller has seen to that."""
        self.model = model
        self._towers = named_towers(student.towers)
        self._place: dict[Direction, int] = {}
        names = list(self._towers)
        self._place["i2t"] = names.index(student.tower_of("i2t"))
        self._place["t2i"] = names.index(student.tower_of("t2i"))

    @torch.inference_mode()
    def encode_images(self, images: ImageBatch) -> Encoded:
        """Vectors of the towers: (N, towers, P)."""
        encoded = self.model.encode_images(images)
        return _vectors([tower.images for tower in self._towers.values()], encoded)

    @torch.inference_mode()
    def encode_sentences(self, sentences: SentenceBatch) -> Encoded:
        """Vectors of the towers: (M, towers, P)."""
        encoded = self.model.encode_sentences(sentences)
        return _vectors([tower.sentences for tower in self._towers.values()], encoded)

    def score(self, images: Encoded, sentences: Encoded) -> Scores:
        """Inner products: (N, M)."""

        def of(place: int) -> Tensor:
            return images.tokens[:, place] @ sentences.tokens[:, place].T

        return self._both(of)

    def score_pairs(self, images: Encoded, sentences: Encoded) -> Scores:
        """The same for aligned rows: (P,)."""

        def of(place: int) -> Tensor:
            return (images.tokens[:, place] * sentences.tokens[:, place]).sum(dim=1)

        return self._both(of)

    def pair_bytes(self, regions: int, words: int) -> int:
        """Memory of a pair while it is scored: its scores."""
        return 4 * len(self._towers)

    def _both(self, of: Callable[[int], Tensor]) -> Scores:
        i2t, t2i = self._place["i2t"], self._place["t2i"]
        return Scores.shared(of(i2t)) if i2t == t2i else Scores(of(i2t), of(t2i))


def _vectors(pools: list[Pool], encoded: Encoded) -> Encoded:
    vectors = torch.stack([pool(encoded) for pool in pools], dim=1)
    return Encoded(vectors, torch.ones_like(vectors[..., 0], dtype=torch.bool))
