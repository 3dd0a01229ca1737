"""SAEM: self-attention among regions, phrases of words, one vector for each side.

Wu, Wang, Song, Huang: Learning Fragment Self-Attention Embeddings for Image-Text Matching,
ACM Multimedia 2019, https://doi.org/10.1145/3343031.3350940.

Regions pass a linear map and one transformer unit and are averaged; words, the states of a frozen
BERT, pass filters over one, two and three words. Settings and losses are those of the published
code: beside the hinge it has an angular loss and a penalty on the weights of the image branch; the
model brings both itself (`own_terms`). MMCA's equations 1-7 describe the same two branches.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from visavis.layers.norm import l2norm
from visavis.layers.phrase_cnn import PhraseCnn, Positions
from visavis.layers.pooling import masked_mean
from visavis.layers.products import inner_products
from visavis.layers.regions import RegionProjection, RegionSettings
from visavis.layers.text import TextConfig, TextEncoder
from visavis.layers.transformer import Activation, TransformerUnit, UnitConfig
from visavis.losses.angular import angular
from visavis.types import Encoded, ImageBatch, Scores, SentenceBatch, TrainingStep

EPS = 1e-12  # of the layer norms, BERT's
PUBLISHED_WIDTH = 32  # the code cuts or pads each sentence to so many tokens


@dataclass(frozen=True, kw_only=True)
class SaemConfig(RegionSettings):
    """Settings of SAEM."""

    vocab_size: int
    dim: int = 256  # joint space
    text: TextConfig = field(default_factory=TextConfig)
    heads: int = 16
    hidden: int = 2048  # width between the two feed-forward maps
    activation: Activation = "gelu"
    filters: int = 512  # for each window size
    dropout: float = 0.1  # in the transformer unit, and before the last map of sentences
    positions: Positions = "words"  # all: windows over padding too, as the published code
    angular_weight: float = 0.5
    angular_decay: float = 0.1  # the angular weight's factor ...
    angular_decay_epochs: int = 5  # ... after each so many epochs
    angular_epochs: int = 20  # the last epoch, counted from 0, with an angular loss
    weight_penalty: float = 0.01  # times the norms of the image branch's weight matrices

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.unit.heads < 1 or self.dim % self.heads:
            raise ValueError(
                f"dim must be a multiple of heads, got dim {self.dim} and heads {self.heads}"
            )
        for name in ("filters", "angular_decay_epochs"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("angular_weight", "angular_decay", "weight_penalty"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}")

    @property
    def unit(self) -> UnitConfig:
        """Settings of the transformer unit."""
        return UnitConfig(
            heads=self.heads,
            hidden=self.hidden,
            activation=self.activation,
            dropout=self.dropout,
            eps=EPS,
        )

    def angular_weight_at(self, epoch: int) -> float:
        """Weight of the angular loss in an epoch, counted from 0."""
        if epoch > self.angular_epochs:
            return 0.0
        return self.angular_weight * self.angular_decay ** (epoch // self.angular_decay_epochs)


class Saem(nn.Module):
    """Self-attention embeddings, one vector per item."""

    def __init__(self, config: SaemConfig) -> None:
        super().__init__()
        self.config = config
        self.project = RegionProjection.of(config)
        self.unit = TransformerUnit(config.dim, config.unit)
        self.text = TextEncoder(
            config.text, vocab_size=config.vocab_size, dim=config.dim, mapped=False
        )
        self.phrases = PhraseCnn(
            self.text.width,
            config.filters,
            config.dim,
            dropout=config.dropout,
            positions=config.positions,
        )

    def encode_images(self, images: ImageBatch) -> Encoded:
        """Regions in the light of each other, averaged (MMCA eq. 1-5): unit vectors (N, 1, D)."""
        regions = self.unit(self.project(images.regions), images.mask)  # (N, R, D)
        return _one_token(l2norm(masked_mean(regions, images.mask)))

    def encode_sentences(self, sentences: SentenceBatch) -> Encoded:
        """The strongest phrases of one to three words (MMCA eq. 6-7): unit vectors (M, 1, D)."""
        words, mask = self.text(sentences), sentences.mask  # (M, W, H)
        if self.config.positions == "all":
            # A fixed width, as published: else the vector would depend on the rest of the batch.
            missing = PUBLISHED_WIDTH - words.shape[1]  # below 0 it cuts
            words, mask = F.pad(words, (0, 0, 0, missing)), F.pad(mask, (0, missing))
        return _one_token(self.phrases(words, mask))

    def score(self, images: Encoded, sentences: Encoded) -> Scores:
        """Cosine of every pair: (N, M)."""
        return Scores.shared(inner_products(images.tokens[:, 0], sentences.tokens[:, 0]))

    def score_pairs(self, images: Encoded, sentences: Encoded) -> Scores:
        """The same for aligned rows: (P,)."""
        return Scores.shared((images.tokens[:, 0] * sentences.tokens[:, 0]).sum(dim=1))

    def upper_bounds(self, images: Encoded, sentences: Encoded) -> Scores:
        """The scores themselves, which cost no more than any bound: (N, M)."""
        return self.score(images, sentences)

    def own_terms(self, step: TrainingStep) -> Mapping[str, Tensor]:
        """The angular loss, fading out, and the penalty on the image branch's weights."""
        vectors = step.encoded_images.tokens[:, 0], step.encoded_sentences.tokens[:, 0]
        weight = self.config.angular_weight_at(step.epoch)
        loss = angular(*vectors, step.positives) if weight else vectors[0].new_zeros(())
        penalty = self.config.weight_penalty * self.image_weight_norms()
        return {"angular": weight * loss, "weight_penalty": penalty}

    def image_weight_norms(self) -> Tensor:
        """Σ |W| over the image branch's matrices: not squared; no bias, no layer norm."""
        weights = [*self.project.parameters(), *self.unit.parameters()]
        return torch.stack([weight.norm() for weight in weights if weight.dim() > 1]).sum()


def _one_token(vectors: Tensor) -> Encoded:
    mask = torch.ones(len(vectors), 1, dtype=torch.bool, device=vectors.device)
    return Encoded(vectors.unsqueeze(1), mask, pooled=vectors)
