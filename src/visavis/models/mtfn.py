"""MTFN: a similarity of two vectors learned as a low-rank tensor fusion, not as a common space.

Wang, Xu, Yang, Hanjalic, Shen, Song: Matching Images and Text with Multi-modal Tensor Fusion and
Re-ranking, ACM Multimedia 2019, https://doi.org/10.1145/3343031.3350875.

The similarity is bilinear under its sigmoid, so an image is encoded as K' x̃ and a sentence as ỹ:
their inner product is the logit, and the fused vector of a pair is never made
(`visavis.layers.fusion`); `plain=True` makes it, with equal scores. Scores are the logits: they
rank as their sigmoids do (eq. 4), but large ones do not become equal. The loss of the paper (eq. 5)
is `hardest_hinge_probability`, which takes the sigmoid itself. A second fusion compares sentences
(eq. 6-7) for the re-ranking of `visavis.rerank`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Self

import torch
from torch import Tensor, nn

from visavis.errors import DataError
from visavis.layers.fusion import ChangedFusion, LayeredFusion, LowRankFusion, fused_pairs
from visavis.layers.gru import last_word
from visavis.layers.guided_attention import GuidedAttention, affinity, attention_weights
from visavis.layers.norm import l2norm
from visavis.layers.pooling import best_regions, masked_mean, pool
from visavis.layers.regions import RegionProjection
from visavis.layers.sphere import HEADROOM, on_sphere, remember
from visavis.layers.text import TextConfig, TextEncoder
from visavis.losses.same_side import same_side_hinge
from visavis.types import Encoded, ImageBatch, Scores, SentenceBatch, TrainingStep

SKIP_THOUGHT = TextConfig(
    encoder="skip_thought", word_dim=620, state_dim=2400, bidirectional=False, dropout=0.25
)


@dataclass(frozen=True, kw_only=True)
class MtfnConfig:
    """Settings of MTFN."""

    region_dim: int  # width of the region vectors
    vocab_size: int
    dim: int = 1024  # d_v and d_t
    text: TextConfig = field(default_factory=lambda: SKIP_THOUGHT)
    sentence_pooling: Literal["last", "mean", "max"] = "last"  # over the words of a sentence
    fusion: Literal["tensor", "sum", "product", "concatenation"] = "tensor"  # table 3
    rank: int = 20  # R of eq. 3
    fusion_dim: int = 0  # d_f; 0: dim
    features: Literal["global", "local"] = "global"  # fig. 5; local: every region with every word
    attention: bool = False  # table 3: regions weighted for each sentence
    hidden: int = 4096  # width of the layers behind sum, product and concatenation
    layers: int = 3  # how many
    dropout: float = 0.25  # before both projections, and behind those layers
    legacy: bool = False  # as published: tanh behind both projections, biases everywhere
    text_text: bool = True  # a second fusion compares sentences (eq. 6)
    text_margin: float = 0.2  # alpha of eq. 7
    text_negatives: Literal["hardest", "all"] = "hardest"  # T_h of eq. 7
    standardise_regions: bool = False  # centre and scale the columns, fitted on training images
    plain: bool = False  # fuse every pair, slowly

    def __post_init__(self) -> None:
        for name in ("dim", "rank", "hidden", "layers"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("fusion_dim", "text_margin"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be in [0, 1), got {self.dropout}")
        local = self.features == "local"
        if local and (self.attention or self.fusion != "tensor"):
            raise ValueError("features local goes with fusion tensor and without attention")
        if self.text_text and (local or self.fusion != "tensor"):
            raise ValueError("text_text needs fusion tensor and features global; set it to false")
        both_ways = self.text.encoder == "gru" and self.text.bidirectional
        if both_ways and self.sentence_pooling == "last" and not local:
            raise ValueError(
                "at the last word the backward GRU has seen that word alone; set sentence_pooling "
                "to mean or max, or text.bidirectional to false"
            )

    @property
    def fused(self) -> int:
        """Width of the fused vector f."""
        return self.fusion_dim or self.dim

    @property
    def by_region(self) -> bool:
        """Whether regions are kept apart until a sentence is known."""
        return self.attention or self.features == "local"

    @property
    def searchable(self) -> bool:
        """Whether one inner product is the logit."""
        return self.fusion == "tensor" and not self.by_region and not self.plain


class Mtfn(nn.Module):
    """Multi-modal tensor fusion network."""

    longest_image: Tensor
    longest_sentence: Tensor

    def __init__(self, config: MtfnConfig) -> None:
        super().__init__()
        self.config = config
        dim = config.dim
        self.project = RegionProjection(
            config.region_dim,
            dim,
            dropout=config.dropout,
            standardised=config.standardise_regions,
        )
        if not config.legacy:  # the equations have none
            self.project.linear.register_parameter("bias", None)
        self.text = TextEncoder(config.text, vocab_size=config.vocab_size, dim=dim, mapped=False)
        self.project_sentence = nn.Sequential(
            nn.Dropout(config.dropout), nn.Linear(self.text.width, dim, bias=config.legacy)
        )
        self.fusion = self._fusion()
        self.attention = GuidedAttention(dim) if config.attention else None
        self.text_fusion: ChangedFusion | None = None
        if config.text_text:
            self.text_fusion = ChangedFusion(dim, config.fused, config.rank, biased=config.legacy)
        for name in ("longest_image", "longest_sentence"):
            self.register_buffer(name, torch.zeros(()))

    def _fusion(self) -> LowRankFusion | LayeredFusion:
        config = self.config
        if config.fusion == "tensor":
            return LowRankFusion(config.dim, config.fused, config.rank, biased=config.legacy)
        hidden, layers, dropout = config.hidden, config.layers, config.dropout
        return LayeredFusion(
            config.dim, config.fusion, hidden=hidden, layers=layers, dropout=dropout
        )

    def train(self, mode: bool = True) -> Self:  # noqa: FBT001, FBT002  (torch's own signature)
        """As ever; what was kept of the weights is made anew."""
        for fusion in (self.fusion, self.text_fusion):
            if isinstance(fusion, LowRankFusion):
                fusion.forget()
        return super().train(mode)

    def encode_images(self, images: ImageBatch) -> Encoded:
        """K' x̃ of x = W_v v, v the mean of the regions (N, 1, D + 1), or one for each region."""
        x = self._images(images)
        return x if self.config.plain else self._fitted(self.fusion.images(x.tokens), x, 0)

    def _images(self, images: ImageBatch) -> Encoded:
        """The vectors x of images, with what attention needs: (N, 1 or R, D)."""
        regions, mask = images.regions, images.mask
        if not self.config.by_region:
            regions = masked_mean(regions, mask).unsqueeze(1)
            mask = torch.ones_like(mask[:, :1])
        x = self._activated(self.project(regions))
        extra = {} if self.attention is None else {"keys": self.attention.keys(x)}
        return Encoded(x, mask, extra=extra)

    def encode_sentences(self, sentences: SentenceBatch) -> Encoded:
        """ỹ of y = W_t t, t the state at the last word (M, 1, D + 1), or one for each word."""
        y = self._sentences(sentences)
        return y if self.config.plain else self._fitted(self.fusion.sentences(y.tokens), y, 1)

    def _sentences(self, sentences: SentenceBatch) -> Encoded:
        """The vectors y of sentences, with what attention needs: (M, 1 or W, D)."""
        words, mask = self.text(sentences), sentences.mask
        if self.config.features == "global":
            how = self.config.sentence_pooling
            t = last_word(words, mask) if how == "last" else pool(words, mask, how)
            words, mask = t.unsqueeze(1), torch.ones_like(mask[:, :1])
        y = self._activated(self.project_sentence(words))
        extra = {} if self.attention is None else {"queries": self.attention.queries(y[:, 0])}
        return Encoded(y, mask, extra=extra)

    def _activated(self, vectors: Tensor) -> Tensor:
        return torch.tanh(vectors) if self.config.legacy else vectors

    def _fitted(self, tokens: Tensor, items: Encoded, side: int) -> Encoded:
        """`pooled` is there where one inner product is the logit, once training saw lengths."""
        mask = items.mask
        if not self.config.searchable:
            return Encoded(tokens, mask, extra=items.extra)
        vectors, longest = tokens[:, 0], (self.longest_image, self.longest_sentence)[side]
        if self.training:
            remember(longest, vectors)
            return Encoded(tokens, mask)
        seen = bool(self.longest_image > 0) and bool(self.longest_sentence > 0)
        return Encoded(tokens, mask, on_sphere(vectors, HEADROOM * longest, side) if seen else None)

    def score(self, images: Encoded, sentences: Encoded) -> Scores:
        """Logits of S_IT (eq. 4) of every pair: (N, M)."""
        return Scores.shared(self._logits(images, sentences, aligned=False))

    def score_pairs(self, images: Encoded, sentences: Encoded) -> Scores:
        """The same for aligned rows: (P,)."""
        return Scores.shared(self._logits(images, sentences, aligned=True))

    def _logits(self, images: Encoded, sentences: Encoded, *, aligned: bool) -> Tensor:
        """(N, M), or (P,) of aligned rows."""
        left, right = images.tokens, sentences.tokens
        weights = None
        if self.attention is not None:
            keys, queries = images.extra["keys"], sentences.extra["queries"]
            weights = attention_weights(keys, queries, images.mask, aligned=aligned)
        if isinstance(self.fusion, LowRankFusion) and not self.config.plain:
            found = affinity(left, right, aligned=aligned)  # (..., L, W)
            if weights is not None:  # the logit is linear in x: its mean is that of the mean
                return (found.squeeze(-1) * weights).sum(dim=-1)
        else:
            if weights is not None:
                equation = "pr,prd->pd" if aligned else "nmr,nrd->nmd"
                left = torch.einsum(equation, weights, left).unsqueeze(-2)
            elif not aligned:
                left = left.unsqueeze(1)
            fuse = self.fusion.straight if self.config.plain else self.fusion.combine
            found = fuse(left.unsqueeze(-2), right.unsqueeze(-3))
        if self.config.features == "global":
            return found[..., 0, 0]
        return best_regions(found, images.mask, sentences.mask, aligned=aligned)

    def fusion_vectors(self, images: ImageBatch, sentences: SentenceBatch) -> Tensor:
        """What the last linear map makes the logits of, for aligned rows: f of eq. 3, (P, F)."""
        x, y = self._images(images), self._sentences(sentences)
        if self.attention is not None:
            keys, queries = x.extra["keys"], y.extra["queries"]
            weights = attention_weights(keys, queries, x.mask, aligned=True)
            x = Encoded(weights.unsqueeze(1) @ x.tokens, torch.ones_like(x.mask[:, :1]))
        return fused_pairs(self.fusion, x, y)

    def own_terms(self, step: TrainingStep) -> Mapping[str, Tensor]:
        """Eq. 7 among the sentences of the batch, unless the text-text branch is frozen.

        It learns from sentence vectors as they are: no gradient reaches what made them.
        """
        if self.text_fusion is None or not any(
            parameter.requires_grad for parameter in self.text_fusion.parameters()
        ):
            return {}
        left, right = self._sides(step.encoded_sentences.tokens.detach())
        similarity = (left @ right.T).sigmoid()
        together = step.positives | step.positives.T
        margin, hardest = self.config.text_margin, self.config.text_negatives == "hardest"
        return {"text_text": same_side_hinge(similarity, together, margin, hardest=hardest)}

    def text_vectors(self, sentences: Encoded) -> tuple[Tensor, Tensor]:
        """Two (M, D + 1) matrices whose products are the logits of S_TT (eq. 6).

        Without a text-text branch, sentence vectors of length 1, as of any model.
        """
        if self.text_fusion is None:
            vectors = l2norm(masked_mean(sentences.tokens, sentences.mask))
            return vectors, vectors
        return self._sides(sentences.tokens)

    def text_similarity(self, sentences: Encoded, others: Encoded) -> Tensor:
        """S_TT (eq. 6), from 0 to 1: (M, M').

        Raises:
            DataError: the model was made without a text-text branch.
        """
        if self.text_fusion is None:
            raise DataError("the model has no text-text branch; train it with model.text_text true")
        return (self._sides(sentences.tokens)[0] @ self._sides(others.tokens)[1].T).sigmoid()

    def _sides(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """K' ỹ and ỹ of the text-text branch for encoded sentences (M, 1, ...)."""
        if self.text_fusion is None or not isinstance(self.fusion, LowRankFusion):
            raise TypeError("no text-text branch")
        y = tokens[:, 0, : self.config.dim]
        return self.text_fusion.on(self.fusion, y), self.text_fusion.sentences(y)

    def pair_bytes(self, regions: int, words: int) -> int:
        """Memory of a pair while it is scored: products of tokens, and what they are fused to."""
        config = self.config
        cells = (regions if config.by_region else 1) * (words if config.features == "local" else 1)
        if config.fusion != "tensor":
            return 4 * (3 * cells + 2 * config.dim + 3 * config.hidden)
        if config.plain:
            own = cells if config.features == "local" else 1
            return 4 * (3 * cells + 2 * config.dim + 3 * own * config.rank * config.fused)
        return 4 * 3 * cells

    def pair_flops(self, regions: int, words: int) -> int:
        """Operations that depend on the pair: inner products of tokens, and layers."""
        config = self.config
        layered = config.fusion in ("sum", "concatenation")
        width = config.hidden if layered else config.dim + config.legacy
        products = 0
        if config.attention:
            products += regions * (config.dim + width)
        elif config.fusion == "tensor":
            local = config.features == "local"
            products += (regions * words if local else 1) * width
        if config.fusion != "tensor":
            first = config.dim * config.hidden if config.fusion == "product" else 0
            products += first + (config.layers - 1) * config.hidden**2 + config.hidden
        return 2 * products
