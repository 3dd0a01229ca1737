"""A bound of the mean of the K largest of R inner products, from a few inner products.

For x_r = v_r . c, with mean m and variance s^2 over the R vectors, the mean of the K largest is at
most m + s sqrt((R - K) / K). Proof: let S be the K largest, and t their mean minus m; then the mean
of the others is m - t K / (R - K), and the sum of squared deviations R s^2 is at least that of two
groups whose members are all alike, K t^2 + (R - K) (t K / (R - K))^2 = R t^2 K / (R - K). QED.

The variance is c' C c with C the covariance of the vectors. With its largest eigenvalues l_1 to l_q
and their axes u_j, and l the next one, c' C c <= sum_j (l_j - l) (u_j . c)^2 + l |c|^2.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from visavis.layers.products import at_least_float32

AXES = 2  # q: more make the bound tighter, and dearer by one inner product each
ROUNDING = 1e-5  # of the largest eigenvalue: how far the others and the axes may be off, and more


def spread(vectors: Tensor, mask: Tensor, k: int, axes: int = AXES) -> dict[str, Tensor]:
    """What `mean_of_best_bound` needs of N sets of vectors.

    Args:
        vectors: (N, R, D).
        mask: (N, R) bool, True where a vector is real; each set has one.
        k: how many of the largest the mean is of.
        axes: of the covariance.

    Returns:
        `middle` (N, D), the mean; `axes` (N, q, D), scaled by sqrt((l_j - l) (R - K) / K); `rest`
        (N,), l (R - K) / K.
    """
    with torch.autocast(vectors.device.type, enabled=False):
        real = mask.unsqueeze(2)
        vectors, count = at_least_float32(vectors) * real, mask.sum(dim=1)  # (N,)
        middle = vectors.sum(dim=1) / count[:, None]
        offsets = (vectors - middle[:, None]) * real
        # The R x R products have the eigenvalues of the D x D ones.
        values, turns = torch.linalg.eigh(offsets @ offsets.transpose(1, 2))  # rising, (N, R)
    kept = min(axes, values.shape[1])
    largest = values[:, values.shape[1] - kept :]  # (N, q)
    rest = values[:, -kept - 1] if kept < values.shape[1] else torch.zeros_like(values[:, 0])
    rest = rest.clamp_min(0) + ROUNDING * values[:, -1]
    directions = offsets.transpose(1, 2) @ turns[:, :, -kept:]  # (N, D, q), of length sqrt(l_j)
    share = (1 - rest[:, None] / largest.clamp_min(1e-12)).clamp_min(0).sqrt()  # (N, q)
    factor = ((count - k).clamp_min(0) / k / count).sqrt()  # the eigenvalues are not divided by R
    scaled = directions.transpose(1, 2) * (share * factor[:, None]).unsqueeze(2)
    return {"middle": middle, "axes": scaled, "rest": rest * factor.square()}


def mean_of_best_bound(sets: Mapping[str, Tensor], vectors: Tensor) -> Tensor:
    """Bounds for every set with every vector: (N, M).

    Args:
        sets: what `spread` made of N sets.
        vectors: (M, D).
    """
    middle, axes, rest = sets["middle"], sets["axes"], sets["rest"]
    along = axes.flatten(0, 1) @ vectors.T  # (N q, M)
    square = along.square().view(*axes.shape[:2], -1).sum(dim=1)  # (N, M)
    square = square + rest[:, None] * vectors.square().sum(dim=1)
    return middle @ vectors.T + square.sqrt()
