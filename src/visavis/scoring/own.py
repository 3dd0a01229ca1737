"""The pairs of the ground truth, found again in tiles, and the ranks of queries among tiles."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from visavis.errors import DataError
from visavis.metrics.ranks import NO_POSITIVE, unique_pairs

WINDOW = 2**20  # undecided scores that are kept; queries that have more are counted again
CELLS = 2**20  # scores that are looked through at once

_FIXED = ("low", "high", "count", "crowded")


class OwnPairs:
    """Pairs of an image and a sentence, each once, image after image.

    Raises:
        DataError: a pair outside of the shape.
    """

    def __init__(self, pairs: NDArray[np.int64], shape: tuple[int, int]) -> None:
        self.pairs = unique_pairs(pairs)  # (P, 2)
        if len(self.pairs) and ((self.pairs < 0).any() or (self.pairs >= np.array(shape)).any()):
            raise DataError(
                f"ground truth names image {self.pairs[:, 0].max()} and sentence "
                f"{self.pairs[:, 1].max()} of {shape[0]} and {shape[1]}; "
                "score the corpus that the pairs belong to"
            )
        self.shape = shape
        self._starts = np.searchsorted(self.pairs[:, 0], np.arange(shape[0] + 1))
        self._column = np.full(shape[1], -1, dtype=np.int64)

    def __len__(self) -> int:
        return len(self.pairs)

    def within(self, rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Pairs of a tile: which they are, and their rows and columns in it.

        Args:
            rows: (B,) which images.
            columns: (C,) which sentences.
        """
        images, sentences = rows.cpu().numpy(), columns.cpu().numpy()
        low = self._starts[images]
        counts = self._starts[images + 1] - low
        row = np.repeat(np.arange(len(images)), counts)
        first = np.cumsum(counts) - counts
        number = np.arange(len(row)) - first[row] + low[row]
        self._column[sentences] = np.arange(len(sentences))
        column = self._column[self.pairs[number, 1]]
        self._column[sentences] = -1
        inside = column >= 0
        found = (torch.from_numpy(part[inside]) for part in (number, row, column))
        numbers, row_of, column_of = (part.to(rows.device) for part in found)
        return numbers, row_of, column_of

    def best(self, scores: Tensor, side: int) -> Tensor:
        """The highest of the scores (P,) of each image (side 0) or sentence (side 1).

        +infinity, which nothing reaches, where there is no pair.
        """
        queries = torch.from_numpy(self.pairs[:, side]).to(scores.device)
        best = scores.new_full((self.shape[side],), -torch.inf)
        best = best.scatter_reduce(0, queries, scores, "amax")
        return best.masked_fill(best == -torch.inf, torch.inf)


class RankCounter:
    """Ranks of the queries of one direction, while tiles of wrong items pass by once.

    The rank is the number of wrong items that score at least as high as the best right one; but the
    score of that one, as a tile has it, may come late. An estimate is known from the start: what
    lies above it for certain is counted, what lies close to it is kept until the end. Where the
    estimate was too far off, or too much lay close to it, the query is named and must be counted
    again.
    """

    def __init__(self, estimate: Tensor, slack: float) -> None:
        """Estimates (Q,), +infinity where there is no right item; `slack` is relative above 1."""
        margin = slack * estimate.abs().clamp_min(1).nan_to_num(posinf=0.0)
        self.low, self.high = estimate - margin, estimate + margin
        self.count = torch.zeros(len(estimate), dtype=torch.int64, device=estimate.device)
        self.crowded = torch.zeros(len(estimate), dtype=torch.bool, device=estimate.device)
        # One piece of memory, used as far as needed: the system gives what is touched.
        self._queries = torch.empty(WINDOW, dtype=torch.int32, device=estimate.device)
        self._values = torch.empty(WINDOW, device=estimate.device)
        self._held = 0

    @property
    def queries(self) -> Tensor:
        """Whose the undecided scores are: (U,) int32."""
        return self._queries[: self._held]

    @property
    def values(self) -> Tensor:
        """The undecided scores: (U,)."""
        return self._values[: self._held]

    def see(self, queries: Tensor, values: Tensor) -> None:
        """Wrong items' scores (q, g) of some queries; -inf stands for what does not count."""
        low, high = self.low[queries, None], self.high[queries, None]
        sure = (values >= high).sum(dim=1, dtype=torch.int32)
        maybe = (values >= low).sum(dim=1, dtype=torch.int32)
        self.count[queries] += sure
        rows = ((maybe > sure) & ~self.crowded[queries]).nonzero()[:, 0]
        for part in torch.split(rows, max(1, CELLS // values.shape[1])):
            some = values[part]
            inside = (some >= low[part]) & (some < high[part])
            row, column = inside.nonzero(as_tuple=True)
            self._keep(queries[part][row], some[row, column])

    def _keep(self, queries: Tensor, values: Tensor) -> None:
        if self._held + len(queries) > WINDOW:  # there is no room: these are counted again
            self.crowded[self.queries.long()] = True
            self.crowded[queries] = True
            self._held = 0
            return
        span = slice(self._held, self._held + len(queries))
        self._queries[span], self._values[span] = queries.to(torch.int32), values
        self._held = span.stop

    def decided(self, best: Tensor) -> tuple[Tensor, Tensor]:
        """Ranks (Q,) for the best right items' scores (Q,), and which queries are undecided."""
        queries = self.queries.long()
        ranks = self.count + torch.bincount(
            queries[self.values >= best[queries]], minlength=len(best)
        )
        ranks[best == torch.inf] = NO_POSITIVE
        return ranks, self.crowded | (best < self.low) | (best > self.high)

    def state(self) -> dict[str, Tensor]:
        """Everything that later tiles change."""
        return {name: getattr(self, name) for name in (*_FIXED, "queries", "values")}

    @staticmethod
    def restored(state: dict[str, Tensor]) -> RankCounter:
        """One that goes on where `state` was taken."""
        found = RankCounter(state["low"], 0.0)
        for name in _FIXED:
            setattr(found, name, state[name])
        found._keep(state["queries"], state["values"])
        return found

    def to(self, device: torch.device | str) -> None:
        """Count on a device."""
        if self.low.device != torch.device(device):
            for name in (*_FIXED, "_queries", "_values"):
                setattr(self, name, getattr(self, name).to(device))
