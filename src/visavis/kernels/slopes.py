"""Gradients of the native kernel: of some pairs, or of groups of items with all others."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from visavis.kernels.cells import Pairs, chunks, pair_task
from visavis.kernels.rows import PackedRows, Rows
from visavis.kernels.sides import Plan, Tensors
from visavis.kernels.structures import Given, at, call

Own = tuple[Tensor | None, Tensor | None]  # by Gram matrices and by norms


class SideSums:
    """Gradients of one side, added up where they are wanted."""

    def __init__(self, tensors: Tensors, wanted: tuple[bool, ...]) -> None:
        self.vectors, self.gram, self.norm = (
            None if tensor is None or not each else torch.zeros(tensor.shape)
            for tensor, each in zip(tensors, wanted, strict=True)
        )

    def in_cells(self, cells: int, length: int, lanes: int) -> Own:
        """Zeros (cells, length, length, lanes) and (cells, length, lanes), where wanted."""
        gram = None if self.gram is None else torch.zeros(cells, length, length, lanes)
        return gram, None if self.norm is None else torch.zeros(cells, length, lanes)

    def add(self, item: Tensor, vectors: Tensor | None, own: Own) -> None:
        """Add those of items (P,), which may recur.

        Args:
            item: places in this side.
            vectors: (P or more, L, D).
            own: as `in_cells` makes them.
        """
        gram, norm = own
        if self.vectors is not None and vectors is not None:
            self.vectors[:, : vectors.shape[1]].index_add_(0, item, vectors[: len(item)])
        if self.gram is not None and gram is not None:
            each = gram.permute(0, 3, 1, 2).flatten(0, 1)[: len(item)]  # (P, L, L)
            self.gram[:, : each.shape[1], : each.shape[2]].index_add_(0, item, each)
        if self.norm is not None and norm is not None:
            each = norm.transpose(1, 2).flatten(0, 1)[: len(item)]  # (P, L)
            self.norm[:, : each.shape[1]].index_add_(0, item, each)


class Slopes:
    """Adds up gradients by the tensors of both sides."""

    def __init__(
        self,
        library: ctypes.CDLL,
        plan: Plan,
        sides: tuple[Tensors, Tensors],
        wanted: tuple[tuple[bool, ...], tuple[bool, ...]],
    ) -> None:
        self.library, self.plan = library, plan
        self._left_right = SideSums(sides[0], wanted[0]), SideSums(sides[1], wanted[1])
        self.sides = plan.in_lanes_first(*sides)
        self.lanes, self.rows = plan.in_lanes_first(*self._left_right)

    def found(self) -> list[Tensor | None]:
        """Gradients by vectors, Gram matrix and norm of the left side, then of the right."""
        return [each for side in self._left_right for each in (side.vectors, side.gram, side.norm)]

    def of_pairs(self, lane: Tensor, row: Tensor, slope: Tensor) -> None:
        """Add those of pairs (P,) of lane items and row items, from slopes by their scores."""
        for pairs in chunks(self.plan, self.sides, lane, row):
            self._of_chunk(pairs, slope[pairs.number])

    def _of_chunk(self, pairs: Pairs, slope: Tensor) -> None:
        count = len(pairs.number)
        given = torch.zeros(pairs.lane.item.shape)
        given[:count] = slope
        cells, rows, positions, lanes = pairs.affinity.shape
        by_affinity = torch.zeros_like(pairs.affinity)
        by_lanes = self.lanes.in_cells(cells, positions, lanes)
        by_rows = self.rows.in_cells(cells, rows, lanes)
        task = pair_task(self.plan, self.sides, pairs, given)
        self._call(task, by_affinity, by_lanes, by_rows)
        by_pair = by_affinity.permute(0, 3, 1, 2).flatten(0, 1)  # (pairs, row L, lane L)
        first = second = None
        if self.lanes.vectors is not None:
            first = by_pair.transpose(1, 2) @ pairs.row.vectors
        if self.rows.vectors is not None:
            second = by_pair @ pairs.lane.vectors
        self.lanes.add(pairs.lane.item[:count], first, by_lanes)
        self.rows.add(pairs.row.item[:count], second, by_rows)

    def of_groups(self, slope: Tensor) -> None:
        """Add those of all pairs, from slopes (lane items, row items) by their scores."""
        rows = PackedRows(self.plan, self.sides[1].vectors, wanted=self.rows.vectors is not None)
        for number in range(len(self.plan.groups)):
            self._of_group(number, rows, slope)
        if self.rows.vectors is not None:
            rows.put(self.rows.vectors)

    def _of_group(self, number: int, rows: PackedRows, slope: Tensor) -> None:
        item, length = self.plan.groups.item[number], self.plan.groups.length[number]
        item = item[item >= 0]  # those that are none come last
        positions, lanes = int(length.max()), self.plan.lanes
        columns = self._columns(item, length, positions)  # (positions * lanes, D)
        slopes = torch.zeros(lanes, slope.shape[1])
        slopes[: len(item)] = slope[item]
        by_columns = torch.zeros_like(columns)
        by_lanes = self.lanes.in_cells(1, positions, lanes)
        for part in rows.with_slope(slopes, len(columns)):
            affinity = part.vectors @ columns.T  # (rows, positions * lanes)
            by_affinity = torch.zeros_like(affinity)
            given = slopes[:, part.item].T.contiguous()  # (row items, lanes)
            task = self._group_task(number, part, affinity, given)
            self._call(task, by_affinity, by_lanes, (self.rows.gram, self.rows.norm))
            rows.add(part, by_affinity, columns)
            if self.lanes.vectors is not None:
                by_columns.addmm_(by_affinity.T, part.vectors)
        each = by_columns.reshape(positions, lanes, -1).transpose(0, 1)
        self.lanes.add(item, each, by_lanes)

    def _columns(self, item: Tensor, length: Tensor, positions: int) -> Tensor:
        """Vectors of a group of lanes as it is multiplied: by positions, then by lanes."""
        vectors = self.sides[0].vectors
        found = torch.zeros(positions, self.plan.lanes, vectors.shape[2])
        real = torch.arange(positions) < length[: len(item)].unsqueeze(1)
        chosen = self.plan.rounded(vectors[item, :positions]) * real.unsqueeze(2)
        found[:, : len(item)] = chosen.transpose(0, 1)
        return found.flatten(0, 1)

    def _group_task(self, number: int, part: Rows, affinity: Tensor, slope: Tensor) -> Given:
        groups = self.plan.groups
        return Given(
            lanes=self.sides[0].structure(),
            rows=self.sides[1].structure(),
            cells=len(part.item),
            positions=affinity.shape[1] // self.plan.lanes,
            most_rows=self.sides[1].vectors.shape[1],
            affinity=at(affinity),
            start=at(part.start, torch.int64),
            lane_item=at(groups.item[number], torch.int64),
            lane_length=at(groups.length[number], torch.int32),
            row_item=at(part.item, torch.int64),
            to_lanes=self.plan.ways[0],
            from_lanes=self.plan.ways[1],
            scores=at(slope),
            aligned=0,
            threads=torch.get_num_threads(),
        )

    def _call(self, task: Given, by_affinity: Tensor, by_lanes: Own, by_rows: Own) -> None:
        task.d_affinity = at(by_affinity)
        task.d_lane_gram, task.d_lane_norm = at(by_lanes[0]), at(by_lanes[1])
        task.d_row_gram, task.d_row_norm = at(by_rows[0]), at(by_rows[1])
        call(self.library.visavis_slopes, task)
