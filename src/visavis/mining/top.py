"""Which rows are best for each column, while rows come in stripes."""

from __future__ import annotations

import torch
from torch import Tensor

COLUMNS_AT_ONCE = 8192  # a few megabytes: what is merged stays in the processor's cache


class RunningTop:
    """The best rows of each column so far, best first."""

    def __init__(self, columns: int, k: int, *, device: torch.device | str = "cpu") -> None:
        self.scores = torch.full((columns, k), -torch.inf, device=device)  # (C, k)
        self.rows = torch.full((columns, k), -1, dtype=torch.int32, device=device)  # (C, k)

    def see(self, stripe: Tensor, first: int) -> None:
        """Take in the scores (B, C) of rows `first` on; -inf stands for none.

        Only the best k of stripe and past are kept, so the order of stripes decides nothing but
        which of two equal scores stands first.
        """
        count, k = len(stripe), self.scores.shape[1]
        rows = torch.arange(first, first + count, dtype=torch.int32, device=stripe.device)
        for start in range(0, len(self.scores), COLUMNS_AT_ONCE):
            part = slice(start, start + COLUMNS_AT_ONCE)
            past = self.scores[part]
            joined = torch.cat([past, stripe[:, part].T], dim=1)  # (c, k + B)
            best, places = joined.topk(k, dim=1)
            numbers = torch.cat([self.rows[part], rows.expand(len(past), count)], dim=1)
            found = numbers.gather(1, places)
            self.scores[part] = best
            self.rows[part] = found.masked_fill(best == -torch.inf, -1)


def best_columns(stripe: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Scores and columns of the best k of each row, best first: (B, k) each.

    Where a row has fewer than k scores above -inf, the rest is -inf and -1.
    """
    k_here = min(k, stripe.shape[1])
    scores, columns = stripe.topk(k_here, dim=1)
    columns = columns.to(torch.int32).masked_fill(scores == -torch.inf, -1)
    if k_here < k:
        missing = (len(stripe), k - k_here)
        scores = torch.cat([scores, scores.new_full(missing, -torch.inf)], dim=1)
        columns = torch.cat([columns, columns.new_full(missing, -1)], dim=1)
    return scores, columns
