"""Angular loss (Wang, Zhou, Wen, Liu, Lin: Deep Metric Learning with Angular Loss, ICCV 2017).

It looks at vectors, not at scores, as a triangle of anchor a, positive p and negative n has a third
side that no image-sentence score knows:

    f(a, p, n) = 4 tan²α (a + p)·n - 2 (1 + tan²α) a·p

with α = 45°, as SAEM has it: f = 4 (a + p)·n - 4 a·p. An image is the anchor, its sentence the
positive and the other sentences are negatives, and the same with the sides exchanged.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def angular(
    images: Tensor, sentences: Tensor, positives: Tensor, *, hardest: bool = True
) -> Tensor:
    """Angular loss of pairs, in both directions added up.

    Args:
        images: (N, D) vectors; row p of both sides is a pair.
        sentences: (N, D) vectors.
        positives: (N, N) bool, True on the diagonal at least: nobody's negatives.
        hardest: the sum over anchors of log(1 + exp(max f)), as SAEM trains; else the mean over
            anchors of log(1 + Σ exp f), as the paper of the loss has it.

    >>> x, y = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    >>> pairs = torch.stack([x, y])
    >>> round(angular(pairs, pairs, torch.eye(2, dtype=torch.bool)).item(), 4)  # 4 log(1 + e^-4)
    0.0726
    """
    across = images @ sentences.T  # (N, N)
    to_text = _violations(across, sentences, positives)
    to_image = _violations(across.T, images, positives.T)
    if hardest:
        # `max` gives a tie's gradient to one negative, as in the hinges.
        worst = torch.stack([f.max(dim=1).values for f in (to_text, to_image)])  # (2, N)
        return F.softplus(worst).sum()
    return _log_one_and_sum(to_text).mean() + _log_one_and_sum(to_image).mean()


def _violations(across: Tensor, candidates: Tensor, excluded: Tensor) -> Tensor:
    """The f of each anchor (row) with each negative (column); -inf where there is none: (N, N).

    Args:
        across: anchors times candidates, own positives on the diagonal: (N, N).
        candidates: (N, D), positives and negatives alike.
        excluded: (N, N) bool.
    """
    own = across.diagonal()[:, None]
    f = 4 * (across + candidates @ candidates.T) - 4 * own
    return f.masked_fill(excluded, -torch.inf)


def _log_one_and_sum(f: Tensor) -> Tensor:
    """log(1 + Σ exp f) of each row: (N, N) to (N,)."""
    return torch.cat([f.new_zeros(len(f), 1), f], dim=1).logsumexp(dim=1)
