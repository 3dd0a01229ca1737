"""Hinge-based triplet ranking (Faghri et al. 2018, eq. 5 and 6), on score matrices.

Rows are images, columns are sentences. `positives` says which pairs belong together: they are
never negatives of each other. The value is a sum over the batch, as published, not a mean.
"""

from __future__ import annotations

import torch
from torch import Tensor


def sum_hinge(scores: Tensor, positives: Tensor, margin: float = 0.2) -> Tensor:
    """Sum of hinges over all negatives, in both directions (VSE, eq. 5).

    A row or column with several positives is represented by its weakest one.

    Args:
        scores: (N, M).
        positives: (N, M) bool, at least one True in each row and column.
        margin: the hinge's margin.

    >>> scores = torch.tensor([[0.9, 0.8], [0.1, 0.5]])
    >>> round(sum_hinge(scores, torch.eye(2, dtype=torch.bool)).item(), 4)
    0.6
    """
    weakest = scores.masked_fill(~positives, torch.inf)
    to_text = (margin + scores - weakest.amin(dim=1, keepdim=True)).clamp_min(0)
    to_image = (margin + scores - weakest.amin(dim=0, keepdim=True)).clamp_min(0)
    return ((to_text + to_image) * ~positives).sum()


def hardest_hinge(scores: Tensor, positives: Tensor, margin: float = 0.2) -> Tensor:
    """Hinge of the hardest negative, in both directions (VSE++, eq. 6).

    Arguments as in `sum_hinge`. A row or column without a negative adds nothing.

    >>> scores = torch.tensor([[0.9, 0.8], [0.1, 0.5]])
    >>> round(hardest_hinge(scores, torch.eye(2, dtype=torch.bool)).item(), 4)
    0.6
    """
    weakest = scores.masked_fill(~positives, torch.inf)
    rivals = scores.masked_fill(positives, -torch.inf)
    # `max` gives a tie's gradient to one rival; `amax` spreads it and keeps collapsed scores equal.
    to_text = margin + rivals.max(dim=1).values - weakest.amin(dim=1)  # (N,)
    to_image = margin + rivals.max(dim=0).values - weakest.amin(dim=0)  # (M,)
    return to_text.clamp_min(0).sum() + to_image.clamp_min(0).sum()
