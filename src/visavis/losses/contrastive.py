"""Softmax over a batch: the smooth form of the hardest negative's hinge."""

from __future__ import annotations

import torch
from torch import Tensor

from visavis.types import Scores


def contrastive(
    scores: Scores, positives: Tensor, margin: float = 0.0, temperature: float = 0.05
) -> Tensor:
    """Cross entropy of each pair among its negatives, in both directions, times the temperature.

    With t the temperature, the sum over rows and columns of
    t · log(1 + Σ exp((margin + S(negative) - S(pair)) / t)). Without a margin and divided by t it
    is the contrastive loss of Oord et al. 2018 as Radford et al. 2021 (CLIP) use it; as t falls to
    0 it becomes `hardest_hinge`. All negatives count, the harder the more: scores do not become
    equal where the hardest one alone would make them so.

    Args:
        scores: (N, N), pairs on the diagonal.
        positives: (N, N) bool, True on the diagonal at least; other pairs are nobody's negatives.
        margin: by how much a pair must win before its loss is small.
        temperature: above 0.

    >>> scores = Scores.shared(torch.tensor([[0.9, 0.8], [0.1, 0.5]]))
    >>> round(contrastive(scores, torch.eye(2, dtype=torch.bool), 0.2, 1e-3).item(), 4)
    0.6
    """
    to_text = margin + scores.i2t - scores.i2t.diagonal()[:, None]  # (N, N)
    to_image = margin + scores.t2i - scores.t2i.diagonal()[None]  # (N, N)
    return _soft(to_text, positives, temperature, 1) + _soft(to_image, positives, temperature, 0)


def _soft(excess: Tensor, positives: Tensor, temperature: float, dim: int) -> Tensor:
    """Sum of t · log(1 + Σ exp(excess / t)) of rows or columns; one without negatives adds 0."""
    others = (excess / temperature).masked_fill(positives, -torch.inf)
    beside = torch.zeros_like(others.narrow(dim, 0, 1))  # log 1, the pair itself
    return temperature * torch.cat([others, beside], dim=dim).logsumexp(dim=dim).sum()
