"""Hinges among sentences: two of one image must be more alike than either is to a third one."""

from __future__ import annotations

import torch
from torch import Tensor


def same_side_hinge(
    similarity: Tensor, together: Tensor, margin: float = 0.2, *, hardest: bool = True
) -> Tensor:
    """Eq. 7 of MTFN (Wang et al. 2019): the sum over ordered pairs (p, q) of one image.

    [margin - S(p, q) + S(p, h)]_+, where h is the sentence of another image that is most like p.
    A sentence that has no partner in the batch adds nothing.

    Args:
        similarity: (N, N); row p holds the similarity of p to every sentence.
        together: (N, N) bool, True where two sentences belong to one image, and on the diagonal.
        margin: the hinge's margin.
        hardest: else the sum over every h.

    >>> similarity = torch.tensor([[1.0, 0.5, 0.4], [0.6, 1.0, 0.2], [0.4, 0.2, 1.0]])
    >>> together = torch.tensor([[True, True, False], [True, True, False], [False, False, True]])
    >>> round(same_side_hinge(similarity, together).item(), 4)  # 0.2 - 0.5 + 0.4
    0.1
    """
    others = ~torch.eye(len(together), dtype=torch.bool, device=together.device)
    sentences, partners = (together & others).nonzero(as_tuple=True)  # (E,) each
    rivals = similarity.masked_fill(together, -torch.inf)[sentences]  # (E, N)
    if hardest:
        rivals = rivals.max(dim=1, keepdim=True).values
    return (margin - similarity[sentences, partners][:, None] + rivals).clamp_min(0).sum()
