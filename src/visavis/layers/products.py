"""Inner products that are scores: in float32, whatever other products are made in."""

from __future__ import annotations

import torch
from torch import Tensor


def at_least_float32(scores: Tensor) -> Tensor:
    """Scores whose bits autocast may have halved, as float32; float64 stays."""
    return scores.to(torch.promote_types(scores.dtype, torch.float32))


def inner_products(left: Tensor, right: Tensor) -> Tensor:
    """Every row of one with every row of the other: (N, D) and (M, D) to (N, M).

    Of half the bits many scores would be equal, and ties lose; no other product costs as little.
    """
    with torch.autocast(left.device.type, enabled=False):
        return at_least_float32(left) @ at_least_float32(right).T
