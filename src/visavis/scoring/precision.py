"""Scoring in bfloat16: matrix products on half the bits, scores as float32, and what it changes."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from visavis.metrics.ranks import ranks
from visavis.metrics.recall import recall_metrics
from visavis.types import Scores

Precision = Literal["fp32", "bf16"]
PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16")
ROWS_AT_ONCE = 256


def at_precision(
    precision: Precision, device: torch.device | str
) -> AbstractContextManager[object]:
    """What scoring happens in: nothing for fp32, autocast of the device for bf16.

    Under autocast what goes into a matrix product is rounded to bfloat16, and so is the result; the
    sums are made in float32. What must not lose its bits a model computes in float32 itself.
    """
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(torch.device(device).type, dtype=torch.bfloat16)


@dataclass(frozen=True, kw_only=True)
class RankChanges:
    """What other scores change for those who search with them: shares are of all queries."""

    max_error: float  # the farthest a score lies from the exact one
    i2t_top1: float  # share of images whose best sentence is another one
    i2t_top10: float  # share of images of whose best ten sentences one or more are others
    t2i_top1: float
    t2i_top10: float
    recall: dict[str, float]  # of every recall and their sum: how much higher it is; {} unasked


def rank_changes(
    exact: Scores, fast: Scores, pairs: NDArray[np.int64] | None = None
) -> RankChanges:
    """Compare fast scores with exact ones.

    Args:
        exact: (N, M) for both directions.
        fast: the same pairs.
        pairs: (P, 2) image index, sentence index of the ground truth, for changes of recall.

    >>> exact = Scores.shared(torch.tensor([[0.9, 0.2], [0.1, 0.5]]))
    >>> fast = Scores.shared(torch.tensor([[0.9, 0.2], [0.6, 0.5]]))
    >>> rank_changes(exact, fast).i2t_top1
    0.5
    """
    errors = [
        _largest_difference(one, other)
        for one, other in ((exact.i2t, fast.i2t), (exact.t2i, fast.t2i))
    ]
    shares = {}
    for name, one, other in (("i2t", exact.i2t, fast.i2t), ("t2i", exact.t2i.T, fast.t2i.T)):
        shares[f"{name}_top1"] = changed_share(one, other, 1)
        shares[f"{name}_top10"] = changed_share(one, other, 10)
    recall = {}
    if pairs is not None:
        before, after = (recall_metrics(ranks(scores, pairs)) for scores in (exact, fast))
        names = [key for key in before if "_r" in key or key == "rsum"]
        recall = {key: after[key] - before[key] for key in names}
    return RankChanges(max_error=max(errors), recall=recall, **shares)


def changed_share(exact: Tensor, fast: Tensor, k: int) -> float:
    """Share of rows of two (Q, G) matrices whose k best columns are not the same set.

    Of equal scores the first columns count, as everywhere in the engine.
    """
    k = min(k, exact.shape[1])
    changed = 0
    for start in range(0, len(exact), ROWS_AT_ONCE):
        both = [
            matrix[start : start + ROWS_AT_ONCE].sort(dim=1, descending=True, stable=True)
            for matrix in (exact, fast)
        ]
        best = [found.indices[:, :k].sort(dim=1).values for found in both]
        changed += int((best[0] != best[1]).any(dim=1).sum())
    return changed / max(1, len(exact))


def _largest_difference(one: Tensor, other: Tensor) -> float:
    parts = zip(*(torch.split(each, ROWS_AT_ONCE) for each in (one, other)), strict=True)
    return max((float((a - b).abs().max()) for a, b in parts if a.numel()), default=0.0)
