"""Region vectors into the joint space."""

from __future__ import annotations

import math

from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm


class RegionProjection(nn.Module):
    """One linear map, Xavier-uniform with zero bias (Lee et al. 2018).

    With `weight_normalised`, the weight is a direction times one scalar for the whole matrix, as in
    the published code. With `hidden` units, a two-layer perceptron is added to the linear map, as
    Chen et al. 2021 (VSE-infinity) do: pooled vectors can then count kinds of regions.
    """

    def __init__(
        self,
        region_dim: int,
        dim: int,
        *,
        weight_normalised: bool = False,
        dropout: float = 0.0,
        hidden: int = 0,
    ) -> None:
        super().__init__()
        self.perceptron: nn.Module | None = None
        if hidden:
            self.perceptron = nn.Sequential(
                nn.Linear(region_dim, hidden), nn.ReLU(), nn.Linear(hidden, dim)
            )
        self.dropout = nn.Dropout(dropout)
        linear = nn.Linear(region_dim, dim)
        bound = math.sqrt(6.0 / (region_dim + dim))
        nn.init.uniform_(linear.weight, -bound, bound)
        nn.init.zeros_(linear.bias)
        if weight_normalised:
            # None, which the annotation forgets, means one norm for the whole matrix.
            linear = weight_norm(linear, dim=None)  # type: ignore[arg-type]
        self.linear = linear

    def forward(self, regions: Tensor) -> Tensor:
        """(N, R, region_dim) to (N, R, dim)."""
        regions = self.dropout(regions)
        projected: Tensor = self.linear(regions)
        if self.perceptron is not None:
            projected = projected + self.perceptron(regions)
        return projected
