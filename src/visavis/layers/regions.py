"""Region vectors into the joint space."""

from __future__ import annotations

import math

from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm


class RegionProjection(nn.Module):
    """One linear map, Xavier-uniform with zero bias (Lee et al. 2018, eq. 1).

    With `weight_normalised`, the weight is a direction times one scalar for the whole matrix, as in
    the published code.
    """

    def __init__(
        self, region_dim: int, dim: int, *, weight_normalised: bool = False, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        linear = nn.Linear(region_dim, dim)
        bound = math.sqrt(6.0 / (region_dim + dim))
        nn.init.uniform_(linear.weight, -bound, bound)
        nn.init.zeros_(linear.bias)
        self.linear = weight_norm(linear, dim=None) if weight_normalised else linear

    def forward(self, regions: Tensor) -> Tensor:
        """(N, R, region_dim) to (N, R, dim)."""
        projected: Tensor = self.linear(self.dropout(regions))
        return projected
