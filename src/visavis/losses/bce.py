"""Cross entropy of "these two belong together" (Wang et al. 2019, CAMP, eq. 14), on score matrices.

A score x is read as the logit of a probability m = sigmoid(x) that the pair matches:

    -log m(p, p) - log(1 - m(p, n))  =  softplus(-x(p, p)) + softplus(x(p, n))

with n the hardest negative, once among the sentences of an image and once among the images of a
sentence. The paper prints eq. 14 without its minus sign and with a maximum of log(1 - m), which
would be the easiest negative; what is meant, and what its code does, is above. softplus never takes
the logarithm of a rounded 0, so no clamp is needed and gradients do not vanish.

The published code clamps probabilities instead; the `_clamped` losses do as it does, on scores that
are probabilities already. All are sums over the batch except `bce_clamped`, as published. Rows are
images; `positives` says which pairs are nobody's negatives. None of them has a margin except the
ranking losses of probabilities at the end.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from visavis.losses.hinge import hardest_hinge, sum_hinge
from visavis.types import Scores

CLAMP = 1e-6  # the published code keeps probabilities so far from 0 and 1


def hardest_bce(scores: Scores, positives: Tensor, margin: float = 0.2) -> Tensor:
    """Cross entropy of each pair and of its hardest negative, in both directions (eq. 14).

    Args:
        scores: (N, N) logits, pairs on the diagonal.
        positives: (N, N) bool, True on the diagonal at least.
        margin: of no meaning here.

    >>> scores = Scores.shared(torch.tensor([[2.0, -1.0], [0.0, 3.0]]))
    >>> round(hardest_bce(scores, torch.eye(2, dtype=torch.bool)).item(), 4)
    2.3638
    """
    sentences = scores.i2t.masked_fill(positives, -torch.inf)
    images = scores.t2i.masked_fill(positives, -torch.inf)
    # `max` gives a tie's gradient to one rival, as in the hinges. softplus(-inf) is 0.
    to_text = F.softplus(sentences.max(dim=1).values)  # (N,)
    to_image = F.softplus(images.max(dim=0).values)  # (N,)
    return _matched(scores) + to_text.sum() + to_image.sum()


def bce(scores: Scores, positives: Tensor, margin: float = 0.2) -> Tensor:
    """The same with the mean of all negatives of a row or column instead of the hardest one.

    "BCE w/o hardest" of the paper's table 3, where "b is the number of negative pairs in a
    mini-batch, to balance the loss". Arguments as in `hardest_bce`.

    >>> scores = Scores.shared(torch.tensor([[2.0, -1.0], [0.0, 3.0]]))
    >>> round(bce(scores, torch.eye(2, dtype=torch.bool)).item(), 4)  # one negative each
    2.3638
    """
    negatives = ~positives
    to_text = (F.softplus(scores.i2t) * negatives).sum(dim=1) / _count(negatives, dim=1)
    to_image = (F.softplus(scores.t2i) * negatives).sum(dim=0) / _count(negatives, dim=0)
    return _matched(scores) + to_text.sum() + to_image.sum()


def hardest_bce_clamped(scores: Scores, positives: Tensor, margin: float = 0.2) -> Tensor:
    """`hardest_bce` of probabilities, clamped, as the published code computes it.

    Its cross-attention stage hands it cosines: whatever is below 1e-6 has no gradient.

    Args:
        scores: (N, N) probabilities or cosines, pairs on the diagonal.
        positives: (N, N) bool, True on the diagonal at least.
        margin: of no meaning here.

    >>> scores = Scores.shared(torch.tensor([[0.5, -0.7], [0.5, 1.0]]))
    >>> round(hardest_bce_clamped(scores, torch.eye(2, dtype=torch.bool)).item(), 4)  # 4 log 2
    2.7726
    """
    i2t, t2i = _clamped(scores)
    to_text = (-torch.log(1 - i2t)).masked_fill(positives, 0).max(dim=1).values  # (N,), all >= 0
    to_image = (-torch.log(1 - t2i)).masked_fill(positives, 0).max(dim=0).values
    own = -torch.log(i2t.diagonal()) - torch.log(t2i.diagonal())
    return (own + to_text + to_image).sum()


def bce_clamped(scores: Scores, positives: Tensor, margin: float = 0.2) -> Tensor:
    """Mean over pairs of -log s, plus the sum over negatives of -log(1 - s) divided by N².

    The published code without hardest negatives; it divides by all entries, the diagonal too.
    Arguments as in `hardest_bce_clamped`.

    >>> scores = Scores.shared(torch.tensor([[0.5, -0.7], [0.5, 1.0]]))
    >>> round(bce_clamped(scores, torch.eye(2, dtype=torch.bool)).item(), 4)  # 3/4 log 2
    0.5199
    """
    i2t, t2i = _clamped(scores)
    own = -(torch.log(i2t.diagonal()) + torch.log(t2i.diagonal())).mean()
    others = -((torch.log(1 - i2t) + torch.log(1 - t2i)) * ~positives).mean()
    return (own + others) / 2  # a matrix that serves both directions counts once


def hardest_hinge_probability(scores: Scores, positives: Tensor, margin: float = 0.2) -> Tensor:
    """`hardest_hinge` of m = sigmoid(x): "MLP + ranking loss" of CAMP's table 3 (eq. 12 and 13).

    Args:
        scores: (N, N) logits, pairs on the diagonal.
        positives: (N, N) bool, True on the diagonal at least.
        margin: the hinge's margin, between probabilities.

    >>> scores = Scores.shared(torch.tensor([[9.0, -9.0], [-9.0, 9.0]]))
    >>> hardest_hinge_probability(scores, torch.eye(2, dtype=torch.bool)).item()
    0.0
    """
    return hardest_hinge(_probabilities(scores), positives, margin)


def sum_hinge_probability(scores: Scores, positives: Tensor, margin: float = 0.2) -> Tensor:
    """`sum_hinge` of m = sigmoid(x); arguments as in `hardest_hinge_probability`.

    >>> scores = Scores.shared(torch.zeros(2, 2))
    >>> round(sum_hinge_probability(scores, torch.eye(2, dtype=torch.bool)).item(), 4)
    0.8
    """
    return sum_hinge(_probabilities(scores), positives, margin)


def _probabilities(scores: Scores) -> Scores:
    i2t = torch.sigmoid(scores.i2t)
    return Scores(i2t, torch.sigmoid(scores.t2i)) if scores.decoupled else Scores.shared(i2t)


def _matched(scores: Scores) -> Tensor:
    """-log m of the pairs themselves, once for each direction."""
    return (F.softplus(-scores.i2t.diagonal()) + F.softplus(-scores.t2i.diagonal())).sum()


def _clamped(scores: Scores) -> tuple[Tensor, Tensor]:
    return scores.i2t.clamp(CLAMP, 1 - CLAMP), scores.t2i.clamp(CLAMP, 1 - CLAMP)


def _count(negatives: Tensor, *, dim: int) -> Tensor:
    return negatives.sum(dim=dim).clamp_min(1)
