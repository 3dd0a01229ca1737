"""Vectors of the side that is not in lanes, one below the other without padding."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from visavis.kernels.cells import BLOCK_BYTES
from visavis.kernels.sides import Plan


@dataclass(frozen=True, slots=True)
class Rows:
    """Vectors of some items."""

    item: Tensor  # (K,) places in their side, rising
    start: Tensor  # (K + 1,) first row of each
    place: Tensor | slice  # among all rows
    vectors: Tensor  # (rows, D)


class PackedRows:
    """All rows, and the gradients by them."""

    def __init__(self, plan: Plan, vectors: Tensor, *, wanted: bool) -> None:
        self.length = plan.row_length.long()
        real = torch.arange(vectors.shape[1]) < self.length.unsqueeze(1)
        self._real = real.flatten().nonzero(as_tuple=True)[0]
        self.vectors = plan.rounded(vectors.flatten(0, 1)[self._real])
        self.start = torch.cat([self.length.new_zeros(1), self.length.cumsum(0)])
        self._sums = torch.zeros_like(self.vectors) if wanted else None

    def with_slope(self, slopes: Tensor, columns: int) -> Iterator[Rows]:
        """Items with a slope (lanes, items) other than 0, in blocks that fit the budget."""
        item = slopes.any(dim=0).nonzero(as_tuple=True)[0]
        if not len(item):
            return
        budget = max(1, BLOCK_BYTES // 4 // columns)  # rows
        block = (self.length[item].cumsum(0) - 1) // budget
        sizes = block.bincount()
        for part in torch.split(item, sizes[sizes > 0].tolist()):
            yield self._rows(part)

    def _rows(self, item: Tensor) -> Rows:
        length = self.length[item]
        start = torch.cat([length.new_zeros(1), length.cumsum(0)])
        first, last = int(item[0]), int(item[-1]) + 1
        place: Tensor | slice = slice(int(self.start[first]), int(self.start[last]))
        if last - first > len(item):  # some between them are left out
            shift = (self.start[item] - start[:-1]).repeat_interleave(length)
            place = torch.arange(int(start[-1])) + shift
        return Rows(item, start, place, self.vectors[place])

    def add(self, rows: Rows, by_affinity: Tensor, columns: Tensor) -> None:
        """Add gradients by rows: those by affinities (rows, C) times columns (C, D)."""
        if self._sums is None:
            return
        if isinstance(rows.place, slice):
            self._sums[rows.place].addmm_(by_affinity, columns)
        else:
            self._sums[rows.place] += by_affinity @ columns

    def put(self, into: Tensor) -> None:
        """Write the gradients to where the vectors came from: (items, L, D)."""
        if self._sums is not None:
            into.flatten(0, 1)[self._real] = self._sums
