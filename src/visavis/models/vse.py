"""VSE++: one vector per image, one per sentence, compared by cosine or order.

Faghri, Fleet, Kiros, Fidler: VSE++: Improving Visual-Semantic Embeddings with Hard Negatives,
BMVC 2018, https://arxiv.org/abs/1707.05612.

The paper embeds the output of a CNN; on region vectors the image is their pooled projection, as the
published code does with one precomputed vector per image (one region here). Regions that come in
groups of different kinds (a detector's boxes, then the cells of a grid) may have a projection each,
which is the same as projecting the groups' pooled vectors joined. The hardest negative of
eq. 6 is a loss (`visavis.losses`), not a part of the model.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from visavis.layers.gru import last_word
from visavis.layers.norm import l2norm
from visavis.layers.pooling import Pooling, pool
from visavis.layers.products import inner_products
from visavis.layers.regions import RegionProjection, RegionSettings
from visavis.layers.text import TextConfig, TextEncoder
from visavis.types import Encoded, ImageBatch, Scores, SentenceBatch


@dataclass(frozen=True, kw_only=True)
class VseConfig(RegionSettings):
    """Settings of VSE++."""

    vocab_size: int
    dim: int = 1024  # joint space
    text: TextConfig = field(default_factory=lambda: TextConfig(bidirectional=False))
    image_pooling: Pooling = "mean"
    sentence_pooling: Literal["last", "mean", "max"] = "last"  # the paper: state at the last word
    measure: Literal["cosine", "order"] = "cosine"  # order: Vendrov et al. 2016, eq. 1
    region_hidden: int = 0  # units of a perceptron beside the linear map; the paper has none
    region_groups: tuple[int, ...] = ()  # sizes of groups, each with its own projection
    normalise_images: bool = True
    absolute: bool = False  # of both vectors, for order embeddings

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.region_groups and self.image_pooling != "mean":
            raise ValueError("region_groups are pooled by their mean; set image_pooling to mean")


class Vse(nn.Module):
    """Visual-semantic embedding with one vector per item."""

    def __init__(self, config: VseConfig) -> None:
        super().__init__()
        self.config = config
        self.project = nn.ModuleList(
            RegionProjection.of(config, hidden=config.region_hidden)
            for _ in config.region_groups or (0,)
        )
        self.text = TextEncoder(config.text, vocab_size=config.vocab_size, dim=config.dim)

    def encode_images(self, images: ImageBatch) -> Encoded:
        """f(i) = W_f phi(i), of unit length (eq. 1)."""
        how = self.config.image_pooling
        vectors = torch.stack(
            [
                pool(project(images.regions[:, part]), images.mask[:, part], how)
                for project, part in zip(self.project, self._groups(), strict=True)
            ]
        ).sum(dim=0)  # (N, D)
        return self._one_token(l2norm(vectors) if self.config.normalise_images else vectors)

    def _groups(self) -> list[slice]:
        """Places of the groups: detector boxes first, then the cells of a grid, say."""
        starts = [0, *itertools.accumulate(self.config.region_groups)][: len(self.project)]
        return [slice(*ends) for ends in itertools.pairwise([*starts, None])]

    def encode_sentences(self, sentences: SentenceBatch) -> Encoded:
        """g(c) = W_g psi(c), of unit length (eq. 2)."""
        words = self.text(sentences)  # (M, W, D)
        if self.config.sentence_pooling == "last":
            vectors = last_word(words, sentences.mask)
        else:
            vectors = pool(words, sentences.mask, self.config.sentence_pooling)
        return self._one_token(l2norm(vectors))

    def _one_token(self, vectors: Tensor) -> Encoded:
        if self.config.absolute:
            vectors = vectors.abs()
        mask = torch.ones(len(vectors), 1, dtype=torch.bool, device=vectors.device)
        comparable = self.config.measure == "cosine" and self.config.normalise_images
        return Encoded(vectors.unsqueeze(1), mask, pooled=vectors if comparable else None)

    def score(self, images: Encoded, sentences: Encoded) -> Scores:
        """s(i, c) = f(i).g(c) (eq. 3), or the order penalty -|max(0, g(c) - f(i))|: (N, M).

        The published code takes the norm of the order violation, not its square.
        """
        f, g = images.tokens[:, 0], sentences.tokens[:, 0]
        if self.config.measure == "cosine":
            return Scores.shared(inner_products(f, g))
        return Scores.shared(-(g[None] - f[:, None]).clamp_min(0).square().sum(dim=2).sqrt())

    def score_pairs(self, images: Encoded, sentences: Encoded) -> Scores:
        """The same for aligned rows: (P,)."""
        f, g = images.tokens[:, 0], sentences.tokens[:, 0]
        if self.config.measure == "cosine":
            return Scores.shared((f * g).sum(dim=1))
        return Scores.shared(-(g - f).clamp_min(0).square().sum(dim=1).sqrt())

    def upper_bounds(self, images: Encoded, sentences: Encoded) -> Scores:
        """The scores themselves, which cost no more than any bound: (N, M)."""
        return self.score(images, sentences)

    def pair_bytes(self, regions: int, words: int) -> int:
        """Memory of a pair while it is scored: its score, or a difference of two vectors, twice."""
        return 4 if self.config.measure == "cosine" else 2 * 4 * self.config.dim

    def pair_flops(self, regions: int, words: int) -> int:
        """Operations of a pair: a product and a sum for each column; one more for a difference."""
        return (2 if self.config.measure == "cosine" else 3) * self.config.dim
