"""MMCA: self-attention within each side, joint attention over regions and words together.

Wei, Zhang, Li, Zhang, Wu: Multi-Modality Cross Attention Network for Image and Sentence Matching,
CVPR 2020, https://openaccess.thecvf.com/CVPR2020. No code was published.

A pair has two scores. i0 . c0 compares one vector of the image with one of the sentence, each made
alone. i1 . c1 compares what becomes of them when all regions and words look at each other. What a
fragment brings into that second attention depends on its own item only, and is computed once per
item (`visavis.layers.joint_attention`); `plain=True` stacks each pair instead, with equal results.
What the paper leaves open, and what is done here, stands in docs/models/mmca.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from visavis.layers.joint_attention import Side, attend_all, attend_pairs, own_part
from visavis.layers.norm import l2norm
from visavis.layers.phrase_cnn import WINDOWS, PhraseCnn
from visavis.layers.pooling import masked_mean
from visavis.layers.products import inner_products
from visavis.layers.regions import RegionProjection, RegionSettings
from visavis.layers.text import TextConfig, TextEncoder
from visavis.layers.transformer import TransformerUnit, UnitConfig
from visavis.types import Encoded, ImageBatch, Scores, SentenceBatch


@dataclass(frozen=True, kw_only=True)
class MmcaConfig(RegionSettings):
    """Settings of MMCA."""

    vocab_size: int
    dim: int = 256  # d, of regions, words in the joint unit, and all four vectors
    text: TextConfig = field(default_factory=TextConfig)  # the paper: frozen, BERT
    heads: int = 16  # of both transformer units
    hidden: int = 0  # between the feed-forward maps; 0: dim (eq. 4)
    filters: int = 256  # for each window size (eq. 6)
    alpha: float = 0.2  # weight of the joint score; 0: it is not computed
    dropout: float = 0.1  # in both units and before the linear map of eq. 7
    attention_bias: bool = False  # of queries, keys, values and output; eq. 1-3 have none
    share_cnn: bool = False  # one phrase CNN for c0 and c1; else one each
    layer_norm: bool = False  # before the l2 norm of eq. 7, as the equation; not as the text
    normalise: bool = False  # regions and words to length 1 before the units
    plain: bool = False  # score by stacking every pair, slowly

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("dim", "heads", "filters"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("alpha", "hidden"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}")
        if self.dim % self.heads:
            raise ValueError(f"dim {self.dim} is not a multiple of heads {self.heads}; change one")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be in [0, 1), got {self.dropout}")
        width = self.text.state_dim if self.text.encoder == "frozen" else self.dim
        if self.share_cnn and width != self.dim:
            raise ValueError(
                f"share_cnn needs words of width {self.dim}, the text encoder gives {width}; "
                "set dim to that, or share_cnn to false"
            )


class Mmca(nn.Module):
    """Multi-modality cross attention."""

    def __init__(self, config: MmcaConfig) -> None:
        super().__init__()
        self.config = config
        dim = config.dim
        self.project = RegionProjection.of(config)
        self.text = TextEncoder(config.text, vocab_size=config.vocab_size, dim=dim, mapped=False)
        width = self.text.width
        self.map_words = nn.Linear(width, dim) if width != dim else nn.Identity()
        self.region_unit = self._unit()
        self.joint_unit = self._unit()
        self.phrases = self._cnn(width)
        self.joint_phrases = None if config.share_cnn else self._cnn(dim)

    def _unit(self) -> TransformerUnit:
        config = self.config
        unit = UnitConfig(
            heads=config.heads,
            hidden=config.hidden or config.dim,
            bias=config.attention_bias,
            dropout=config.dropout,
        )
        return TransformerUnit(config.dim, unit)

    def _cnn(self, width: int) -> PhraseCnn:
        config = self.config
        return PhraseCnn(
            width,
            config.filters,
            config.dim,
            layer_norm=config.layer_norm,
            dropout=config.dropout,
        )

    def encode_images(self, images: ImageBatch) -> Encoded:
        """Regions r = W o + b (N, R, D), and i0, the mean of r_s of length 1 (eq. 5)."""
        regions, mask = self._fragments(self.project(images.regions), images.mask), images.mask
        attended = self.region_unit(regions, mask)  # r_s: (N, R, D), eq. 1-4
        return self._encoded(regions, mask, l2norm(masked_mean(attended, mask)))

    def encode_sentences(self, sentences: SentenceBatch) -> Encoded:
        """Words e (M, W, D), and c0, their phrases' largest answers mapped (eq. 6-7)."""
        words, mask = self.text(sentences), sentences.mask  # e as the language model gives it
        c0 = self.phrases(l2norm(words) if self.config.normalise else words, mask)
        return self._encoded(self._fragments(self.map_words(words), mask), mask, c0)

    def _fragments(self, vectors: Tensor, mask: Tensor) -> Tensor:
        if self.config.normalise:
            vectors = l2norm(vectors)
        return vectors * mask.unsqueeze(2)

    def _encoded(self, fragments: Tensor, mask: Tensor, pooled: Tensor) -> Encoded:
        """Fragments that enter the joint unit, with their own share of eq. 8-14."""
        needed = self.config.alpha > 0 and not self.config.plain
        extra = own_part(self.joint_unit.attention, fragments, mask) if needed else {}
        return Encoded(fragments, mask, pooled, extra)

    def score(self, images: Encoded, sentences: Encoded) -> Scores:
        """S = i0 . c0 + alpha i1 . c1 for every pair: (N, M)."""
        alone = inner_products(_pooled(images), _pooled(sentences))
        if self.config.alpha == 0:
            return Scores.shared(alone)
        if self.config.plain:
            rows = torch.arange(len(images), device=alone.device).repeat_interleave(len(sentences))
            columns = torch.arange(len(sentences), device=alone.device).repeat(len(images))
            joint = self._stacked(images.select(rows), sentences.select(columns)).view_as(alone)
        else:
            joint = self._joint_all(Side.of(images), Side.of(sentences))
        return Scores.shared(alone + self.config.alpha * joint)

    def score_pairs(self, images: Encoded, sentences: Encoded) -> Scores:
        """The same for aligned rows: (P,)."""
        alone = (_pooled(images) * _pooled(sentences)).sum(dim=1)
        if self.config.alpha == 0:
            return Scores.shared(alone)
        if self.config.plain:
            joint = self._stacked(images, sentences)
        else:
            joint = self._joint_pairs(Side.of(images), Side.of(sentences))
        return Scores.shared(alone + self.config.alpha * joint)

    def upper_bounds(self, images: Encoded, sentences: Encoded) -> Scores:
        """S <= i0 . c0 + alpha, as i1 . c1 is a cosine: (N, M)."""
        return Scores.shared(
            inner_products(_pooled(images), _pooled(sentences)) + self.config.alpha
        )

    def _joint_all(self, images: Side, sentences: Side) -> Tensor:
        """i1 . c1 for every pair: (N, M)."""
        finish, dropout = self.joint_unit.finish, self._attention_dropout()
        regions = attend_all(images, sentences, dropout=dropout)  # eq. 13: (R, M, N, D)
        i1 = self._image(finish(_by_place(images.tokens), regions), _by_place(images.mask))
        words = attend_all(sentences, images, dropout=dropout)  # eq. 14: (W, N, M, D)
        c1 = self._sentence(finish(_by_place(sentences.tokens), words), _by_place(sentences.mask))
        return (i1.transpose(0, 1) * c1).sum(dim=2)

    def _joint_pairs(self, images: Side, sentences: Side) -> Tensor:
        """i1 . c1 for aligned rows: (P,)."""
        finish, dropout = self.joint_unit.finish, self._attention_dropout()
        regions = attend_pairs(images, sentences, dropout=dropout)
        words = attend_pairs(sentences, images, dropout=dropout)
        regions = finish(images.tokens.transpose(0, 1), regions)  # (R, P, D)
        words = finish(sentences.tokens.transpose(0, 1), words)
        i1, c1 = self._image(regions, images.mask.T), self._sentence(words, sentences.mask.T)
        return (i1 * c1).sum(dim=1)

    def _stacked(self, images: Encoded, sentences: Encoded) -> Tensor:
        """i1 . c1 for aligned rows, with Y = (R; E) in one piece (eq. 8-12): (P,)."""
        tokens, mask = _stack(images, sentences)
        updated = self.joint_unit(tokens, mask)  # Y_c: (P, R + W, D)
        (regions, words), (left, right) = (
            (found[:, : images.mask.shape[1]], found[:, images.mask.shape[1] :])
            for found in (updated, mask)
        )
        i1 = self._image(regions.transpose(0, 1), left.T)
        return (i1 * self._sentence(words.transpose(0, 1), right.T)).sum(dim=1)

    def _image(self, regions: Tensor, mask: Tensor) -> Tensor:
        """i1, by their place: (R, ..., D) and a mask that broadcasts, to unit vectors (..., D)."""
        if not bool(mask.all()):
            regions = regions * mask.unsqueeze(-1)
        return l2norm(regions.sum(dim=0))  # as good as the mean

    def _sentence(self, words: Tensor, mask: Tensor) -> Tensor:
        """c1: (W, ..., D) and a mask that broadcasts, to unit vectors (..., D)."""
        mask = mask.expand(words.shape[:-1]).flatten(1)
        found = (self.joint_phrases or self.phrases).by_place(words.flatten(1, -2), mask)
        return found.view(*words.shape[1:-1], -1)

    def _attention_dropout(self) -> float:
        return self.joint_unit.attention.dropout if self.training else 0.0

    def pair_flops(self, regions: int, words: int) -> int:
        """Operations that depend on the pair and that no algebra spares.

        Attention between the sides, output map and feed-forward maps of every fragment, the phrase
        CNN and two inner products.
        """
        config = self.config
        dim, hidden = config.dim, config.hidden or config.dim
        products = dim
        if config.alpha > 0:
            products += 4 * regions * words * dim + (regions + words) * dim * (dim + 2 * hidden)
            windows = sum(max(0, words - place) for size in WINDOWS for place in range(size))
            products += windows * dim * config.filters + len(WINDOWS) * config.filters * dim + dim
        return 2 * products

    def pair_bytes(self, regions: int, words: int) -> int:
        """Memory of a pair while it is scored: that of the step that needs most."""
        config = self.config
        if config.alpha == 0:
            return 2 * 4
        dim, hidden = config.dim, config.hidden or config.dim
        length = regions + words if config.plain else max(regions, words)
        looking = length if config.plain else 0  # queries, keys and values of the pair alone
        attention = 3 * config.heads * (regions * words + length) + (3 * length + 4 * looking) * dim
        forward = length * (5 * dim + 2 * hidden)
        phrases = words * (3 * dim + 2 * config.filters)
        return 4 * max(attention, forward, phrases)

    def attend(self, images: Encoded, sentences: Encoded) -> Tensor:
        """Where words look in the joint unit, aligned rows, mean over heads: (P, W, R).

        The rest of a word's attention, up to 1, is on the words. With alpha 0 the joint unit has
        not been trained, and what it looks at means nothing.
        """
        return self.relations(images, sentences)["words_regions"]

    def relations(self, images: Encoded, sentences: Encoded) -> Mapping[str, Tensor]:
        """The joint attention of aligned rows in four parts, mean over heads; padding is 0.

        Returns:
            `regions_regions` (P, R, R), `regions_words` (P, R, W), `words_regions` (P, W, R) and
            `words_words` (P, W, W): the first looks at the second.
        """
        tokens, mask = _stack(images, sentences)
        attention = self.joint_unit.attention
        weights = attention.weights(attention.query(tokens), attention.key(tokens), mask)
        weights = weights.mean(dim=1) * mask.unsqueeze(2)  # (P, R + W, R + W)
        sizes = [images.mask.shape[1], sentences.mask.shape[1]]
        names = ("regions", "words")
        return {
            f"{first}_{second}": part
            for first, rows in zip(names, torch.split(weights, sizes, dim=1), strict=True)
            for second, part in zip(names, torch.split(rows, sizes, dim=2), strict=True)
        }


def _stack(images: Encoded, sentences: Encoded) -> tuple[Tensor, Tensor]:
    """Y = (R; E) of aligned rows with its mask: (P, R + W, D), (P, R + W)."""
    tokens = torch.cat([images.tokens, sentences.tokens], dim=1)
    return tokens, torch.cat([images.mask, sentences.mask], dim=1)


def _by_place(items: Tensor) -> Tensor:
    """Tokens or mask of N items with room for the B others: (N, L, ...) to (L, 1, N, ...)."""
    return items.transpose(0, 1).unsqueeze(1)


def _pooled(items: Encoded) -> Tensor:
    if items.pooled is None:
        raise ValueError("these items have no pooled vectors; encode them with this model")
    return items.pooled
