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

from visavis.layers.heads import by_head, by_item, turns
from visavis.layers.narrow import for_products
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
        `queries` (N, H, L, K), scaled; `total` (N, H, L), the log-sum-exp of each over its own set,
        and `own` (N, H, L, K), what that set gives; `keys` and `values` (N, H, L, K).
    """
    keys, values = attention.split(attention.key(tokens)), attention.split(attention.value(tokens))
    queries = attention.split(attention.query(tokens)) / keys.shape[3] ** 0.5  # (N, H, L, K)
    logits = queries @ keys.transpose(2, 3)  # (N, H, L, L)
    logits = logits.masked_fill(~mask[:, None, None, :], -torch.inf)
    weights = F.dropout(logits.softmax(dim=3), attention.dropout, attention.training)
    return {
        "queries": queries.contiguous(),
        "total": logits.logsumexp(dim=3),
        "own": weights @ values,
        "keys": keys.contiguous(),
        "values": values.contiguous(),
    }


@dataclass(frozen=True, slots=True)
class Side:
    """N items that have been through `own_part`."""

    tokens: Tensor  # (N, L, D)
    mask: Tensor  # (N, L)
    queries: Tensor  # (N, H, L, K)
    total: Tensor  # (N, H, L)
    own: Tensor  # (N, H, L, K)
    keys: Tensor  # (N, H, L, K)
    values: Tensor  # (N, H, L, K)

    @staticmethod
    def of(items: Encoded) -> Side:
        """Encoded items whose `extra` is that of `own_part`, without needless padding."""
        items = items.trimmed()
        length, extra = items.mask.shape[1], items.extra
        names = ("queries", "keys", "values")
        queries, keys, values = (for_products(extra[name][:, :, :length]) for name in names)
        total, own = (extra[name][:, :, :length] for name in ("total", "own"))
        return Side(items.tokens, items.mask, queries, total, own, keys, values)


def attend_all(looking: Side, seen: Side, *, dropout: float = 0.0) -> Tensor:
    """Every item of one side looks at itself and at every item of the other.

    Args:
        looking: N items of L tokens.
        seen: B items of S tokens.
        dropout: of the attention weights on the other side, drawn for each pair.

    Returns:
        Heads joined, before the output map. Places stand first, so that what follows finds the
        next word of all pairs in one piece: (L, B, N, D).
    """
    (n, length), (b, s) = looking.mask.shape, seen.mask.shape
    parts = (looking.queries, looking.total, looking.own)
    queries, total, own = (part.transpose(0, 1).flatten(1, 2) for part in parts)  # (H, N L, ...)
    if turns(n * length, s):
        keys, values = (part.transpose(0, 1) for part in (seen.keys, seen.values))  # (H, B, S, K)
        weights = by_head(queries, keys, seen.mask, total).transpose(2, 3)  # (H, B, N L, 1 + S)
        found = _merged(weights, values, own.unsqueeze(1), dropout).transpose(0, 1)
    else:
        weights = by_item(queries[None], seen.keys, seen.mask, total[None])
        found = _merged(weights, seen.values, own[None], dropout)  # (B, H, N L, K)
    merged: Tensor = found.unflatten(2, (n, length)).permute(3, 0, 2, 1, 4)
    return merged.reshape(length, b, n, -1)


def attend_pairs(looking: Side, seen: Side, *, dropout: float = 0.0) -> Tensor:
    """The same for aligned rows: (L, P, D)."""
    weights = by_item(looking.queries, seen.keys, seen.mask, looking.total)  # (P, H, L, 1 + S)
    return _merged(weights, seen.values, looking.own, dropout).permute(2, 0, 1, 3).flatten(2)


def _merged(weights: Tensor, values: Tensor, own: Tensor, dropout: float) -> Tensor:
    """The own set with its weight, which stands first, and the others with theirs: (..., L, K)."""
    found = F.dropout(weights[..., 1:], dropout, dropout > 0) @ values
    return torch.addcmul(found.to(own.dtype), own, weights[..., :1])
