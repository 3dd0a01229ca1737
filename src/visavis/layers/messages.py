"""Messages between the fragments of images and sentences, all pairs at once (CAMP, eq. 1-4).

A fragment gets as its message a weighted sum of the other side's fragments, f = sum_s c_s x_s.
What comes after is often linear in f, and then f need not exist: a map W of it is a sum of the
W x_s, which are known per item, an inner product with it a sum of inner products, and its length
follows from the Gram matrix of the x_s. So what travels here are the weights c.

Letters: G grids, B items that are seen, S fragments of them, A items that look, L fragments of
them, D width. One grid of all items gives every pair; P grids of one item each give aligned rows.
Weights are laid out (G, B, S, A, L): softmax over an axis that is not the last is many times faster
on a processor, and no product needs a copy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from visavis.layers.narrow import for_products
from visavis.layers.norm import EPSILON
from visavis.types import Encoded

SQUARE = ("gram", "relation")  # entries of `extra` with two axes of fragments


@dataclass(frozen=True, slots=True)
class Items:
    """One side of G grids."""

    tokens: Tensor  # (G, N, L, D); padding is 0
    mask: Tensor  # (G, N, L)
    extra: Mapping[str, Tensor]  # (G, N, L, ...), or (G, N, L, L)

    @staticmethod
    def of(items: Encoded, *, aligned: bool, room: int = 0) -> Items:
        """Encoded items without needless padding.

        Args:
            items: N of them.
            aligned: N grids of one item each, for aligned rows; else one grid of N items.
            room: so many places of padding are added behind.
        """
        items = items.trimmed()
        length = items.mask.shape[1]
        axis = 1 if aligned else 0

        def placed(tensor: Tensor, *, square: bool = False) -> Tensor:
            tensor = tensor[:, :length, :length] if square else tensor[:, :length]
            if room:
                others = tensor.dim() - 2  # axes behind that of the fragments
                tensor = F.pad(tensor, [0, room if square else 0] * others + [0, room])
            return tensor.unsqueeze(axis)

        extra = {key: placed(value, square=key in SQUARE) for key, value in items.extra.items()}
        return Items(placed(items.tokens), placed(items.mask), extra)


def affinities(seen: Tensor, looking: Tensor) -> Tensor:
    """Inner products (eq. 1): (G, B, S, D) and (G, A, L, D) to (G, B, S, A, L)."""
    shape = (*seen.shape[:3], *looking.shape[1:3])
    seen, looking = (for_products(side.flatten(1, 2)) for side in (seen, looking))
    if seen.dtype == torch.bfloat16:  # products of few rows with many columns are slow
        product = (looking @ seen.transpose(1, 2)).transpose(1, 2).float()
    else:
        product = seen @ looking.transpose(1, 2)
    return product.reshape(shape)


def turned(affinity: Tensor) -> Tensor:
    """The same with the sides exchanged: (G, B, S, A, L) to (G, A, L, B, S)."""
    return affinity.permute(0, 3, 4, 1, 2).contiguous()


def attended(affinity: Tensor, mask: Tensor) -> Tensor:
    """Softmax over what is seen (eq. 2, 4): (G, B, S, A, L); padding of `mask` (G, B, S) gets 0."""
    if not bool(mask.all()):
        affinity = affinity.masked_fill(~mask[..., None, None], -torch.inf)
    return affinity.softmax(dim=2)


def averaged(mask: Tensor) -> Tensor:
    """Weights of the mean of what is seen: (G, B, S) to (G, B, S, 1, 1)."""
    return (mask / mask.sum(dim=2, keepdim=True))[..., None, None]


def attended_again(weights: Tensor, relation: Tensor, mask: Tensor) -> Tensor:
    """Messages of one pair look at each other; the weights of what they have then.

    Args:
        weights: (G, B, S, A, L) of the messages.
        relation: (G, B, S, S), what a fragment that is seen would say to another: message l says to
            message k the sum over s and t of c_ls relation_st c_kt.
        mask: (G, A, L), messages that are not padding.
    """
    half = (relation @ weights.flatten(3)).view(weights.shape)  # (G, B, S, A, K)
    pairs = weights.permute(0, 1, 3, 2, 4)  # (G, B, A, S, L)
    logits = half.permute(0, 1, 3, 4, 2) @ pairs  # (G, B, A, K, L): what k is worth to l
    if not bool(mask.all()):
        logits = logits.masked_fill(~mask[:, None, :, :, None], -torch.inf)
    found = pairs @ logits.softmax(dim=3)  # (G, B, A, S, L)
    return found.transpose(2, 3).contiguous()


def carried(weights: Tensor, vectors: Tensor) -> Tensor:
    """The messages themselves (eq. 3), or a linear map of them: (G, B, A, L, D).

    Args:
        weights: (G, B, S, A, L).
        vectors: (G, B, S, D), what is seen, or the same map of it.
    """
    found = weights.flatten(3).transpose(2, 3) @ for_products(vectors)
    return found.view(*weights.shape[:2], *weights.shape[3:], -1).to(vectors.dtype)


def lengths(weights: Tensor, gram: Tensor) -> Tensor:
    """Lengths of the messages: (G, B, S, A, L) and G = X X' (G, B, S, S) to (G, B, 1, A, L)."""
    product = (gram @ weights.flatten(3)).view(weights.shape)
    square = (product * weights).sum(dim=2, keepdim=True)
    # Floored before the root: a gradient through sqrt(0) would be infinite.
    return square.clamp_min(EPSILON**2).sqrt()
