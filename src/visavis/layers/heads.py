"""Attention weights of every head between the items of two sides (MMCA eq. 11, DCPA eq. 1 and 11).

Two layouts, of which each copies something: `by_head` makes one large product for each head, from
keys that were turned, and `by_item` one product for each head and item, from queries that are
repeated for every item. Softmax runs in float32 in both.

Letters: B items that are seen, S tokens of them, H heads, K width of a head, X tokens that look.
`first`, where there is one, are logits of something else that takes part in the softmax and stands
before the S tokens.
"""

from __future__ import annotations

import torch
from torch import Tensor


def turns(many: int, tokens: int) -> bool:
    """Whether turning keys and values of `tokens` is less work than repeating `many` queries."""
    return 2 * tokens < many


def by_head(
    queries: Tensor, keys: Tensor, mask: Tensor, first: Tensor | None = None, *, over: int = 2
) -> Tensor:
    """All of X tokens look at each of B items.

    Args:
        queries: (H, X, K), scaled.
        keys: (H, B, S, K), or (H, S, B, K) for `over` 1.
        mask: (B, S) bool, or (S, B); True where a token is real; each item has at least one.
        first: (H, X).
        over: the axis S.

    Returns:
        (H, B, S, X), or (H, S, B, X); with `first` 1 + S. The long axis stands last: along a short
        last axis torch's softmax takes up to 20 times as long on a processor.
    """
    logits = (keys.flatten(1, 2) @ queries.transpose(1, 2)).view(*keys.shape[:3], -1)
    logits = _hidden(logits, mask.unsqueeze(2))
    if first is not None:
        first = first[:, None, None].expand(-1, logits.shape[3 - over], -1, -1)
        logits = torch.cat([first if over == 2 else first.transpose(1, 2), logits], dim=over)
    return logits.softmax(dim=over)


def by_item(queries: Tensor, keys: Tensor, mask: Tensor, first: Tensor | None = None) -> Tensor:
    """X tokens of each item look at one item, or those of a single one at all.

    Args:
        queries: (B, H, X, K), or (1, H, X, K); scaled.
        keys: (B, H, S, K).
        mask: (B, S).
        first: (B, H, X), or (1, H, X).

    Returns:
        (B, H, X, S), or (B, H, X, 1 + S).
    """
    turned = queries.shape[2] > keys.shape[2]
    axis = 2 if turned else 3
    if turned:
        logits = _hidden(keys @ queries.transpose(2, 3), mask[:, None, :, None])  # (B, H, S, X)
    else:
        logits = _hidden(queries @ keys.transpose(2, 3), mask[:, None, None])
        # Of bfloat16, torch's softmax is slow along the last axis, though no less exact.
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    if first is not None:
        first = first.expand(len(keys), -1, -1).unsqueeze(axis)
        logits = torch.cat([first, logits], dim=axis)
    weights = logits.softmax(dim=axis)
    return weights.transpose(2, 3) if turned else weights


def _hidden(logits: Tensor, mask: Tensor) -> Tensor:
    """-inf where padding is; the mask broadcasts to the logits."""
    return logits if bool(mask.all()) else logits.masked_fill(~mask, -torch.inf)
