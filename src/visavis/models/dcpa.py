"""DCPA: phrases of regions and of words, compared in the space of the side that is searched.

Shi, Zhang, Wei, Wu, Zhang: Decoupled Cross-modal Phrase-Attention Network for Image-Sentence
Matching.

Intra-PAM makes phrases within each side: regions that have looked at each other, and one vector of
the sentence. Inter-PAM rebuilds the phrases of one side from the other with a transformer decoder:
regions from words to rank sentences (I2T), words from regions to rank images (T2I). What depends on
one item alone is computed once per item (`visavis.layers.phrase_attention`); `plain=True` runs the
whole decoder for every pair. No code was published; docs/models/dcpa.md says what was chosen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from visavis.errors import DataError
from visavis.layers.best_bound import mean_of_best_bound, spread
from visavis.layers.norm import l2norm
from visavis.layers.phrase_attention import (
    best_cosines,
    cosines,
    mean_of_best,
    phrase,
    places_of_best,
    prepare,
    rebuild,
    rebuild_plainly,
    regional,
    visual_phrases,
    weights,
    with_parts,
)
from visavis.layers.phrase_cnn import PhraseCnn
from visavis.layers.pooling import masked_mean
from visavis.layers.products import inner_products
from visavis.layers.regions import RegionProjection, RegionSettings
from visavis.layers.text import TextConfig, TextEncoder
from visavis.layers.transformer import DecoderUnit, TransformerUnit, UnitConfig
from visavis.types import Encoded, ImageBatch, Scores, SentenceBatch

Parts = Literal["intra", "inter", "full"]
Aggregation = Literal["local", "global"]


@dataclass(frozen=True, kw_only=True)
class DcpaConfig(RegionSettings):
    """Settings of DCPA."""

    vocab_size: int
    dim: int = 256  # of regions, words and phrases
    text: TextConfig = field(default_factory=TextConfig)
    heads: int = 16
    hidden: int = 256  # width inside the feed-forward sub-layers (eq. 5)
    filters: int = 512  # of the phrase convolutions, for each window size
    top_k: int = 10  # K of eq. 10 and 14
    w_intra: float = 0.6  # W1
    w_inter: float = 0.4  # W2
    parts: Parts = "full"  # what ranks; full: W1 of Intra-PAM and W2 of Inter-PAM
    trained: Parts = "full"  # what scores while the model trains
    decoupled: bool = True  # each direction by its own branch; else both by the mean of the two
    intra_aggregation: Aggregation = "local"  # eq. 10; global: the mean region instead
    inter_aggregation: Aggregation = "local"  # eq. 13-14; global: means of both sides instead
    layer_norm: bool = True  # of eq. 9, before the l2 norm of the paper's text
    attention_bias: bool = False  # of queries, keys, values and W^O; eq. 1 and 4 have none
    dropout: float = 0.1
    plain: bool = False  # run the whole decoder for every pair, slowly

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.top_k < 1 or self.filters < 1:
            got = f"got {self.top_k} and {self.filters}"
            raise ValueError(f"top_k and filters must be at least 1, {got}")
        if min(self.w_intra, self.w_inter) < 0 or self.w_intra + self.w_inter == 0:
            got = f"got {self.w_intra} and {self.w_inter}"
            raise ValueError(f"w_intra and w_inter must be at least 0 and not both 0, {got}")
        if self.heads < 1 or self.dim % self.heads:
            got = f"got dim {self.dim} and heads {self.heads}"
            raise ValueError(f"dim must be a multiple of heads, {got}")
        _ = self.unit  # refuses wrong values of hidden and dropout

    @property
    def unit(self) -> UnitConfig:
        """Settings of the transformer units."""
        bias, dropout = self.attention_bias, self.dropout
        return UnitConfig(heads=self.heads, hidden=self.hidden, bias=bias, dropout=dropout)


class IntraPam(nn.Module):
    """Phrases within each side: i^V (eq. 1-6) and c^T (eq. 7-9)."""

    def __init__(self, config: DcpaConfig, word_dim: int) -> None:
        super().__init__()
        self.unit = TransformerUnit(config.dim, config.unit)
        layer_norm, dropout = config.layer_norm, config.dropout
        self.phrases = PhraseCnn(
            word_dim, config.filters, config.dim, layer_norm=layer_norm, dropout=dropout
        )


class InterPam(nn.Module):
    """Phrases of each side in terms of the other: the two decoders (eq. 11-12)."""

    def __init__(self, config: DcpaConfig, word_dim: int) -> None:
        super().__init__()
        self.words = nn.Linear(word_dim, config.dim)
        self.i2t = DecoderUnit(config.dim, config.unit)  # regions look at words
        self.t2i = DecoderUnit(config.dim, config.unit)  # words look at regions


class Dcpa(nn.Module):
    """Decoupled cross-modal phrase attention."""

    def __init__(self, config: DcpaConfig) -> None:
        super().__init__()
        self.config = config
        self.project = RegionProjection.of(config)
        self.text = TextEncoder(
            config.text, vocab_size=config.vocab_size, dim=config.dim, mapped=False
        )
        self.intra = IntraPam(config, self.text.width)
        self.inter = InterPam(config, self.text.width)

    @property
    def active(self) -> Parts:
        """What scores now. Items are encoded for that alone."""
        return self.config.trained if self.training else self.config.parts

    def encode_images(self, images: ImageBatch) -> Encoded:
        """The regions i, what the branches need of them, and i^V: each (N, R, D)."""
        regions, mask = self.project(images.regions), images.mask
        pooled: Tensor | None = None
        extra: dict[str, Tensor] = {}
        if self.active != "inter":
            visual = self.intra.unit(regions, mask)  # i^V, eq. 1-6
            if self.config.intra_aggregation == "local":
                visual = l2norm(visual)
            pooled = l2norm(masked_mean(visual, mask))
            if self.active == "intra":
                local = self.config.intra_aggregation == "local" and not self.training
                extra |= spread(visual, mask, self.config.top_k) if local else {}
                return Encoded(visual, mask, pooled, extra)
            extra["visual"] = visual
        if not self.config.plain:
            extra |= prepare(regions, mask, looks=self.inter.i2t, seen=self.inter.t2i)
        return Encoded(self._compared(regions), mask, pooled, extra)

    def encode_sentences(self, sentences: SentenceBatch) -> Encoded:
        """The words c, what the branches need of them, each (M, W, D), and c^T: (M, D)."""
        words, mask = self.text(sentences), sentences.mask
        pooled: Tensor | None = None
        extra: dict[str, Tensor] = {}
        if self.active != "inter":
            pooled = self.intra.phrases(words, mask)  # c^T, eq. 7-9
            if self.active == "intra":
                return Encoded(pooled[:, None], torch.ones_like(mask[:, :1]), pooled)
        words = self.inter.words(words) * mask.unsqueeze(2)  # c
        if not self.config.plain:
            extra |= prepare(words, mask, looks=self.inter.t2i, seen=self.inter.i2t)
        return Encoded(self._compared(words), mask, pooled, extra)

    def _compared(self, tokens: Tensor) -> Tensor:
        """What rebuilt phrases are compared with: unit vectors, where cosines are all it is for."""
        raw = self.config.plain or self.config.inter_aggregation == "global"
        return tokens if raw else l2norm(tokens)

    def score(self, images: Encoded, sentences: Encoded) -> Scores:
        """W1 S(i^V, c^T) + W2 S(i^T, c) one way, W2 S(i, c^V) the other: (N, M)."""
        return self._scores(images, sentences, aligned=False)

    def score_pairs(self, images: Encoded, sentences: Encoded) -> Scores:
        """The same for aligned rows: (P,)."""
        return self._scores(images, sentences, aligned=True)

    def upper_bounds(self, images: Encoded, sentences: Encoded) -> Scores:
        """Inter-PAM is a mean of cosines, at most 1; Intra-PAM alone has a bound of its own."""
        if self.active == "inter":
            return Scores.shared(images.tokens.new_ones(len(images), len(sentences)))
        if self.active == "intra" and "middle" in images.extra:
            return Scores.shared(mean_of_best_bound(images.extra, phrase(sentences)))
        intra, weights = self._intra(images, sentences, aligned=False), self.config
        whole = weights.w_intra * intra + weights.w_inter
        return Scores.shared(intra if self.active == "intra" else whole)

    def _scores(self, images: Encoded, sentences: Encoded, *, aligned: bool) -> Scores:
        config = self.config
        if self.active == "intra":
            return Scores.shared(self._intra(images, sentences, aligned=aligned))
        i2t = self._branch(self.inter.i2t, images, sentences, aligned=aligned)
        t2i = self._branch(self.inter.t2i, sentences, images, aligned=aligned)
        i2t, t2i = (i2t[:, 0], t2i[:, 0]) if aligned else (i2t.T, t2i)
        if not config.decoupled:
            i2t = t2i = (i2t + t2i) / 2
        if self.active == "full":
            base = config.w_intra * self._intra(images, sentences, aligned=aligned)
            i2t, t2i = base + config.w_inter * i2t, base + config.w_inter * t2i
        return Scores(i2t, t2i) if config.decoupled else Scores.shared(i2t)

    def _intra(self, images: Encoded, sentences: Encoded, *, aligned: bool) -> Tensor:
        """S(i^V, c^T): (N, M), or (P,) for aligned items."""
        phrases = phrase(sentences)
        if self.config.intra_aggregation == "global":
            means = phrase(images)
            return (means * phrases).sum(dim=1) if aligned else inner_products(means, phrases)
        if aligned:
            return mean_of_best(regional(images, phrases), images.mask, self.config.top_k)
        regions = visual_phrases(images)
        values = inner_products(regions.flatten(0, 1), phrases).unflatten(0, regions.shape[:2])
        return mean_of_best(values.transpose(1, 2), images.mask[:, None], self.config.top_k)

    def _branch(
        self, branch: DecoderUnit, looking: Encoded, seen: Encoded, *, aligned: bool
    ) -> Tensor:
        """S(i^T, c), or S(i, c^V): (B, A) for A items that look at B, (P, 1) for aligned ones."""
        how = rebuild_plainly if self.config.plain else rebuild
        rebuilt = how(branch, looking, seen, aligned=aligned)  # i^T or c^V, (B, A, L, D)
        mask = looking.mask[:, None] if aligned else looking.mask[None]
        if self.config.inter_aggregation == "global":
            sums = (rebuilt * mask.unsqueeze(3)).sum(dim=2)  # as good as means for a cosine
            others = l2norm(masked_mean(seen.tokens, seen.mask))
            return (l2norm(sums) @ others.unsqueeze(2)).squeeze(2)
        targets = l2norm(seen.tokens) if self.config.plain else seen.tokens
        best = best_cosines(rebuilt, targets, seen.mask)  # eq. 13 and max of eq. 14
        return mean_of_best(best, mask, self.config.top_k)  # eq. 14

    def attend(self, images: Encoded, sentences: Encoded) -> Tensor:
        """Attention of word w to region r in the T2I branch, the mean of its heads: (P, W, R).

        Raises:
            DataError: no word looks at a region.
        """
        images, sentences = self._prepared(images, sentences)
        heads = weights(sentences, images)  # (P, H, W, R)
        return heads.mean(dim=1) * sentences.mask.unsqueeze(2)

    def selected(self, images: Encoded, sentences: Encoded) -> Mapping[str, Tensor]:
        """Regions that the scores of aligned rows rest on, (P, R) bool each.

        `intra`: those of eq. 10. `inter`: the best region of each of the K words that the T2I
        branch chooses (eq. 14 with the sides exchanged); several words may share one.

        Raises:
            DataError: one of the two takes no part, or means are compared.
        """
        ways = {self.config.intra_aggregation, self.config.inter_aggregation}
        if self.active != "full" or "global" in ways:
            raise DataError("chosen regions need model.parts: full, and local as both aggregations")
        images, sentences = self._prepared(images, sentences)
        top_k, real = self.config.top_k, images.mask
        intra = places_of_best(regional(images, phrase(sentences)), real, top_k)
        rebuilt = rebuild(self.inter.t2i, sentences, images, aligned=True)
        best = cosines(rebuilt, images.tokens, real)[:, 0].max(dim=2)  # of each word, (P, W)
        words = places_of_best(best.values, sentences.mask, top_k)
        inter = torch.zeros_like(real, dtype=torch.long)
        inter.scatter_add_(1, best.indices, words.long())
        return {"intra": intra, "inter": inter > 0}

    def _prepared(self, images: Encoded, sentences: Encoded) -> tuple[Encoded, Encoded]:
        """Both sides with what the branches need, which the straight form does not keep."""
        if self.active == "intra":
            raise DataError("no word looks at a region with model.parts: intra; ask for ablation")
        if not self.config.plain:
            return images, sentences
        i2t, t2i = self.inter.i2t, self.inter.t2i
        return with_parts(images, looks=i2t, seen=t2i), with_parts(sentences, looks=t2i, seen=i2t)

    def pair_flops(self, regions: int, words: int) -> int:
        """Operations of the matrix products that depend on the pair, two for a multiplication."""
        config = self.config
        intra = 2 * config.dim * (regions if config.intra_aggregation == "local" else 1)
        products = 2 if config.inter_aggregation == "local" else 1  # logits, cosines
        inter = 2 * products * regions * words
        for looking, seen in ((regions, words), (words, regions)):
            attended = min(seen + config.dim, config.heads * seen)  # values and W^O, or both in one
            inter += looking * (attended + 2 * config.hidden)  # eq. 5
        inter *= 2 * config.dim
        return {"intra": intra, "inter": inter, "full": intra + inter}[self.active]

    def pair_bytes(self, regions: int, words: int) -> int:
        """Memory of a pair while it is scored: attention of all heads, or the sub-layers after."""
        config = self.config
        if self.active == "intra":
            return 4 * 3 * regions
        tokens = max(regions, words)
        attention = 3 * config.heads * regions * words + 2 * tokens * config.dim
        layers = tokens * (4 * config.dim + 2 * config.hidden)
        return 4 * max(attention, layers)
