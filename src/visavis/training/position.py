"""Where a training run stands, and how it ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(slots=True)
class Position:
    """Where a run stands: everything that is not a tensor."""

    epoch: int = 0
    batch: int = 0  # batches of this epoch that are done
    step: int = 0  # optimiser steps in all
    best_rsum: float = -1.0
    best_epoch: int = -1
    stale: int = 0  # validations since the best one
    sums: dict[str, float] = field(default_factory=dict)  # of losses since the log's last line
    count: int = 0  # batches that they are sums of
    collapsed: bool = False

    def add(self, losses: Mapping[str, float]) -> None:
        """Take in the losses of a batch."""
        for name, value in losses.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        self.count += 1

    def means(self) -> dict[str, float]:
        """Mean losses since this was asked last; the sum's first, its terms when there are some."""
        found = {name: value / self.count for name, value in self.sums.items()}
        self.sums, self.count = {}, 0
        return found if len(found) > 2 else {"loss": found["loss"]}


@dataclass(frozen=True, slots=True)
class Result:
    """How a run ended."""

    best_rsum: float
    best_epoch: int
    epochs: int
    steps: int
    stopped_early: bool
    collapsed: bool
