"""Aligned pairs as cells of the native kernel; PyTorch multiplies their vectors.

A cell holds affinities (row tokens, lane tokens, lanes) of as many pairs as there are lanes.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from visavis.kernels.sides import Plan, Tensors
from visavis.kernels.structures import Given, at, call

BLOCK_BYTES = 2**24  # affinities, or vectors of pairs, that are multiplied at a time


@dataclass(frozen=True, slots=True)
class PairSide:
    """One side of some pairs; the last cell is filled up with what is none."""

    item: Tensor  # (cells * lanes,) int64, -1 where there is none
    length: Tensor  # (cells * lanes,) int32, 1 where there is none
    vectors: Tensor  # (cells * lanes, L, D), 0 where there is none


@dataclass(frozen=True, slots=True)
class Pairs:
    """Some aligned pairs."""

    number: Tensor  # (P,) which of all pairs they are
    lane: PairSide
    row: PairSide
    affinity: Tensor  # (cells, row L, lane L, lanes)
    start: Tensor  # (cells + 1,) first row of each cell


def pair_scores(library: ctypes.CDLL, plan: Plan, left: Tensors, right: Tensors) -> Tensor:
    """Scores of aligned items: (P,)."""
    lanes, rows = plan.in_lanes_first(left, right)
    scores = left.vectors.new_empty(len(left.vectors))
    every = torch.arange(len(scores))
    for pairs in chunks(plan, (lanes, rows), every, every):
        found = torch.empty(pairs.lane.item.shape)
        call(library.visavis_cells, pair_task(plan, (lanes, rows), pairs, found))
        scores[pairs.number] = found[: len(pairs.number)]
    return scores


def chunks(
    plan: Plan, sides: tuple[Tensors, Tensors], lane: Tensor, row: Tensor
) -> Iterator[Pairs]:
    """Pairs of lane items with row items, those of like lengths together, within the budget."""
    if not len(lane):
        return
    order = (plan.lane_length[lane].long() * 2**32 + plan.row_length[row]).argsort()
    lanes, rows = sides
    positions, width = lanes.vectors.shape[1:]
    longest = rows.vectors.shape[1]
    each = 4 * ((positions + longest) * width + 3 * positions * longest)
    size = max(1, BLOCK_BYTES // each // plan.lanes) * plan.lanes
    for part in torch.split(order, size):
        first = _pair_side(plan, lanes.vectors, plan.lane_length, lane[part])
        second = _pair_side(plan, rows.vectors, plan.row_length, row[part])
        affinity = second.vectors @ first.vectors.transpose(1, 2)  # (pairs, row L, lane L)
        cells = (
            affinity.reshape(-1, plan.lanes, *affinity.shape[1:]).permute(0, 2, 3, 1).contiguous()
        )
        start = torch.arange(len(cells) + 1) * cells.shape[1]
        yield Pairs(part, first, second, cells, start)


def _pair_side(plan: Plan, vectors: Tensor, lengths: Tensor, item: Tensor) -> PairSide:
    beyond = -len(item) % plan.lanes
    length = lengths[item]
    longest = int(length.max())
    real = torch.arange(longest) < length.unsqueeze(1)
    chosen = plan.rounded(vectors[item, :longest]) * real.unsqueeze(2)
    return PairSide(
        functional.pad(item, (0, beyond), value=-1),
        functional.pad(length, (0, beyond), value=1),
        functional.pad(chosen, (0, 0, 0, 0, 0, beyond)),
    )


def pair_task(plan: Plan, sides: tuple[Tensors, Tensors], pairs: Pairs, scores: Tensor) -> Given:
    """The cells of some pairs; `scores` are (cells * lanes,). It asks for no gradients yet."""
    cells, rows, positions, _ = pairs.affinity.shape
    return Given(
        lanes=sides[0].structure(),
        rows=sides[1].structure(),
        cells=cells,
        positions=positions,
        most_rows=rows,
        affinity=at(pairs.affinity),
        start=at(pairs.start, torch.int64),
        lane_item=at(pairs.lane.item, torch.int64),
        lane_length=at(pairs.lane.length, torch.int32),
        row_item=at(pairs.row.item, torch.int64),
        row_length=at(pairs.row.length, torch.int32),
        to_lanes=plan.ways[0],
        from_lanes=plan.ways[1],
        scores=at(scores),
        aligned=1,
        threads=torch.get_num_threads(),
    )
