"""Region vectors into the joint space."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm


@dataclass(frozen=True, kw_only=True)
class RegionSettings:
    """What the settings of a model say of its regions; those of each model begin with these."""

    region_dim: int  # width of the region vectors
    dim: int  # and what they are mapped to
    region_dropout: float = 0.0
    standardise_regions: bool = False  # centre and scale the columns, fitted on training images

    def __post_init__(self) -> None:
        if not 0 <= self.region_dropout < 1:
            raise ValueError(f"region_dropout must be in [0, 1), got {self.region_dropout}")


class RegionProjection(nn.Module):
    """One linear map, Xavier-uniform with zero bias (Lee et al. 2018).

    With `weight_normalised`, the weight is a direction times one scalar for the whole matrix, as in
    the published code. With `hidden` units, a two-layer perceptron is added to the linear map, as
    Chen et al. 2021 (VSE-infinity) do: pooled vectors can then count kinds of regions.

    With `standardised`, columns are centred and scaled by constants that are fitted on training
    images and stored with the weights. Vectors straight from a rectified feature map are all alike
    in direction: without it, hardest negatives collapse on them.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(
        self,
        region_dim: int,
        dim: int,
        *,
        weight_normalised: bool = False,
        dropout: float = 0.0,
        hidden: int = 0,
        standardised: bool = False,
    ) -> None:
        super().__init__()
        self.standardised = standardised
        if standardised:
            self.register_buffer("mean", torch.zeros(region_dim))
            self.register_buffer("deviation", torch.ones(region_dim))
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

    @classmethod
    def of(
        cls, settings: RegionSettings, *, weight_normalised: bool = False, hidden: int = 0
    ) -> Self:
        """The map that a model's settings ask for."""
        return cls(
            settings.region_dim,
            settings.dim,
            weight_normalised=weight_normalised,
            dropout=settings.region_dropout,
            hidden=hidden,
            standardised=settings.standardise_regions,
        )

    def standardise(self, mean: Tensor, deviation: Tensor) -> None:
        """Fix what is taken from each column and what it is divided by: (region_dim,) each."""
        self.mean.copy_(mean)
        self.deviation.copy_(deviation.clamp_min(1e-6))

    def forward(self, regions: Tensor) -> Tensor:
        """(N, R, region_dim) to (N, R, dim)."""
        if self.standardised:
            regions = (regions - self.mean) / self.deviation
        regions = self.dropout(regions)
        projected: Tensor = self.linear(regions)
        if self.perceptron is not None:
            projected = projected + self.perceptron(regions)
        return projected
