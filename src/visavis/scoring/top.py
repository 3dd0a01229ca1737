"""Which items are best for each query, while scores come in tiles."""

from __future__ import annotations

import torch
from torch import Tensor

CELLS = 2**20  # scores that are merged at once: what stays in the processor's cache
SPARSE = 4  # fewer candidates than one in so many scores are gathered before they are merged


class RunningTop:
    """The best items of each query so far, best first; of equal scores the lower number first.

    What is kept depends on the scores alone, not on the order in which they come.
    """

    def __init__(self, queries: int, k: int, *, device: torch.device | str = "cpu") -> None:
        self.scores = torch.full((queries, k), -torch.inf, device=device)  # (Q, k)
        self.ids = torch.full((queries, k), -1, dtype=torch.int32, device=device)  # (Q, k)

    def to(self, device: torch.device | str) -> None:
        """Keep the lists on a device."""
        self.scores, self.ids = self.scores.to(device), self.ids.to(device)

    def see(self, queries: Tensor, values: Tensor, ids: Tensor) -> None:
        """Take in scores; no item is shown to a query twice.

        Args:
            queries: (q,) which queries.
            values: (q, g) float32 scores; -inf stands for none.
            ids: (g,) numbers of the items, or (q, g) where each query has its own.
        """
        if not self.scores.shape[1] or not values.numel():
            return
        # What does not reach the last place of a list is forgotten before anything is sorted.
        least = self.scores[queries, -1].clamp_min(torch.finfo(torch.float32).min)
        hits = values >= least[:, None]
        counts = hits.sum(dim=1, dtype=torch.int32)
        alive = counts.nonzero()[:, 0]
        if not len(alive):
            return
        width = int(counts.max())
        if SPARSE * width <= values.shape[1]:
            values, ids = _gathered(values, ids, hits, counts)
            queries, alive = queries[alive], torch.arange(len(alive), device=alive.device)
        ids = ids.to(torch.int32)
        for part in torch.split(alive, max(1, CELLS // values.shape[1])):
            own = ids if ids.dim() == 1 else ids[part]
            self._merge(queries[part], values[part], own.expand(len(part), values.shape[1]))

    def _merge(self, queries: Tensor, values: Tensor, ids: Tensor) -> None:
        """Values (q, g) of items (q, g), against the lists of q queries."""
        past, k = self.ids[queries], self.scores.shape[1]
        joined = torch.cat([self.scores[queries], values], dim=1)  # (q, k + g)
        best, places = joined.topk(k, dim=1)
        known = past.gather(1, places.clamp_max(k - 1))
        fresh = ids.gather(1, (places - k).clamp_min(0))
        best, numbers = _in_order(best, torch.where(places < k, known, fresh))
        # Which of several equal scores `topk` takes is left to chance where not all have room.
        last = best[:, -1:]
        crowded = (joined == last).sum(dim=1) > (best == last).sum(dim=1)
        rows = (crowded & (last[:, 0] > -torch.inf)).nonzero()[:, 0]
        if len(rows):
            hits = joined[rows] >= last[rows]
            every = torch.cat([past[rows], ids[rows]], dim=1)
            tied = _gathered(joined[rows], every, hits, hits.sum(dim=1, dtype=torch.int32))
            best[rows], numbers[rows] = (matrix[:, :k] for matrix in _in_order(*tied))
        self.scores[queries] = best
        self.ids[queries] = numbers.masked_fill(best == -torch.inf, -1)


def _in_order(scores: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Both (q, n), by falling score and rising number."""
    by_id = ids.argsort(dim=1)
    scores, ids = scores.gather(1, by_id), ids.gather(1, by_id)
    found = scores.sort(dim=1, descending=True, stable=True)
    return found.values, ids.gather(1, found.indices)


def _gathered(values: Tensor, ids: Tensor, hits: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """The hits alone, row by row to the left: (a, w) each, for rows that have one."""
    rows, columns = hits.nonzero(as_tuple=True)
    row_of = (counts > 0).cumsum(dim=0) - 1  # place of each row among those with hits
    starts = counts.cumsum(dim=0) - counts
    places = torch.arange(len(rows), device=rows.device) - starts[rows]
    shape = (int(row_of[-1]) + 1, int(counts.max()))
    packed = values.new_full(shape, -torch.inf)
    numbers = torch.full(shape, -1, dtype=torch.int32, device=values.device)
    packed[row_of[rows], places] = values[rows, columns]
    chosen = ids[columns] if ids.dim() == 1 else ids[rows, columns]
    numbers[row_of[rows], places] = chosen.to(torch.int32)
    return packed, numbers
