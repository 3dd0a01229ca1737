"""SCAN: stacked cross attention between regions and words.

Lee, Chen, Hua, Hu, He: Stacked Cross Attention for Image-Text Matching, ECCV 2018,
https://arxiv.org/abs/1803.08024.

Text-to-image (`t2i`): every word attends to the regions of every image and is compared with what
it attends to. Image-to-text (`i2t`): the same with the sides exchanged. Scores come from inner
products alone (`visavis.layers.attention`); `plain=True` follows the equations, with equal results.
Clipping is leaky (slope 0.1) and normalisation runs over the queries, as in the published code; the
feature normalisations beyond the paper's are the code's, two of which (`l1norm`,
`clipped_l1norm`) it names without defining them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor, nn

from visavis.kernels.choose import attended_pairs, attended_scores, is_fused
from visavis.kernels.spec import AttendSpec, Attention
from visavis.layers.attention import (
    Aggregation,
    FeatureNorm,
    Side,
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


@dataclass(frozen=True, kw_only=True)
class ScanConfig(RegionSettings):
    """Settings of SCAN."""

    vocab_size: int
    dim: int = 1024  # joint space
    text: TextConfig = field(default_factory=TextConfig)
    direction: Literal["t2i", "i2t"] = "t2i"
    lambda_softmax: float = 9.0  # of the attention; published: 9 for t2i, 4 for i2t
    lambda_lse: float = 6.0  # of LogSumExp; published: 6 for t2i, 5 or 20 for i2t
    aggregation: Aggregation = "LogSumExp"
    feature_norm: FeatureNorm = "clipped_l2norm"
    weight_normalised: bool = False
    normalise_images: bool = True
    normalise_sentences: bool = True
    plain: bool = False  # score by the equations, slowly


class Scan(nn.Module):
    """Stacked cross attention in one direction."""

    def __init__(self, config: ScanConfig) -> None:
        super().__init__()
        self.config = config
        self.project = RegionProjection.of(config, weight_normalised=config.weight_normalised)
        self.text = TextEncoder(config.text, vocab_size=config.vocab_size, dim=config.dim)

    def encode_images(self, images: ImageBatch) -> Encoded:
        """v_i = W_v f_i + b_v, of unit length: (N, R, D)."""
        regions = self.project(images.regions)
        if self.config.normalise_images:
            regions = l2norm(regions)
        return self._encoded(regions, images.mask, attended_to=self.config.direction == "t2i")

    def encode_sentences(self, sentences: SentenceBatch) -> Encoded:
        """e_i = (forward + backward) / 2, of unit length: (M, W, D)."""
        words = self.text(sentences)
        if self.config.normalise_sentences:
            words = l2norm(words)
        return self._encoded(words, sentences.mask, attended_to=self.config.direction == "i2t")

    def _encoded(self, vectors: Tensor, mask: Tensor, *, attended_to: bool) -> Encoded:
        vectors = vectors * mask.unsqueeze(2)
        return Encoded(vectors, mask, extra={"gram": gram_matrix(vectors)} if attended_to else {})

    def _weigh(self, affinity: Tensor, masks: tuple[Tensor, Tensor]) -> Tensor:
        config = self.config
        return attention_weights(
            affinity, masks, norm=config.feature_norm, smooth=config.lambda_softmax
        )

    def _sides(self, images: Encoded, sentences: Encoded) -> tuple[Side, Side]:
        """Queries and sources of the direction."""
        regions, words = side_of(images), side_of(sentences)
        return (words, regions) if self.config.direction == "t2i" else (regions, words)

    @property
    def _spec(self) -> AttendSpec:
        """How queries look, for a fused form."""
        config = self.config
        return AttendSpec(
            smooth=config.lambda_softmax,
            norm=config.feature_norm,
            aggregation=config.aggregation,
            lambda_lse=config.lambda_lse,
        )

    def _attention(self, images: Encoded, sentences: Encoded) -> Attention:
        """What a fused form is asked for."""
        t2i = self.config.direction == "t2i"
        return Attention(
            left=side_of(images),
            right=side_of(sentences),
            left_looks=None if t2i else self._spec,
            right_looks=self._spec if t2i else None,
        )

    def score(self, images: Encoded, sentences: Encoded) -> Scores:
        """Attention, cosine and aggregation for every pair: (N, M)."""

        def eager() -> Tensor:
            queries, sources = self._sides(images, sentences)
            cosine = attended_cosine_plain if self.config.plain else attended_cosine
            relevance = cosine(queries, sources, self._weigh)  # (sources, queries, Q)
            scores = self._aggregate(relevance, queries.mask)
            return scores if self.config.direction == "t2i" else scores.T

        if self.config.plain:
            return Scores.shared(eager())
        return Scores.shared(attended_scores(self._attention(images, sentences), eager))

    def score_pairs(self, images: Encoded, sentences: Encoded) -> Scores:
        """The same for aligned rows: (P,)."""

        def eager() -> Tensor:
            queries, sources = self._sides(images, sentences)
            relevance = attended_cosine_pairs(queries, sources, self._weigh)  # (P, Q)
            return self._aggregate(relevance, queries.mask)

        if self.config.plain:
            return Scores.shared(eager())
        return Scores.shared(attended_pairs(self._attention(images, sentences), eager))

    def pair_bytes(self, regions: int, words: int) -> int:
        """Memory of a pair while it is scored: affinities, weights and two products of them.

        The equations build attended vectors as well, and multiply them with the queries. A fused
        form keeps none of all that; it works faster on larger blocks.
        """
        affinities = 4 * regions * words
        if not self.config.plain:
            fused = is_fused(self._spec, next(self.parameters()).device.type)
            return (2 if fused else 4) * affinities
        queries = words if self.config.direction == "t2i" else regions
        return 4 * (affinities + 2 * queries * self.config.dim)

    def pair_flops(self, regions: int, words: int) -> int:
        """Operations that depend on the pair and that no algebra spares: its affinities."""
        return 2 * regions * words * self.config.dim

    def _aggregate(self, relevance: Tensor, mask: Tensor) -> Tensor:
        return aggregate(relevance, mask, self.config.aggregation, self.config.lambda_lse)

    def attend(self, images: Encoded, sentences: Encoded) -> Tensor:
        """Attention of aligned rows, for explanations: word w on region r, (P, W, R).

        For i2t, where regions look at words, the weights are turned around and each word's column
        is scaled to sum to one.
        """
        queries, sources = self._sides(images, sentences)
        affinity = queries.vectors @ sources.vectors.transpose(1, 2)  # (P, Q, S)
        weights = self._weigh(affinity, (queries.mask[:, :, None], sources.mask[:, None, :]))
        if self.config.direction == "t2i":
            return weights * sentences.mask.unsqueeze(2)
        turned = (weights * images.mask.unsqueeze(2)).transpose(1, 2)  # (P, W, R)
        return turned / turned.sum(dim=2, keepdim=True).clamp_min(1e-12)
