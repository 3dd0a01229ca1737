"""VSRN: regions reason about each other, then a memory reads them into one vector.

Li, Zhang, Li, Li, Fu: Visual Semantic Reasoning for Image-Text Matching, ICCV 2019,
https://arxiv.org/abs/1909.02701.

Region relationship reasoning: V* = W_r (R V W_g) + V, four times, with R = theta(V) phi(V)' divided
by the number of regions and no softmax. Global semantic reasoning: a GRU over the regions, whose
last state is the image. While training, a decoder also has to say the sentence from the regions
(`visavis.layers.caption`); that term belongs to the model.

The published code differs between corpora: on Flickr30K image vectors are batch-normalised, on COCO
mapped regions are divided by their length instead. Both are settings. Its lengths run over
the REGIONS of each channel, not over the channels of each region; `legacy=True` does so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from visavis.layers.caption import CaptionConfig, Captioner
from visavis.layers.gru import last_word
from visavis.layers.norm import l2norm
from visavis.layers.pooling import pool
from visavis.layers.products import inner_products
from visavis.layers.regions import RegionProjection, RegionSettings
from visavis.layers.text import TextConfig, TextEncoder
from visavis.types import Encoded, ImageBatch, Scores, SentenceBatch, TrainingStep


@dataclass(frozen=True, kw_only=True)
class VsrnConfig(RegionSettings):
    """Settings of VSRN."""

    vocab_size: int
    dim: int = 2048  # of regions, memory and joint space
    text: TextConfig = field(default_factory=lambda: TextConfig(bidirectional=False))
    sentence_pooling: Literal["last", "mean", "max"] = "last"  # the paper: state at the last word
    layers: int = 4  # of region relationship reasoning
    normalise_regions: bool = True  # after the first map: published for COCO, not for Flickr30K
    batch_norm: bool = False  # of image vectors: published for Flickr30K, not for COCO
    caption: CaptionConfig = field(default_factory=CaptionConfig)
    legacy: bool = False  # lengths over the regions, and padding is learned after each end mark


class Vsrn(nn.Module):
    """Visual semantic reasoning: one vector per image, one per sentence."""

    def __init__(self, config: VsrnConfig) -> None:
        super().__init__()
        self.config = config
        self.project = RegionProjection.of(config)
        self.relations = nn.ModuleList(RegionRelations(config.dim) for _ in range(config.layers))
        self.memory = nn.GRU(config.dim, config.dim, batch_first=True)
        self.image_norm = nn.BatchNorm1d(config.dim) if config.batch_norm else nn.Identity()
        self.text = TextEncoder(config.text, vocab_size=config.vocab_size, dim=config.dim)
        self.captioner = (
            Captioner(
                config.caption,
                region_dim=config.dim,
                vocab_size=config.vocab_size,
                pad_after_end=config.legacy,
            )
            if config.caption.weight
            else None
        )

    def encode_images(self, images: ImageBatch) -> Encoded:
        """The memory after the last region, of unit length: (N, 1, D).

        While training, `extra` has the regions that the caption is said from.
        """
        regions, mask = real_first(images)
        regions = self.reason(regions, mask)  # (N, R, D)
        states, _ = self.memory(regions)
        vectors = l2norm(self.image_norm(last_word(states, mask)))
        if self.training and self.captioner is not None:
            return _one_token(vectors, {"regions": regions, "region_mask": mask})
        return _one_token(vectors)

    def reason(self, regions: Tensor, mask: Tensor) -> Tensor:
        """Regions that know of each other: (N, R, region_dim) to (N, R, D); padding is 0."""
        regions = self.project(regions) * mask.unsqueeze(2)
        axis = 1 if self.config.legacy else 2
        if self.config.normalise_regions:
            regions = l2norm(regions, dim=axis)
        for relation in self.relations:
            regions = relation(regions, mask)
        return l2norm(regions, dim=axis)

    def encode_sentences(self, sentences: SentenceBatch) -> Encoded:
        """The state at the last word, of unit length: (M, 1, D)."""
        words = self.text(sentences)  # (M, W, D)
        how = self.config.sentence_pooling
        if how == "last":
            return _one_token(l2norm(last_word(words, sentences.mask)))
        return _one_token(l2norm(pool(words, sentences.mask, how)))

    def score(self, images: Encoded, sentences: Encoded) -> Scores:
        """Cosine of every image with every sentence: (N, M)."""
        return Scores.shared(inner_products(images.tokens[:, 0], sentences.tokens[:, 0]))

    def score_pairs(self, images: Encoded, sentences: Encoded) -> Scores:
        """The same for aligned rows: (P,)."""
        return Scores.shared((images.tokens[:, 0] * sentences.tokens[:, 0]).sum(dim=1))

    def upper_bounds(self, images: Encoded, sentences: Encoded) -> Scores:
        """The scores themselves, which cost no more than any bound: (N, M)."""
        return self.score(images, sentences)

    def pair_bytes(self, regions: int, words: int) -> int:
        """Memory of a pair while it is scored: its score."""
        return 4

    def pair_flops(self, regions: int, words: int) -> int:
        """Operations of a pair: one inner product."""
        return 2 * self.config.dim

    def own_terms(self, step: TrainingStep) -> Mapping[str, Tensor]:
        """`caption`: what it costs to say each sentence about its image."""
        if self.captioner is None:
            return {}
        extra = step.encoded_images.extra
        loss = self.captioner(extra["regions"], extra["region_mask"], step.sentences)
        return {"caption": self.config.caption.weight * loss}


class RegionRelations(nn.Module):
    """One layer of region relationship reasoning. It starts as the identity."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.theta = nn.Linear(dim, dim)
        self.phi = nn.Linear(dim, dim)
        self.value = nn.Linear(dim, dim)  # W_g
        self.out = nn.Linear(dim, dim)  # W_r
        self.norm = nn.BatchNorm1d(dim)
        nn.init.zeros_(self.norm.weight)
        nn.init.zeros_(self.norm.bias)

    def forward(self, regions: Tensor, mask: Tensor) -> Tensor:
        """(N, R, D) to (N, R, D). Padding sends nothing, gets nothing and is in no statistics."""
        real = mask.unsqueeze(2)
        relations = self.theta(regions) @ self.phi(regions).transpose(1, 2)  # (N, R, R)
        relations = relations / mask.sum(dim=1)[:, None, None]
        update = self.out(relations @ (self.value(regions) * real))  # (N, R, D)
        normed = self.norm(update[mask])  # (real regions, D)
        return regions + torch.zeros_like(update).masked_scatter(real, normed)


def real_first(images: ImageBatch) -> tuple[Tensor, Tensor]:
    """Regions (N, R, D) and mask (N, R) with the real ones first, in their order.

    The memory reads them one after the other, so that gaps between them would count.
    """
    if bool(images.mask.all()):
        return images.regions, images.mask
    width = max(1, int(images.mask.sum(dim=1).max()))
    order = (~images.mask).byte().argsort(dim=1, stable=True)[:, :width]
    wide = order.unsqueeze(2).expand(-1, -1, images.regions.shape[2])
    return images.regions.gather(1, wide), images.mask.gather(1, order)


def _one_token(vectors: Tensor, extra: Mapping[str, Tensor] | None = None) -> Encoded:
    mask = torch.ones(len(vectors), 1, dtype=torch.bool, device=vectors.device)
    return Encoded(vectors.unsqueeze(1), mask, pooled=vectors, extra=extra or {})
