"""Phrases of one side, rebuilt from the other by a transformer decoder, for all pairs at once.

DCPA eq. 11-14. Letters: A items look with L tokens each at B items of S tokens; H heads, D width.

What depends on one item alone (`prepare`: the decoder's first sub-layer, queries, keys and values)
is made once per item. For each pair remain the attention, its output map, the feed-forward
sub-layer and the cosines (`rebuild`); they run as a few large matrix products. `rebuild_plainly`
runs the whole decoder for every pair, with equal results.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from visavis.layers.norm import EPSILON
from visavis.layers.transformer import DecoderUnit
from visavis.types import Encoded


def prepare(
    tokens: Tensor, mask: Tensor, *, looks: DecoderUnit, seen: DecoderUnit
) -> Mapping[str, Tensor]:
    """What both branches need of items alone, each (N, L, D), for `Encoded.extra`.

    Args:
        tokens: (N, L, D).
        mask: (N, L) bool, True where a token is real.
        looks: the decoder in which these items look at the other side.
        seen: the decoder in which the other side looks at them.
    """
    phrases = looks.own(tokens, mask)
    return {
        "phrases": phrases,
        "queries": looks.cross.attention.query(phrases),
        "keys": seen.cross.attention.key(tokens),
        "values": seen.cross.attention.value(tokens),
    }


def part(items: Encoded, name: str) -> Tensor:
    """An entry of `extra` with a token axis; items may have been trimmed since it was made."""
    return items.extra[name][:, : items.mask.shape[1]]


def weights(branch: DecoderUnit, looking: Encoded, seen: Encoded, *, aligned: bool) -> Tensor:
    """Attention of every head: (B, H, A L, S), or (P, H, L, S) for aligned items."""
    attention = branch.cross.attention
    queries = part(looking, "queries")
    if not aligned:
        queries = queries.flatten(0, 1).unsqueeze(0)  # (1, A L, D)
    heads = attention.split(queries) / (queries.shape[2] // attention.heads) ** 0.5
    keys = attention.split(part(seen, "keys"))  # (B, H, S, D / H)
    # A softmax over a few adjacent numbers costs a processor up to twenty times what one across
    # long rows does, so the longer of the two axes lies in memory in one piece.
    if heads.shape[2] > keys.shape[2]:
        logits = keys @ heads.transpose(2, 3)  # (B, H, S, A L)
        return _masked(logits, seen.mask[:, None, :, None]).softmax(dim=2).transpose(2, 3)
    logits = heads @ keys.transpose(2, 3)  # (B, H, A L, S)
    return _masked(logits, seen.mask[:, None, None]).softmax(dim=3)


def rebuild(branch: DecoderUnit, looking: Encoded, seen: Encoded, *, aligned: bool) -> Tensor:
    """Phrases of A items in terms of each of B others (eq. 12): (B, A, L, D).

    Aligned items, as many on each side, meet one by one: (P, 1, L, D).
    """
    unit, phrases = branch.cross, part(looking, "phrases")
    phrases = phrases.unsqueeze(1) if aligned else phrases.unsqueeze(0)
    look = weights(branch, looking, seen, aligned=aligned)
    if branch.training and unit.attention.dropout:
        look = F.dropout(look, unit.attention.dropout)
    attended = (look @ unit.attention.split(part(seen, "values"))).transpose(1, 2)
    return unit.finish(phrases, attended.reshape(len(seen), *phrases.shape[1:]))


def rebuild_plainly(
    branch: DecoderUnit, looking: Encoded, seen: Encoded, *, aligned: bool
) -> Tensor:
    """`rebuild` with the whole decoder for every pair; `tokens` are as they enter it."""
    if aligned:
        found: Tensor = branch(looking.tokens, looking.mask, seen.tokens, seen.mask)
        return found.unsqueeze(1)
    rows = [
        branch(looking.tokens, looking.mask, tokens.expand(len(looking), -1, -1), mask)
        for tokens, mask in zip(seen.tokens, seen.mask[:, None], strict=True)
    ]
    return torch.stack(rows)


def cosines(rebuilt: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
    """Of rebuilt phrases and unit vectors (eq. 13), -inf at padding.

    (B, A, L, D) with (B, S, D) to (B, A, L, S); `mask` is (B, S).
    """
    dots = rebuilt.flatten(1, 2) @ targets.transpose(1, 2)  # (B, A L, S)
    found = dots.view(*rebuilt.shape[:3], -1) / (rebuilt.norm(dim=3, keepdim=True) + EPSILON)
    return _masked(found, mask[:, None, None])


def mean_of_best(values: Tensor, mask: Tensor, k: int) -> Tensor:
    """Mean of the k largest real values (eq. 10, 14), or of all where fewer are real.

    (..., L) to (...); `mask` broadcasts to the values, and each row has a real one.

    >>> mean_of_best(torch.tensor([0.5, 0.1, 0.3]), torch.tensor([True, True, True]), 2)
    tensor(0.4000)
    """
    values = _masked(values, mask)
    if k < values.shape[-1]:
        values = values.topk(k, dim=-1, sorted=False).values
    count = mask.sum(dim=-1).clamp(1, k)
    return values.masked_fill(values == -torch.inf, 0.0).sum(dim=-1) / count


def places_of_best(values: Tensor, mask: Tensor, k: int) -> Tensor:
    """Which values `mean_of_best` takes the mean of: (P, L) to (P, L) bool."""
    best = _masked(values, mask).topk(min(k, values.shape[1]), dim=1).indices
    return torch.zeros_like(mask).scatter_(1, best, value=True) & mask


def _masked(values: Tensor, mask: Tensor) -> Tensor:
    """-inf where padding is; `mask` broadcasts to the values."""
    return values if bool(mask.all()) else values.masked_fill(~mask, -torch.inf)
