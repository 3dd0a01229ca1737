"""What scoring took, for the files of results."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from visavis.kernels.choose import noting
from visavis.scoring.matrix import BLOCK, Block
from visavis.scoring.precision import Precision

NO_KERNEL = "none"  # where no cross attention was computed


@dataclass(frozen=True, kw_only=True)
class Scoring:
    """How figures were computed, and how long it took."""

    seconds_encode: float  # of both sides, reading vectors included
    seconds_score: float  # of all pairs, lists and ranks included
    pairs: int
    precision: Precision
    kernel: str  # the forms of cross attention that ran; none: no scores needed any
    threads: int
    budget_bytes: int  # temporaries of a block
    memory_bytes: int  # of streaming


class Meter:
    """Adds up what several folds took."""

    def __init__(self, block: Block = BLOCK) -> None:
        self.block = block
        self.kernels: set[str] = set()
        self.encode = self.score = 0.0
        self.pairs = 0

    @contextmanager
    def encoding(self) -> Iterator[None]:
        """Count the time of a block as encoding."""
        start = time.perf_counter()
        yield
        self.encode += time.perf_counter() - start

    @contextmanager
    def scoring(self, pairs: int) -> Iterator[None]:
        """Count the time of a block as scoring of so many pairs."""
        start, before = time.perf_counter(), self.encode
        with noting() as ran:
            yield
        self.kernels |= ran
        # Sides that are encoded when they are needed count as encoding.
        self.score += time.perf_counter() - start - (self.encode - before)
        self.pairs += pairs


def total(meters: Sequence[Meter]) -> Scoring | None:
    """What several models took together; None of none."""
    if not meters:
        return None
    kernels = sorted(set().union(*(meter.kernels for meter in meters)))
    return Scoring(
        seconds_encode=round(sum(meter.encode for meter in meters), 3),
        seconds_score=round(sum(meter.score for meter in meters), 3),
        pairs=sum(meter.pairs for meter in meters),
        precision=meters[0].block.precision,
        kernel=", ".join(kernels) or NO_KERNEL,
        threads=torch.get_num_threads(),
        budget_bytes=meters[0].block.temporaries,
        memory_bytes=meters[0].block.memory_bytes,
    )
