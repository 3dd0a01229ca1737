"""Which published form belongs to which model, and what that code scores at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from benchmarks.published import attention, decoders, joint, message_passing, rank_terms, vectors

from visavis.types import Encoded, Scores


@dataclass(frozen=True, slots=True)
class Published:
    """A form, and images and sentences of one call."""

    score: Callable[[Any, Encoded, Encoded], Scores]
    images: int
    sentences: int


# Sentences of a call are fewer than published where they are scored one after the other anyway.
PUBLISHED = {
    "scan": Published(attention.score, 128, 32),
    "bfan": Published(attention.score, 128, 32),
    "camp": Published(message_passing.score, 5, 25),
    "mmca": Published(joint.score, 128, 8),
    "dcpa": Published(decoders.score, 128, 8),
    "mtfn": Published(rank_terms.score, 128, 128),
    "vse": Published(vectors.by_image, 1000, 5000),
    "vsrn": Published(vectors.by_image, 1000, 5000),
    "saem": Published(vectors.distances, 1000, 5000),
}
