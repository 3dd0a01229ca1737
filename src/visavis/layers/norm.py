"""L2 normalisation as the published code does it."""

from __future__ import annotations

from torch import Tensor

EPSILON = 1e-8


def l2norm(x: Tensor, dim: int = -1) -> Tensor:
    """Divide by the L2 norm along one axis; 1e-8 is added to the norm, so zeros stay zeros.

    >>> import torch
    >>> l2norm(torch.tensor([3.0, 4.0]))
    tensor([0.6000, 0.8000])
    """
    norm: Tensor = x.norm(dim=dim, keepdim=True)
    return x / (norm + EPSILON)
