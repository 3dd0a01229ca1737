"""Upper bounds of scores, from quantities that cost less than the scores.

A model that has them lets `top_k(..., job=Job(prune=True))` leave out pairs that cannot be among
the best. Bounds must be sound: no score lies above its bound, but for rounding (`ROUNDING`).
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor

from visavis.types import Encoded, Scores

ROUNDING = 1e-5  # float32: a score may lie above its bound by so much, times the bound above 1


@runtime_checkable
class Bounded(Protocol):
    """A model that knows what scores cannot exceed."""

    def upper_bounds(self, images: Encoded, sentences: Encoded) -> Scores:
        """Bounds of every image with every sentence: (N, M), at least `score` of the same pairs.

        +infinity where nothing is known.
        """
        ...


def with_rounding(bounds: Tensor) -> Tensor:
    """Bounds that hold for scores as they are computed."""
    return bounds + ROUNDING * bounds.abs().clamp_min(1)
