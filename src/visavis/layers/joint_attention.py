"""Attention over the union of two sets, from what each set knows by itself (MMCA, eq. 8-14).

The fragments of an image and of a sentence, stacked, look at each other. Queries, keys and values
are linear in each fragment, and what an item's fragments give each other does not depend on the
other item either. For one query, with logits a and values V of its own set, b and U of the other,

    softmax([a, b]) [V; U]  =  softmax([log sum exp a, b]) [softmax(a) V; U]

On the left is the attention over both sets. On the right the whole own set has become one more
key, whose logit is its log-sum-exp and whose value is what the set gives alone. Both are known
before any pair is (`own_part`); a pair costs one softmax over 1 + S logits, and nothing is lost.

Letters: B items looked at, H heads, L tokens that look, S tokens looked at, D width, K = D / H.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from visavis.layers.transformer import MultiHead
from visavis.types import Encoded


def own_part(attention: MultiHead, tokens: Tensor, mask: Tensor) -> dict[str, Tensor]:
    """What attention needs of N items before it knows the other ones.

    Args:
        attention: of the joint unit. In training its dropout falls on the own weights here, once
            for all pairs of an item.
        tokens: (N, L, D).
        mask: (N, L) bool, True where a token is real; each item has at least one.

    Returns:
        `queries` (N, L, H, 1 + K), scaled, each led by its own log-sum-exp; `own` (N, L, D), what
        the own set gives; `keys` (N, H, 1 + L, 1 + K), of which the first picks the log-sum-exp
        of a query and the others take no notice of it; `values` (N, H, L, K).
    """
    keys, values = attention.split(attention.key(tokens)), attention.split(attention.value(tokens))
    queries = attention.split(attention.query(tokens)) / keys.shape[3] ** 0.5  # (N, H, L, K)
    logits = queries @ keys.transpose(2, 3)  # (N, H, L, L)
    logits = logits.masked_fill(~mask[:, None, None, :], -torch.inf)
    total = logits.logsumexp(dim=3, keepdim=True)  # (N, H, L, 1)
    weights = F.dropout(logits.softmax(dim=3), attention.dropout, attention.training)
    picks = F.pad(torch.ones_like(keys[:, :, :1, :1]), (0, keys.shape[3]))  # 1, 0, ..., 0
    return {
        "queries": torch.cat([total, queries], dim=3).transpose(1, 2).contiguous(),
        "own": (weights @ values).transpose(1, 2).flatten(2),
        "keys": torch.cat([picks, F.pad(keys, (1, 0))], dim=2),
        "values": values.contiguous(),
    }


@dataclass(frozen=True, slots=True)
class Side:
    """N items that have been through `own_part`."""

    tokens: Tensor  # (N, L, D)
    mask: Tensor  # (N, L)
    queries: Tensor  # (N, L, H, 1 + K)
    own: Tensor  # (N, L, D)
    keys: Tensor  # (N, H, 1 + L, 1 + K)
    values: Tensor  # (N, H, L, K)

    @staticmethod
    def of(items: Encoded) -> Side:
        """Encoded items whose `extra` is that of `own_part`, without needless padding."""
        items = items.trimmed()
        length, extra = items.mask.shape[1], items.extra
        return Side(
            items.tokens,
            items.mask,
            extra["queries"][:, :length],
            extra["own"][:, :length],
            extra["keys"][:, :, : 1 + length],
            extra["values"][:, :, :length],
        )


def attend_all(looking: Side, seen: Side, *, dropout: float = 0.0) -> Tensor:
    """Every item of one side looks at itself and at every item of the other.

    Args:
        looking: N items of L tokens.
        seen: B items of S tokens.
        dropout: of the attention weights on the other side, drawn for each pair.

    Returns:
        Heads joined, before the output map: (B, N, L, D).
    """
    queries = looking.queries.flatten(0, 1).transpose(0, 1)  # (H, N L, 1 + K)
    attended = _attended(queries[None], looking.own.flatten(0, 1)[None], seen, dropout)
    return attended.view(len(attended), *looking.mask.shape, -1)


def attend_pairs(looking: Side, seen: Side, *, dropout: float = 0.0) -> Tensor:
    """The same for aligned rows: (P, L, D)."""
    return _attended(looking.queries.transpose(1, 2), looking.own, seen, dropout)


def _attended(queries: Tensor, own: Tensor, seen: Side, dropout: float) -> Tensor:
    """Queries (1 or B, H, L, 1 + K) whose own sets give `own` (1 or B, L, D): (B, L, D)."""
    weights = _weights(queries, seen)  # (B, H, L, 1 + S), the own set first
    own_weight, others = weights[..., :1], weights[..., 1:]
    found = F.dropout(others, dropout, dropout > 0) @ seen.values  # (B, H, L, K)
    heads = own.reshape(*own.shape[:2], *seen.values.shape[1::2])  # (1 or B, L, H, K)
    return (heads * own_weight.transpose(1, 2) + found.transpose(1, 2)).flatten(2)


def _weights(queries: Tensor, seen: Side) -> Tensor:
    """The joint softmax: queries (1 or B, H, L, 1 + K) to (B, H, L, 1 + S)."""
    padding = ~F.pad(seen.mask, (1, 0), value=True)[:, None, :, None]  # (B, 1, 1 + S, 1)
    # Along a short last axis torch's softmax takes 20 times as long on a processor as along any
    # other; the longer of the two axes stands last.
    turned = queries.shape[2] >= seen.values.shape[2]
    if turned:
        logits = seen.keys @ queries.transpose(2, 3)  # (B, H, 1 + S, L)
    else:
        logits = queries @ seen.keys.transpose(2, 3)  # (B, H, L, 1 + S)
        padding = padding.transpose(2, 3)
    if bool(padding.any()):
        logits = logits.masked_fill(padding, -torch.inf)
    return logits.softmax(dim=2).transpose(2, 3) if turned else logits.softmax(dim=3)
