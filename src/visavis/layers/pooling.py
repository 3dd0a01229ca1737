"""Many vectors to one, with masks."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Pooling = Literal["mean", "max"]


def masked_mean(tokens: Tensor, mask: Tensor) -> Tensor:
    """Mean of the real tokens: (N, L, D) to (N, D); 0 where there is none."""
    real = mask.unsqueeze(2)
    return (tokens * real).sum(dim=1) / real.sum(dim=1).clamp_min(1)


def masked_max(tokens: Tensor, mask: Tensor) -> Tensor:
    """Largest value of the real tokens in each column: (N, L, D) to (N, D)."""
    return tokens.masked_fill(~mask.unsqueeze(2), -torch.inf).amax(dim=1)


def pool(tokens: Tensor, mask: Tensor, how: Pooling) -> Tensor:
    """Pool by name."""
    return masked_mean(tokens, mask) if how == "mean" else masked_max(tokens, mask)


def best_regions(found: Tensor, regions: Tensor, words: Tensor, *, aligned: bool) -> Tensor:
    """Words' best regions averaged over the words: (N, M), or (P,) of aligned rows.

    Args:
        found: (N, M, R, W), or (P, R, W).
        regions: (N, R) bool.
        words: (M, W) bool.
        aligned: row p of one side with row p of the other.
    """
    real = regions if aligned else regions.unsqueeze(1)
    best = found.masked_fill(~real.unsqueeze(-1), -torch.inf).amax(dim=-2)  # (..., W)
    return (best * words).sum(dim=-1) / words.sum(dim=-1)
