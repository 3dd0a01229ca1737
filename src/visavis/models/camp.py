"""CAMP: regions and words send each other messages, and gates say how much of them counts.

Wang, Liu, Li, Sheng, Yan, Wang, Shao: CAMP: Cross-Modal Adaptive Message Passing for Text-Image
Retrieval, ICCV 2019, https://arxiv.org/abs/1909.05506.

Each region gets a mean of the words it attends to, and each word one of the regions (eq. 1-4). A
fragment and its message are fused behind a gate (eq. 5-9), the fused fragments of each side are
made one vector (eq. 10-11), and a perceptron says whether the two belong together (eq. 13). Scores
are logits, the m of eq. 13 before its sigmoid: they rank alike, and do not tie where m rounds to 1.

The published code differs from the paper in many places: `variant`, `gate` and `fusion`, and
docs/models/camp.md. What fragments bring to messages is computed once per item
(`visavis.layers.messages`); `plain=True` builds every pair by itself, with equal results.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from visavis.errors import DataError
from visavis.layers.gated_fusion import Fusion, FusionConfig, Gate, start
from visavis.layers.message_passing import Messages, Passing, PassingConfig, Pooling
from visavis.layers.messages import Items, affinities, turned
from visavis.layers.norm import l2norm
from visavis.layers.products import at_least_float32
from visavis.layers.regions import RegionProjection, RegionSettings
from visavis.layers.text import TextConfig, TextEncoder
from visavis.types import Encoded, ImageBatch, Scores, SentenceBatch


@dataclass(frozen=True, kw_only=True)
class CampConfig(RegionSettings):
    """Settings of CAMP."""

    vocab_size: int
    dim: int = 1024  # d, of regions and words
    text: TextConfig = field(default_factory=TextConfig)
    variant: Literal["paper", "code_v1", "code_new"] = "paper"  # whose structure
    affinity_dim: int = 0  # d_h, where affinities are measured (eq. 1); 0: dim
    messages: Messages = "attention"  # none: each side alone
    fuse: bool = True  # false: messages are compared as they are
    fusion: Fusion = "add"  # of a fragment and its message
    gate: Gate = "vector"
    residual: bool = True
    pooling: Pooling = "attention"  # of fused fragments (eq. 10-11)
    heads: int = 4  # code_v1, code_new: of that pooling
    match: Literal["mlp", "cosine"] = "mlp"  # of the two vectors (eq. 13)
    padded_to: int = 0  # pooling mean: sentences count padding up to so many words
    normalise: bool = False  # regions and words to length sqrt(dim), so that elements are about 1
    plain: bool = False  # score by building every pair, slowly

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("dim", "heads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("affinity_dim", "padded_to"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}")
        if self.messages == "none" and (self.fuse or self.match != "cosine"):
            raise ValueError("messages: none needs fuse: false and match: cosine; set both")
        if self.padded_to and self.pooling != "mean":
            raise ValueError(f"padded_to {self.padded_to} needs pooling: mean; set it, or 0")


class Camp(nn.Module):
    """Cross-modal adaptive message passing."""

    def __init__(self, config: CampConfig) -> None:
        super().__init__()
        self.config = config
        dim = config.dim
        self.project = RegionProjection.of(config)
        self.text = TextEncoder(config.text, vocab_size=config.vocab_size, dim=dim)
        self.regions = Passing(dim, self._passing(padded_to=0))
        self.words = Passing(dim, self._passing(padded_to=config.padded_to))
        self.wide = config.variant != "paper" and config.fusion == "concat"
        self.mlp = nn.Sequential(
            nn.Linear(2 * dim if self.wide else dim, dim), nn.ReLU(), nn.Linear(dim, 1)
        )
        for layer in self.mlp:
            if isinstance(layer, nn.Linear):
                start(layer, dim)

    def _passing(self, *, padded_to: int) -> PassingConfig:
        config = self.config
        new = config.variant == "code_new"
        return PassingConfig(
            width=config.affinity_dim or config.dim,
            messages=config.messages,
            twice=new,
            fuse=config.fuse,
            fusion=FusionConfig(
                fusion=config.fusion, gate=config.gate, residual=config.residual, bias=not new
            ),
            pooling=config.pooling,
            heads=0 if config.variant == "paper" else config.heads,
            padded_to=padded_to,
        )

    def encode_images(self, images: ImageBatch) -> Encoded:
        """Regions v = W m + b (eq. 15): (N, R, D)."""
        return self._encoded(self.project(images.regions), images.mask, self.regions, self.words)

    def encode_sentences(self, sentences: SentenceBatch) -> Encoded:
        """Words, both directions of the GRU averaged (eq. 16-17): (M, W, D)."""
        return self._encoded(self.text(sentences), sentences.mask, self.words, self.regions)

    def _encoded(self, tokens: Tensor, mask: Tensor, own: Passing, other: Passing) -> Encoded:
        if self.config.normalise:
            tokens = l2norm(tokens) * tokens.shape[2] ** 0.5
        tokens = tokens * mask.unsqueeze(2)
        if self.config.messages == "none":
            return Encoded(tokens, mask, l2norm(own.pooled(tokens, mask)))
        return Encoded(tokens, mask, extra={} if self.config.plain else own.brought(tokens, other))

    def score(self, images: Encoded, sentences: Encoded) -> Scores:
        """Logits, or cosines, of every pair: (N, M)."""
        if self.config.messages == "none":
            return Scores.shared(_vectors(images) @ _vectors(sentences).T)
        if not self.config.plain:
            return Scores.shared(self._all(images, sentences, aligned=False)[0])
        n, m = len(images), len(sentences)
        rows = torch.arange(n, device=images.mask.device).repeat_interleave(m)
        columns = torch.arange(m, device=images.mask.device).repeat(n)
        pairs = self._single(images.select(rows), sentences.select(columns))
        return Scores.shared(pairs.view(n, m))

    def score_pairs(self, images: Encoded, sentences: Encoded) -> Scores:
        """The same for aligned rows: (P,)."""
        if self.config.messages == "none":
            return Scores.shared((_vectors(images) * _vectors(sentences)).sum(dim=1))
        if self.config.plain:
            return Scores.shared(self._single(images, sentences))
        return Scores.shared(self._all(images, sentences, aligned=True)[:, 0, 0])

    def _all(self, images: Encoded, sentences: Encoded, *, aligned: bool) -> Tensor:
        """Scores of one grid of all pairs, or of a grid for each aligned row: (G, N, M)."""
        left = Items.of(images, aligned=aligned)
        right = Items.of(sentences, aligned=aligned, room=1 if self.config.padded_to else 0)
        # `down`: regions look at words; `up`: words look at regions. What is seen stands first.
        down = up = down_product = up_product = None
        if self.config.messages == "attention":
            keys, scale = (
                (left.extra["key"], right.extra["key"]),
                left.extra["key"].shape[-1] ** 0.5,
            )
            down = affinities(keys[1], left.extra.get("query", keys[0])) / scale
            query = right.extra.get("query")  # without it, there is one affinity matrix (eq. 1)
            up = turned(down) if query is None else affinities(keys[0], query) / scale
        if self.regions.measures:
            down_product = affinities(right.tokens, left.tokens)
            up_product = turned(down_product)
        regions = self.regions(left, right, down, down_product)  # (G, M, N, D)
        words = self.words(right, left, up, up_product)  # (G, N, M, D)
        return self._compare(regions.transpose(1, 2).contiguous(), words)

    def _single(self, images: Encoded, sentences: Encoded) -> Tensor:
        """Scores of aligned rows, every module applied to every pair: (P,)."""
        regions = self.regions.alone(images, sentences, self.words)
        return self._compare(regions, self.words.alone(sentences, images, self.regions))

    def _compare(self, regions: Tensor, words: Tensor) -> Tensor:
        """Logits of eq. 13, or cosines, of v* and t* (..., D): (...)."""
        joined = self._joined(regions, words)
        if self.config.match == "cosine":
            return joined.sum(dim=-1)
        hidden = self.mlp[1](self.mlp[0](joined))
        with torch.autocast(hidden.device.type, enabled=False):  # logits of half the bits would tie
            logits: Tensor = self.mlp[2](at_least_float32(hidden))
        return logits.squeeze(-1)

    def _joined(self, regions: Tensor, words: Tensor) -> Tensor:
        """v* and t* (..., D) as one vector: what eq. 13 maps, or what a cosine sums up."""
        cosine = self.config.match == "cosine"
        if cosine or self.config.variant == "code_new":
            regions, words = l2norm(regions), l2norm(words)
        if cosine:
            return regions * words
        joined = regions + words
        if self.wide:
            joined = torch.cat([side.expand_as(joined) for side in (regions, words)], dim=-1)
        return joined

    def fusion_vectors(self, images: ImageBatch, sentences: SentenceBatch) -> Tensor:
        """The fused and pooled fragments of aligned rows as eq. 13 reads them: (P, D or 2 D).

        Raises:
            DataError: this model sends no messages, so that nothing is fused.
        """
        if self.config.messages == "none":
            raise DataError("this model fuses nothing; train one with messages")
        left, right = self.encode_images(images), self.encode_sentences(sentences)
        regions = self.regions.alone(left, right, self.words)
        return self._joined(regions, self.words.alone(right, left, self.regions))

    def pair_flops(self, regions: int, words: int) -> int:
        """Operations that depend on the pair and that no algebra spares.

        Affinities, messages or maps of them, where a gate of D elements forbids it the map of
        every fused fragment, the code's perceptrons that pool, and eq. 13.
        """
        config = self.config
        if config.messages == "none":
            return 2 * config.dim
        match = config.dim
        if config.match == "mlp":
            match += (2 if self.wide else 1) * config.dim**2
        looks = (config.messages == "attention") * (1 + (config.variant == "code_new"))
        tables = looks * (config.affinity_dim or config.dim) + self.regions.measures * config.dim
        sides = self.regions.products(regions, words) + self.words.products(words, regions)
        return 2 * (regions * words * tables + sides + match)

    def pair_bytes(self, regions: int, words: int) -> int:
        """Memory of a pair while it is scored, at most: that of the side that needs more."""
        config = self.config
        if config.messages == "none":
            return 2 * 4
        if config.plain:  # fragments, keys, messages and what becomes of them, of both sides
            return 4 * 8 * (regions + words) * config.dim + 4 * 4 * regions * words
        room = 0  # one word more, and a copy of all that words bring
        if config.padded_to:
            words += 1
            room = words * (5 * config.dim + 2 * words)
        tables = 4 if self.regions.measures else 2
        sides = max(self.regions.floats(regions, words), self.words.floats(words, regions))
        return 4 * (tables * regions * words + sides + room + 4 * config.dim)

    def attend(self, images: Encoded, sentences: Encoded) -> Tensor:
        """How much words look at regions (eq. 2), aligned rows: (P, W, R).

        Without messages every word has the weights by which the image's regions are pooled.
        """
        if self.config.messages != "none":
            weights = self.words.attention(sentences, images, self.regions)
        elif self.config.pooling == "attention":
            pool = self.regions.pool
            weights = pool.weigh(pool.level(images.tokens), images.mask).unsqueeze(1)
        else:
            weights = (images.mask / images.mask.sum(dim=1, keepdim=True)).unsqueeze(1)
        return weights * sentences.mask.unsqueeze(2)

    def gates(self, images: Encoded, sentences: Encoded) -> Mapping[str, Tensor]:
        """Mean gate values of aligned rows (eq. 5, 7): `regions` (P, R) and `words` (P, W).

        Raises:
            DataError: this model has no gates.
        """
        if not self.config.fuse or self.config.gate == "none":
            raise DataError("this model has no gates; train one with fuse: true and a gate")
        return {
            "regions": self.regions.gates(images, sentences, self.words),
            "words": self.words.gates(sentences, images, self.regions),
        }


def _vectors(items: Encoded) -> Tensor:
    if items.pooled is None:
        raise ValueError("these items have no pooled vectors; encode them with this model")
    return items.pooled
