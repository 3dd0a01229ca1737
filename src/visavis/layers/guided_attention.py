"""Regions weighted by what a sentence asks for (Nam, Ha, Kim: Dual Attention Networks, CVPR 2017).

    α_r = softmax_r( w · (tanh(P x_r) ⊙ tanh(Q y)) )

The sum is an inner product of tanh(P x_r), which belongs to the image, and w ⊙ tanh(Q y), which
belongs to the sentence: a pair costs one product of width D for each region.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from visavis.layers.products import at_least_float32


def affinity(left: Tensor, right: Tensor, *, aligned: bool) -> Tensor:
    """Inner products of tokens (N, L, D) and (M, W, D): (N, M, L, W), or (P, L, W) of aligned rows.

    One matrix product for all pairs, whatever the widths. Of one token each they are scores, which
    keep all their bits under autocast too: of half the bits many would be equal.
    """
    equation = "ple,pwe->plw" if aligned else "nle,mwe->nmlw"
    if left.shape[1] * right.shape[1] > 1:
        return torch.einsum(equation, left, right)
    with torch.autocast(left.device.type, enabled=False):
        return torch.einsum(equation, at_least_float32(left), at_least_float32(right))


class GuidedAttention(nn.Module):
    """The weights of regions (N, R, D) for sentence vectors (M, D)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.key = nn.Linear(dim, dim)
        self.query = nn.Linear(dim, dim)
        self.out = nn.Linear(dim, 1, bias=False)

    def keys(self, regions: Tensor) -> Tensor:
        """tanh(P x): (N, R, D)."""
        return torch.tanh(self.key(regions))

    def queries(self, sentences: Tensor) -> Tensor:
        """W ⊙ tanh(Q y): (M, D)."""
        return torch.tanh(self.query(sentences)) * self.out.weight[0]


def attention_weights(keys: Tensor, queries: Tensor, mask: Tensor, *, aligned: bool) -> Tensor:
    """α of every pair (N, M, R), or of aligned rows (P, R); 0 where no region is.

    Args:
        keys: (N, R, D).
        queries: (M, D).
        mask: (N, R) bool.
        aligned: row p of one side with row p of the other.
    """
    logits = affinity(keys, queries.unsqueeze(1), aligned=aligned).squeeze(-1)
    real = mask if aligned else mask.unsqueeze(1)
    return logits.masked_fill(~real, -torch.inf).softmax(dim=-1)
