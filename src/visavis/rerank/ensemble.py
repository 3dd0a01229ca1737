"""The mean of the scores of several models (MTFN-RR's Table 4; SCAN's t-i + i-t).

Published code takes the plain mean. Models whose scores have different scales do not count alike in
it, so each matrix can be brought to a common scale first. One matrix is alive at a time beside the
mean.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from visavis.errors import DataError
from visavis.rerank.matrices import copied, new_matrix, stripes
from visavis.types import Scores

Normalisation = Literal["none", "min_max", "z", "rank"]
NORMALISATIONS: tuple[str, ...] = get_args(Normalisation)


@dataclass(frozen=True, slots=True)
class _Scale:
    """What takes a matrix to its scale."""

    centre: float
    factor: float

    def of(self, scores: Tensor) -> Tensor:
        """The scores on it."""
        return (scores - self.centre) * self.factor


def mean_scores(
    parts: Iterable[Scores],
    *,
    weights: Sequence[float] | None = None,
    normalise: Normalisation = "none",
    folder: Path | None = None,
) -> Scores:
    """The weighted mean of any number of score matrices (N, M), as float32 on the CPU.

    It has one matrix for both directions as long as every part has; with a part that scores them
    differently, and with `rank`, it has two.

    Args:
        parts: the scores of each model; a generator is asked for the next when one is done with.
        weights: one for each part, brought to sum 1; all alike when left out.
        normalise: each matrix by itself. `min_max`: lowest 0, highest 1. `z`: mean 0, deviation 1.
            `rank`: place in the list of its query, best 1, last 0, equal scores the mean place.
        folder: where a large mean is kept as a file.

    Raises:
        DataError: no part, unlike shapes, NaN or infinity, a wrong number of weights or weights
            below 0, scores that are all equal where a scale is wanted.

    >>> one, two = torch.tensor([[0.0, 1.0]]), torch.tensor([[4.0, 1.0]])
    >>> mean_scores([Scores.shared(one), Scores.shared(two)]).i2t.tolist()
    [[2.0, 1.0]]
    """
    if normalise not in NORMALISATIONS:
        raise DataError(f"normalisation {normalise!r}; known: {', '.join(NORMALISATIONS)}")
    if weights is not None:
        check_weights(weights)
    mean: Scores | None = None
    count = 0
    for part in parts:
        mean = _added(mean, part, _weight(weights, count), normalise, folder)
        count += 1
        del part  # or it would live on while the next one is made
    if mean is None:
        raise DataError("no scores to average; give at least one matrix")
    if weights is not None and count < len(weights):
        raise DataError(f"{len(weights)} weights for {count} score matrices; give one for each")
    total = count if weights is None else sum(weights)
    for matrix in (mean.i2t, mean.t2i) if mean.decoupled else (mean.i2t,):
        matrix /= total
    return mean


def _weight(weights: Sequence[float] | None, place: int) -> float:
    if weights is None:
        return 1.0
    if place >= len(weights):
        raise DataError(f"{len(weights)} weights for more score matrices; give one for each")
    return weights[place]


def check_weights(weights: Sequence[float]) -> None:
    """Refuse weights that no mean can be made with.

    Raises:
        DataError: one below 0, infinite or NaN, or none above 0.
    """
    usable = all(math.isfinite(weight) and weight >= 0 for weight in weights)
    if not usable or sum(weights) <= 0:
        shown = ", ".join(f"{weight:g}" for weight in weights)
        raise DataError(f"weights {shown}; expected numbers from 0 on, one of them above it")


def _added(
    mean: Scores | None, part: Scores, weight: float, normalise: str, folder: Path | None
) -> Scores:
    shape = part.matrix_shape()
    if mean is None:
        empty = new_matrix(shape, folder, "mean_i2t").zero_()
        mean = Scores.shared(empty)
    elif tuple(mean.i2t.shape) != shape:
        raise DataError(
            f"scores of shapes {tuple(mean.i2t.shape)} and {shape}; models are averaged on the "
            "same images and sentences"
        )
    if not mean.decoupled and (part.decoupled or normalise == "rank"):
        mean = Scores(mean.i2t, copied(mean.t2i, folder, "mean_t2i"))
    _add(mean.i2t, part.i2t, weight, normalise)
    if mean.decoupled:
        _add(mean.t2i.T, part.t2i.T, weight, normalise)
    return mean


def _add(mean: Tensor, matrix: Tensor, weight: float, normalise: str) -> None:
    """Add to a mean whose rows are queries, in place, a few rows at a time."""
    scale = _scale(matrix, normalise)
    for rows, stored in stripes(matrix, "scores"):
        stripe = stored.to(mean.device, torch.float64)
        scaled = _places(stripe) if normalise == "rank" else scale.of(stripe)
        mean[rows] += (weight * scaled).float()


def _scale(matrix: Tensor, normalise: str) -> _Scale:
    if normalise == "min_max":
        ends = [part.aminmax() for part in _parts(matrix)]
        low = min(float(part.min) for part in ends)
        return _Scale(low, 1.0 / _spread(max(float(part.max) for part in ends) - low))
    if normalise == "z":
        mean = math.fsum(float(part.sum()) for part in _parts(matrix)) / matrix.numel()
        squares = (float((part - mean).square().sum()) for part in _parts(matrix))
        return _Scale(mean, 1.0 / _spread(math.sqrt(math.fsum(squares) / matrix.numel())))
    return _Scale(0.0, 1.0)


def _parts(matrix: Tensor) -> Iterator[Tensor]:
    return (stripe.double() for _, stripe in stripes(matrix, "scores"))


def _spread(spread: float) -> float:
    if spread <= 0:
        raise DataError("scores are all equal; they have no scale to be brought to: use none")
    return spread


def _places(stripe: Tensor) -> Tensor:
    """The share of the other items of its row that each score beats, halves for equals."""
    from scipy.stats import rankdata

    if stripe.shape[1] == 1:
        return torch.ones_like(stripe)
    ranks: np.ndarray[tuple[int, ...], np.dtype[np.float64]] = rankdata(stripe.numpy(), axis=1)
    return torch.from_numpy((ranks - 1.0) / (stripe.shape[1] - 1.0))
