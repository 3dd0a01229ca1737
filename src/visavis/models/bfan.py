"""BFAN: attention in both directions that is taken away from what matters little.

Liu, Mao, Liu, Zhang, Wang, Zhang: Focus Your Attention: A Bidirectional Focal Attention Network
for Image-Text Matching, ACM MM 2019, https://arxiv.org/abs/1909.11416.

Every query first attends to all sources, as in SCAN. A source then stays only if its attention,
compared with that of each other source, comes out above zero:

    F(i) = sum_j (a_i - a_j) g(a_j)          g = 1 (`equal`) or g = sqrt (`prob`)

and what stays is scaled to sum to one. F is linear in a_i, so no pairwise tensor is needed: `equal`
keeps a_i > mean(a), which is one divided by their number, and `prob` keeps a_i > sum(a^1.5) /
sum(a^0.5). Nor is the scaling needed, which a cosine does not see. `plain=True` builds the pairs
and scales. The score is the mean cosine of words with what they attend to, plus that of regions.

Sources that are all alike, or only one, come out at zero, where the published code divides zero by
zero. Here what reaches the threshold stays, to within `TIE` of it: rounding shall not decide. An
image of one region looks at all words alike, up to this.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from visavis.kernels.choose import attended_pairs, attended_scores, is_fused
from visavis.kernels.spec import FOCAL_TIE as TIE
from visavis.kernels.spec import AttendSpec, Attention
from visavis.layers.attention import (
    Side,
    affinities,
    aggregate,
    attended_cosine,
    attended_cosine_pairs,
    attended_cosine_plain,
    attention_weights,
    gram_matrix,
    side_of,
)
from visavis.layers.norm import l2norm
from visavis.layers.regions import RegionProjection, RegionSettings
from visavis.layers.text import TextConfig, TextEncoder
from visavis.types import Encoded, ImageBatch, Scores, SentenceBatch

Focal = Literal["equal", "prob"]


@dataclass(frozen=True, kw_only=True)
class BfanConfig(RegionSettings):
    """Settings of BFAN."""

    vocab_size: int
    dim: int = 1024  # joint space
    text: TextConfig = field(default_factory=TextConfig)
    focal: Focal = "equal"  # what the others count when a source is compared with them
    direction: Literal["both", "t2i", "i2t"] = "both"  # both: the paper; else its ablation
    lambda_softmax: float = 20.0  # of the attention, in both directions
    plain: bool = False  # score by the equations, slowly


class Bfan(nn.Module):
    """Bidirectional focal attention."""

    def __init__(self, config: BfanConfig) -> None:
        super().__init__()
        self.config = config
        self.project = RegionProjection.of(config)
        self.text = TextEncoder(config.text, vocab_size=config.vocab_size, dim=config.dim)

    def encode_images(self, images: ImageBatch) -> Encoded:
        """Regions of unit length: (N, R, D)."""
        regions = l2norm(self.project(images.regions))
        return _encoded(regions, images.mask, attended_to=self.config.direction != "i2t")

    def encode_sentences(self, sentences: SentenceBatch) -> Encoded:
        """Words of unit length, both directions of the GRU averaged: (M, W, D)."""
        words = l2norm(self.text(sentences))
        return _encoded(words, sentences.mask, attended_to=self.config.direction != "t2i")

    def score(self, images: Encoded, sentences: Encoded) -> Scores:
        """Mean cosine with the focal attention, both directions added up, every pair: (N, M)."""
        regions, words = side_of(images), side_of(sentences)

        def eager() -> Tensor:
            return torch.stack(list(self._fast(regions, words))).sum(dim=0)

        if self.config.plain:
            return Scores.shared(torch.stack(list(self._plain(regions, words))).sum(dim=0))
        return Scores.shared(attended_scores(self._attention(regions, words), eager))

    @property
    def _spec(self) -> AttendSpec:
        """How queries look, for a fused form."""
        config = self.config
        return AttendSpec(smooth=config.lambda_softmax, focal=config.focal, aggregation="Mean")

    def _attention(self, regions: Side, words: Side) -> Attention:
        """What a fused form is asked for."""
        return Attention(
            left=regions,
            right=words,
            left_looks=None if self.config.direction == "t2i" else self._spec,
            right_looks=None if self.config.direction == "i2t" else self._spec,
        )

    def _fast(self, regions: Side, words: Side) -> Iterator[Tensor]:
        """Scores (N, M) of each direction; one affinity product serves both."""
        affinity = affinities(words, regions)  # (N, M, W, R)
        if self.config.direction != "i2t":
            yield _mean(attended_cosine(words, regions, self._weigh, affinity), words)
        if self.config.direction != "t2i":
            turned = affinity.permute(1, 0, 3, 2).contiguous()  # (M, N, R, W)
            yield _mean(attended_cosine(regions, words, self._weigh, turned), regions).T

    def _plain(self, regions: Side, words: Side) -> Iterator[Tensor]:
        """The same with attended vectors and a pairwise focal tensor."""
        if self.config.direction != "i2t":
            yield _mean(attended_cosine_plain(words, regions, self._weigh), words)
        if self.config.direction != "t2i":
            yield _mean(attended_cosine_plain(regions, words, self._weigh), regions).T

    def score_pairs(self, images: Encoded, sentences: Encoded) -> Scores:
        """The same for aligned rows: (P,)."""
        regions, words = side_of(images), side_of(sentences)

        def eager() -> Tensor:
            parts = []
            if self.config.direction != "i2t":
                parts.append(_mean(attended_cosine_pairs(words, regions, self._weigh), words))
            if self.config.direction != "t2i":
                parts.append(_mean(attended_cosine_pairs(regions, words, self._weigh), regions))
            return torch.stack(parts).sum(dim=0)

        if self.config.plain:
            return Scores.shared(eager())
        return Scores.shared(attended_pairs(self._attention(regions, words), eager))

    def _weigh(self, affinity: Tensor, masks: tuple[Tensor, Tensor]) -> Tensor:
        weights = attention_weights(
            affinity, masks, norm="clipped_l2norm", smooth=self.config.lambda_softmax
        )
        focus = focal_weights_plain if self.config.plain else focal_part
        return focus(weights, masks[1], self.config.focal)

    def attend(self, images: Encoded, sentences: Encoded) -> Tensor:
        """Focal attention of aligned rows, for explanations: word w on region r, (P, W, R).

        With `i2t` alone, where regions look at words, the weights are turned around and each
        word's row is scaled to sum to one; a word that no region looks at has zeros.
        """
        regions, words = side_of(images), side_of(sentences)
        i2t = self.config.direction == "i2t"
        queries, sources = (regions, words) if i2t else (words, regions)
        affinity = queries.vectors @ sources.vectors.transpose(1, 2)  # (P, Q, S)
        weights = self._weigh(affinity, (queries.mask[:, :, None], sources.mask[:, None, :]))
        weights = _scaled(weights) * queries.mask.unsqueeze(2)
        if not i2t:
            return weights
        turned = weights.transpose(1, 2)  # (P, W, R)
        return turned / turned.sum(dim=2, keepdim=True).clamp_min(1e-12)

    def pair_bytes(self, regions: int, words: int) -> int:
        """Memory of a pair while it is scored: affinities, their copy, weights and products.

        The equations also build a comparison of every two sources, and attended vectors. A fused
        form keeps none of all that; it works faster on larger blocks.
        """
        array = 4 * regions * words
        if not self.config.plain:
            fused = is_fused(self._spec, next(self.parameters()).device.type)
            return (2 if fused else 6) * array
        longest = max(regions, words)
        return 4 * array + 2 * array * longest + 8 * longest * self.config.dim

    def pair_flops(self, regions: int, words: int) -> int:
        """Operations that depend on the pair and that no algebra spares: its affinities."""
        return 2 * regions * words * self.config.dim


def focal_part(weights: Tensor, mask: Tensor, focal: Focal) -> Tensor:
    """Attention (..., Q, S) with 0 for every source below the threshold; not scaled.

    Which sources stay is decided without a gradient, as in the published code.

    Args:
        weights: sum to one over the last axis; 0 where a source is padding.
        mask: real sources, broadcasts to (..., 1, S).
        focal: what the others count.

    >>> weights = torch.tensor([[0.50, 0.40, 0.10]])
    >>> focal_part(weights, torch.ones(1, 3, dtype=torch.bool), "equal")
    tensor([[0.5000, 0.4000, 0.0000]])
    """
    with torch.no_grad():
        if focal == "equal":
            threshold = 1 / mask.sum(dim=-1, keepdim=True)
        else:
            root = weights.sqrt()
            threshold = (weights * root).sum(dim=-1, keepdim=True)
            threshold = threshold / root.sum(dim=-1, keepdim=True)
        kept = weights > (1 - TIE) * threshold
    return torch.where(kept, weights, 0.0)


def focal_weights_plain(weights: Tensor, mask: Tensor, focal: Focal) -> Tensor:
    """`focal_part` by the equation, scaled: every two sources are compared, (..., Q, S, S)."""
    with torch.no_grad():
        counts = weights.sqrt() if focal == "prob" else mask.expand_as(weights).float()
        difference = weights.unsqueeze(-1) - weights.unsqueeze(-2)  # a_i - a_j
        least = -TIE * (weights * counts).sum(dim=-1, keepdim=True)
        kept = (difference * counts.unsqueeze(-2)).sum(dim=-1) > least
    return _scaled(weights * kept)


def _scaled(weights: Tensor) -> Tensor:
    return weights / weights.sum(dim=-1, keepdim=True)


def _encoded(vectors: Tensor, mask: Tensor, *, attended_to: bool) -> Encoded:
    vectors = vectors * mask.unsqueeze(2)
    return Encoded(vectors, mask, extra={"gram": gram_matrix(vectors)} if attended_to else {})


def _mean(relevance: Tensor, queries: Side) -> Tensor:
    """Mean over the real queries: (..., Q) to (...)."""
    return aggregate(relevance, queries.mask, "Mean", smooth=1.0)
