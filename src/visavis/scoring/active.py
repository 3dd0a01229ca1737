"""Gradients through the pairs that move a loss, and through no others.

A hinge is flat where it is satisfied, and the hardest negative is one of many: of the scores of
a batch most have no gradient. They are computed once without one. What the loss says of each score
tells which pairs matter; those alone are scored again, this time for gradients. By the chain rule

    dL / dw  =  sum over pairs  (dL / ds_pair) (ds_pair / dw)

and leaving out the terms whose first factor is 0 changes nothing. For matchers whose scores are
dear this saves most of the backward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from visavis.scoring.budget import bytes_of_pair, used_lengths
from visavis.scoring.matrix import BLOCK, score_stripe
from visavis.types import Encoded, Matcher, Scores

WORTHWHILE = 0.5  # a larger share of pairs is scored faster as a whole matrix


def loss_of_active(
    model: Matcher,
    images: Encoded,
    sentences: Encoded,
    loss: Callable[[Scores], Tensor],
    *,
    budget_bytes: int = BLOCK.budget_bytes,
) -> Tensor:
    """loss(scores of all pairs), a scalar with the gradients that it would have.

    A model that draws at random while it scores, as with dropout, draws twice: which pairs count is
    then decided by other draws than those that the gradient sees.

    Args:
        model: its `score_pairs` equals the entries of its `score`.
        images: encoded with gradients.
        sentences: encoded with gradients.
        loss: a scalar of scores (N, M).
        budget_bytes: the most temporaries of a block.
    """
    with torch.no_grad():
        found = score_stripe(model, images, sentences, budget_bytes=budget_bytes)
    value, i2t, t2i = _slopes(found, loss)
    active = (i2t != 0) | (t2i != 0)
    if active.float().mean() > WORTHWHILE:
        return loss(score_stripe(model, images, sentences, budget_bytes=budget_bytes))
    moved = value.new_zeros(())
    for rows, columns in _chunks(model, active, images, sentences, budget_bytes):
        pairs = model.score_pairs(images.select(rows), sentences.select(columns).trimmed())
        moved = moved + (pairs.i2t * i2t[rows, columns]).sum()
        if found.decoupled:
            moved = moved + (pairs.t2i * t2i[rows, columns]).sum()
    return value + (moved - moved.detach())  # the value of the loss, the gradient of `moved`


def _slopes(found: Scores, loss: Callable[[Scores], Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """The loss, and what it loses or gains with each score of either direction: (N, M) each.

    For one matrix the second is 0: the first then has both.
    """
    with torch.enable_grad():
        i2t = found.i2t.detach().requires_grad_()
        if not found.decoupled:
            value = loss(Scores.shared(i2t))
            (slope,) = torch.autograd.grad(value, i2t)
            return value.detach(), slope, torch.zeros_like(slope)
        t2i = found.t2i.detach().requires_grad_()
        value = loss(Scores(i2t, t2i))
        of_i2t, of_t2i = torch.autograd.grad(value, (i2t, t2i))
    return value.detach(), of_i2t, of_t2i


def _chunks(
    model: Matcher, active: Tensor, images: Encoded, sentences: Encoded, budget_bytes: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Active pairs as rows and columns, sentences of like length together, within the budget."""
    rows, columns = active.nonzero(as_tuple=True)
    if not len(rows):
        return
    lengths = used_lengths(sentences)[columns]
    order = lengths.argsort(stable=True)
    dearest = bytes_of_pair(model, images.mask.shape[1], int(lengths.max()))
    for part in torch.split(order, max(1, budget_bytes // dearest)):
        yield rows[part], columns[part]
