"""Whether the best picture fits, or is only the best of those that do not.

Scores of different sentences do not compare: some models add up over words. So a query is set
against itself. How far does its best picture stand out from pictures taken at random, in standard
deviations of their scores? The same number, for sentences whose own pictures were left out, says
how far the best of pictures that do not belong stands out.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from visavis.search.manifest import Calibration

REFERENCE = 32  # pictures taken at random
QUANTILES = (5, 10, 25, 50, 75, 90, 95)
LEVEL = 10  # percent of sentences without their pictures that are called unmatched


def reference_places(count: int) -> NDArray[np.int64]:
    """The same pictures for every query. They stand in the order of hashes, so evenly is random."""
    return np.unique(np.linspace(0, count - 1, min(REFERENCE, count)).astype(np.int64))


def standing_out(best: float, reference: Tensor) -> float:
    """How far a score is above others, in their standard deviations.

    >>> standing_out(3.0, torch.tensor([0.0, 2.0]))
    2.0
    """
    spread = float(reference.std(correction=0))
    return (best - float(reference.mean())) / max(spread, 1e-6)


def quantiles_of(distances: NDArray[np.float64]) -> tuple[float, ...]:
    """As the manifest keeps them."""
    return tuple(round(float(value), 4) for value in np.percentile(distances, QUANTILES))


def matches_well(best: float, reference: Tensor, calibration: Calibration) -> bool:
    """Whether a picture stands out more than the weakest of those that do not belong."""
    threshold = calibration.quantiles[QUANTILES.index(LEVEL)]
    return standing_out(best, reference) >= threshold
