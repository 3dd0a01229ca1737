"""The transformer unit: multi-head attention and a position-wise perceptron, each with a residual.

Vaswani et al. 2017; Wei et al. 2020 (MMCA), eq. 1-4; DCPA, eq. 1-5. Queries, keys and values are
linear in each fragment, so they are methods of their own: what two fragments of different items
have to do with each other starts at `attend`. Letters: B items, H heads, L tokens, D width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Activation = Literal["relu", "gelu"]


@dataclass(frozen=True, kw_only=True)
class UnitConfig:
    """Sizes and settings of a transformer unit."""

    heads: int = 16
    hidden: int = 256  # width between the two feed-forward maps
    activation: Activation = "relu"
    bias: bool = True  # of queries, keys, values and output; the papers' equations have none
    dropout: float = 0.0  # on attention weights and on what each residual adds
    eps: float = 1e-5  # of the layer norms

    def __post_init__(self) -> None:
        if self.heads < 1 or self.hidden < 1:
            raise ValueError(f"heads and hidden must be at least 1, got {self}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be in [0, 1), got {self.dropout}")


class MultiHead(nn.Module):
    """Scaled dot-product attention in several heads (MMCA eq. 1-3).

    Raises:
        ValueError: the width is not a multiple of the number of heads.
    """

    def __init__(self, dim: int, heads: int, *, bias: bool = True, dropout: float = 0.0) -> None:
        super().__init__()
        if heads < 1 or dim % heads:
            raise ValueError(f"dim must be a multiple of heads, got dim {dim} and heads {heads}")
        self.heads = heads
        self.dropout = dropout
        self.query = nn.Linear(dim, dim, bias=bias)
        self.key = nn.Linear(dim, dim, bias=bias)
        self.value = nn.Linear(dim, dim, bias=bias)
        self.out = nn.Linear(dim, dim, bias=bias)

    def split(self, vectors: Tensor) -> Tensor:
        """Cut into heads: (B, L, D) to (B, H, L, D / H)."""
        items, length, _ = vectors.shape
        return vectors.reshape(items, length, self.heads, -1).transpose(1, 2)

    def attend(self, queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
        """softmax(Q K' / sqrt(D / H)) V of every head, joined; `out` is not applied yet.

        Args:
            queries: (B, Lq, D), projected.
            keys: (B, Lk, D), projected.
            values: (B, Lk, D), projected.
            mask: (B, Lk) bool, True where a key is real; each item has at least one.

        Returns:
            (B, Lq, D).
        """
        attended = F.scaled_dot_product_attention(
            self.split(queries),
            self.split(keys),
            self.split(values),
            attn_mask=None if bool(mask.all()) else mask[:, None, None, :],
            dropout_p=self.dropout if self.training else 0.0,
        )
        return attended.transpose(1, 2).flatten(2)

    def weights(self, queries: Tensor, keys: Tensor, mask: Tensor) -> Tensor:
        """The attention itself, for explanations: (B, H, Lq, Lk). Arguments as in `attend`."""
        heads = self.split(queries)
        logits = heads @ self.split(keys).transpose(2, 3) / heads.shape[3] ** 0.5
        weights: Tensor = logits.masked_fill(~mask[:, None, None, :], -torch.inf).softmax(dim=3)
        return weights

    def forward(self, queries: Tensor, sources: Tensor, mask: Tensor) -> Tensor:
        """Vectors (B, Lq, D) attend to others (B, Lk, D), of which `mask` says the real ones."""
        attended = self.attend(self.query(queries), self.key(sources), self.value(sources), mask)
        joined: Tensor = self.out(attended)
        return joined


def _attention(dim: int, config: UnitConfig) -> MultiHead:
    return MultiHead(dim, config.heads, bias=config.bias, dropout=config.dropout)


class FeedForward(nn.Module):
    """FFN(x) = act(x W1 + b1) W2 + b2, each vector alone (MMCA eq. 4)."""

    def __init__(self, dim: int, hidden: int, *, activation: Activation = "relu") -> None:
        super().__init__()
        self.first = nn.Linear(dim, hidden)
        self.second = nn.Linear(hidden, dim)
        self.activation: Activation = activation

    def forward(self, vectors: Tensor) -> Tensor:
        """(..., D) to (..., D)."""
        hidden = self.first(vectors)
        hidden = hidden.relu_() if self.activation == "relu" else F.gelu(hidden)
        found: Tensor = self.second(hidden)
        return found


class TransformerUnit(nn.Module):
    """Attention and feed-forward, each followed by dropout, residual and layer norm (post-LN)."""

    def __init__(self, dim: int, config: UnitConfig) -> None:
        super().__init__()
        self.attention = _attention(dim, config)
        self.attention_norm = nn.LayerNorm(dim, eps=config.eps)
        self.feed_forward = FeedForward(dim, config.hidden, activation=config.activation)
        self.feed_forward_norm = nn.LayerNorm(dim, eps=config.eps)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Every token attends to the real tokens of its item: (B, L, D), (B, L) to (B, L, D)."""
        attention = self.attention
        attended = attention.attend(
            attention.query(tokens), attention.key(tokens), attention.value(tokens), mask
        )
        return self.finish(tokens, attended)

    def finish(self, tokens: Tensor, attended: Tensor) -> Tensor:
        """What follows the attention, token by token.

        Args:
            tokens: (..., D), what came in.
            attended: (..., D), heads joined, before the output map.
        """
        return self.finish_mapped(tokens, self.attention.out(attended))

    def finish_mapped(self, tokens: Tensor, mapped: Tensor) -> Tensor:
        """`finish` behind the output map, which may have been applied already."""
        tokens = self.attention_norm(_plus(self.dropout(mapped), tokens))
        fed = self.dropout(self.feed_forward(tokens))
        found: Tensor = self.feed_forward_norm(_plus(fed, tokens))
        return found


def _plus(made: Tensor, tokens: Tensor) -> Tensor:
    """The sum, in the memory of what was just made; of the wider type where products are narrow."""
    return made.to(torch.promote_types(made.dtype, tokens.dtype)).add_(tokens)


class DecoderUnit(nn.Module):
    """A transformer decoder layer: attention to the own side, then to the other (DCPA eq. 11).

    The first part depends on one item alone (`own`); the second starts from its output's queries
    and the other item's keys and values.
    """

    def __init__(self, dim: int, config: UnitConfig) -> None:
        super().__init__()
        self.self_attention = _attention(dim, config)
        self.self_norm = nn.LayerNorm(dim, eps=config.eps)
        self.dropout = nn.Dropout(config.dropout)
        self.cross = TransformerUnit(dim, config)

    def own(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """The first sub-layer: (B, L, D) to phrases (B, L, D)."""
        attended = self.dropout(self.self_attention(tokens, tokens, mask))
        phrases: Tensor = self.self_norm(_plus(attended, tokens))
        return phrases

    def forward(self, tokens: Tensor, mask: Tensor, sources: Tensor, source_mask: Tensor) -> Tensor:
        """All sub-layers for aligned items: (B, L, D) that look at (B, S, D) to (B, L, D)."""
        phrases = self.own(tokens, mask)
        attention = self.cross.attention
        attended = attention.attend(
            attention.query(phrases),
            attention.key(sources),
            attention.value(sources),
            source_mask,
        )
        return self.cross.finish(phrases, attended)
