"""Vectors whose inner products count, made comparable by vectors of length 1."""

from __future__ import annotations

import torch
from torch import Tensor

HEADROOM = 2.0  # items up to so many times as long as training saw are kept exactly
FORGETTING = 0.999  # of the longest vectors of earlier batches, for each batch


@torch.no_grad()
def remember(longest: Tensor, vectors: Tensor) -> None:
    """Note in `longest` (), in place, how long the vectors (N, D) of a training batch are."""
    now = vectors.norm(dim=1).max().to(longest.dtype)
    longest.copy_(torch.maximum(FORGETTING * longest, now))


def on_sphere(vectors: Tensor, reach: Tensor, place: int) -> Tensor:
    """Unit vectors that keep inner products across the sides, but for one factor for all of them.

    Each vector is divided by `reach`, and a coordinate that the other side has 0 in fills it up to
    length 1 (Bachrach et al. 2014, for search by largest inner product). A vector longer than
    `reach` counts as if it were as long.

    Args:
        vectors: (N, D).
        reach: (), above 0.
        place: 0 for one side, 1 for the other.
    """
    length = vectors.norm(dim=1, keepdim=True)
    scaled = vectors / torch.maximum(length, reach)
    rest = (1 - scaled.square().sum(dim=1, keepdim=True)).clamp_min(0).sqrt()
    extra = [rest, torch.zeros_like(rest)]
    return torch.cat([scaled, *(extra if place == 0 else extra[::-1])], dim=1)
