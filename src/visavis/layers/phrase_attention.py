"""Phrases of one side, rebuilt from the other by a transformer decoder, for all pairs at once.

DCPA eq. 11-14. Letters: A items look with L tokens each at B items of S tokens; H heads, D width.

What depends on one item alone (`prepare`: the decoder's first sub-layer, queries, keys and values)
is made once per item. For each pair remain the attention, its output map, the feed-forward
sub-layer and the cosines (`rebuild`); they run as a few large matrix products. `rebuild_plainly`
runs the whole decoder for every pair, with equal results.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from visavis.layers.heads import by_head, by_item, turns
from visavis.layers.narrow import for_products
from visavis.layers.norm import EPSILON, l2norm
from visavis.layers.products import at_least_float32
from visavis.layers.transformer import DecoderUnit
from visavis.types import Encoded

HEADS_FIRST = ("queries", "keys", "values")  # entries of `extra` with the axes (N, H, L, K)


def prepare(
    tokens: Tensor, mask: Tensor, *, looks: DecoderUnit, seen: DecoderUnit
) -> Mapping[str, Tensor]:
    """What both branches need of items alone, for `Encoded.extra`.

    `phrases` (N, L, D); `queries`, scaled, `keys` and `values` (N, H, L, K).

    Args:
        tokens: (N, L, D).
        mask: (N, L) bool, True where a token is real.
        looks: the decoder in which these items look at the other side.
        seen: the decoder in which the other side looks at them.
    """
    phrases = looks.own(tokens, mask)
    attention, other = looks.cross.attention, seen.cross.attention
    queries = attention.query(phrases) / (tokens.shape[2] // attention.heads) ** 0.5
    return {
        "phrases": phrases,
        "queries": attention.split(queries).contiguous(),
        "keys": other.split(other.key(tokens)).contiguous(),
        "values": other.split(other.value(tokens)).contiguous(),
    }


def part(items: Encoded, name: str) -> Tensor:
    """An entry of `extra` with a token axis; items may have been trimmed since it was made."""
    length, entry = items.mask.shape[1], items.extra[name]
    return entry[:, :, :length] if name in HEADS_FIRST else entry[:, :length]


def with_parts(items: Encoded, *, looks: DecoderUnit, seen: DecoderUnit) -> Encoded:
    """Items of the straight form with what the fast one keeps of them."""
    extra = {**items.extra, **prepare(items.tokens, items.mask, looks=looks, seen=seen)}
    return replace(items, tokens=l2norm(items.tokens), extra=extra)


def phrase(items: Encoded) -> Tensor:
    """The vector that stands for an item in Intra-PAM: (N, D).

    Raises:
        ValueError: the items have none.
    """
    if items.pooled is None:
        raise ValueError("encoded while Intra-PAM took no part; encode again in the model's mode")
    return items.pooled


def weights(looking: Encoded, seen: Encoded) -> Tensor:
    """Attention of every head for aligned items: (P, H, L, S)."""
    return by_item(part(looking, "queries"), part(seen, "keys"), seen.mask)


def rebuild(branch: DecoderUnit, looking: Encoded, seen: Encoded, *, aligned: bool) -> Tensor:
    """Phrases of A items in terms of each of B others (eq. 12): (B, A, L, D).

    Aligned items, as many on each side, meet one by one: (P, 1, L, D).
    """
    unit, phrases = branch.cross, part(looking, "phrases")
    keys, values = (for_products(part(seen, name)) for name in ("keys", "values"))  # (B, H, S, K)
    dropout = unit.attention.dropout if branch.training else 0.0
    if aligned:
        look = F.dropout(weights(looking, seen), dropout, dropout > 0)
        return unit.finish(phrases, (look @ values).transpose(1, 2).flatten(2)).unsqueeze(1)
    queries = for_products(part(looking, "queries")).transpose(0, 1).flatten(1, 2)  # (H, A L, K)
    given, shape = (queries, keys, values, seen.mask), (len(seen), *phrases.shape)
    if folds(queries.shape[1], values):
        found = _mapped(*given, dropout=dropout, out=unit.attention.out)
        return unit.finish_mapped(phrases.unsqueeze(0), found.view(shape))
    return unit.finish(phrases.unsqueeze(0), _attended(*given, dropout=dropout).reshape(shape))


def folds(many: int, values: Tensor) -> bool:
    """Whether to apply the output map to values, of every head, instead of to what is attended.

    The map of a weighted sum is the sum of mapped values, W^O sum_hs a_hs v_hs = sum_hs a_hs W_h
    v_hs. For each of `many` tokens that look this takes H S D multiplications in place of
    S D + D D, after S D D for each item (B, H, S, K) that is seen.
    """
    _, heads, tokens, width = values.shape
    dim = heads * width
    return many * (tokens + dim - heads * tokens) > tokens * dim


def _mapped(
    queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor, *, dropout: float, out: nn.Linear
) -> Tensor:
    """What X tokens attend to in B items, after W^O: queries (H, X, K) to (B, X, D)."""
    heads, many, _ = queries.shape
    # Heads and tokens of an item stand beside each other, and are one axis of the product.
    keys, values = (entry.permute(1, 2, 0, 3) for entry in (keys, values))  # (H, S, B, K)
    look = F.dropout(by_head(queries, keys, mask.T, over=1), dropout, dropout > 0)  # (H, S, B, X)
    look = look.view(-1, len(mask), many).permute(1, 2, 0)  # (B, X, H S)
    maps: Tensor = out.weight.unflatten(1, (heads, -1)).permute(1, 2, 0)  # (H, K, D)
    given = (values.flatten(1, 2) @ maps).view(-1, len(mask), maps.shape[2])  # (H S, B, D)
    found = look @ given.transpose(0, 1)
    return found if out.bias is None else found + out.bias


def _attended(
    queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor, *, dropout: float
) -> Tensor:
    """What X tokens attend to in B items: queries (H, X, K) to (B, X, H, K)."""
    if turns(queries.shape[1], keys.shape[2]):
        look = by_head(queries, keys.transpose(0, 1), mask).transpose(2, 3)  # (H, B, X, S)
        found = F.dropout(look, dropout, dropout > 0) @ values.transpose(0, 1)
        return found.permute(1, 2, 0, 3)
    look = F.dropout(by_item(queries[None], keys, mask), dropout, dropout > 0)  # (B, H, X, S)
    return (look @ values).transpose(1, 2)


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


def best_cosines(rebuilt: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
    """The largest of the `cosines` of each rebuilt phrase: (B, A, L)."""
    phrases, norms = for_products(rebuilt.flatten(1, 2)), rebuilt.norm(dim=3) + EPSILON
    if phrases.shape[1] > targets.shape[1] and phrases.dtype == torch.float32:
        dots = _masked(targets @ phrases.transpose(1, 2), mask.unsqueeze(2)).amax(dim=1)
    else:  # the same; of bfloat16, products of few rows with many columns are slow
        dots = _masked(phrases @ targets.transpose(1, 2), mask.unsqueeze(1)).amax(dim=2)
    found: Tensor = dots.view_as(norms) / norms  # one phrase has one length: the best stays it
    return found


def mean_of_best(values: Tensor, mask: Tensor, k: int) -> Tensor:
    """Mean of the k largest real values (eq. 10, 14), or of all where fewer are real.

    (..., L) to (...); `mask` broadcasts to the values, and each row has a real one.

    >>> mean_of_best(torch.tensor([0.5, 0.1, 0.3]), torch.tensor([True, True, True]), 2)
    tensor(0.4000)
    """
    values = _masked(at_least_float32(values), mask)  # scores, whatever the products were made in
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


def visual_phrases(images: Encoded) -> Tensor:
    """Phrases of regions i^V, which is all that Intra-PAM alone keeps: (N, R, D)."""
    return part(images, "visual") if "visual" in images.extra else images.tokens


def regional(images: Encoded, phrases: Tensor) -> Tensor:
    """Cosines r^V . c^T of aligned rows: (P, R)."""
    return (visual_phrases(images) * phrases.unsqueeze(1)).sum(dim=2)
