"""Hinge-based triplet ranking (Faghri et al. 2018, eq. 5 and 6), on score matrices.

Rows are images, columns are sentences, and row p belongs to column p: each negative is compared
with the score of the pair itself, on the diagonal. `positives` says which other pairs belong
together too: they are nobody's negatives. The value is a sum over the batch, as published, not a
mean.

The line of the equations whose rivals are sentences reads `scores.i2t`, the one whose rivals are
images `scores.t2i`: so says Shi et al. (DCPA, eq. 15) for a model that scores the two directions
differently. For any other model both are one matrix.
"""

from __future__ import annotations

import torch
from torch import Tensor

from visavis.types import Scores


def sum_hinge(scores: Scores, positives: Tensor, margin: float = 0.2) -> Tensor:
    """Sum of hinges over all negatives, in both directions (VSE, eq. 5).

    Args:
        scores: (N, N), pairs on the diagonal.
        positives: (N, N) bool, True on the diagonal at least.
        margin: the hinge's margin.

    >>> scores = Scores.shared(torch.tensor([[0.9, 0.8], [0.1, 0.5]]))
    >>> round(sum_hinge(scores, torch.eye(2, dtype=torch.bool)).item(), 4)
    0.6
    """
    to_text = margin + scores.i2t - scores.i2t.diagonal()[:, None]  # (N, N)
    to_image = margin + scores.t2i - scores.t2i.diagonal()[None]  # (N, N)
    return ((to_text.clamp_min(0) + to_image.clamp_min(0)) * ~positives).sum()


def hardest_hinge(scores: Scores, positives: Tensor, margin: float = 0.2) -> Tensor:
    """Hinge of the hardest negative, in both directions (VSE++, eq. 6).

    Arguments as in `sum_hinge`. A row or column without a negative adds nothing.

    >>> scores = Scores.shared(torch.tensor([[0.9, 0.8], [0.1, 0.5]]))
    >>> round(hardest_hinge(scores, torch.eye(2, dtype=torch.bool)).item(), 4)
    0.6
    """
    sentences = scores.i2t.masked_fill(positives, -torch.inf)
    images = scores.t2i.masked_fill(positives, -torch.inf)
    # `max` gives a tie's gradient to one rival; `amax` spreads it and keeps collapsed scores equal.
    to_text = margin + sentences.max(dim=1).values - scores.i2t.diagonal()  # (N,)
    to_image = margin + images.max(dim=0).values - scores.t2i.diagonal()  # (N,)
    return to_text.clamp_min(0).sum() + to_image.clamp_min(0).sum()
