"""The native kernel as differentiable functions of vectors, Gram matrices and norms.

Backward, affinities are products of vectors again. When few scores have a slope, as with hardest
negatives, those pairs alone are computed; otherwise groups of items, each with all that have a
slope with one of them.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from visavis.kernels.cells import pair_scores
from visavis.kernels.sides import Plan, Tensors
from visavis.kernels.slopes import Slopes
from visavis.kernels.structures import All, at, call

FEW = 0.2  # a smaller share of pairs with a slope is taken pair by pair


class EveryPair(Function):
    """Scores of every left item with every right one: (left items, right items).

    Inputs are the library, the plan, and vectors, Gram matrix and norms of either side.
    """

    @staticmethod
    def forward(ctx: Any, library: ctypes.CDLL, plan: Plan, *tensors: Tensor | None) -> Tensor:  # noqa: ANN401, D102
        ctx.library, ctx.plan = library, plan
        ctx.save_for_backward(*tensors)
        left, right = _side(tensors[:3]), _side(tensors[3:])
        scores = torch.empty(len(left.vectors), len(right.vectors))
        by_lane = plan.by_lane(scores)
        lanes, items = plan.in_lanes_first(left, right)
        task = All(
            lanes=lanes.structure(),
            items=items.structure(),
            width=lanes.vectors.shape[2],
            groups=len(plan.groups),
            count=len(plan.row_length),
            lane_item=at(plan.groups.item, torch.int64),
            lane_length=at(plan.groups.length, torch.int32),
            item_length=at(plan.row_length, torch.int32),
            to_lanes=plan.ways[0],
            from_lanes=plan.ways[1],
            scores=at(scores),
            lane_step=by_lane.stride(0),
            item_step=by_lane.stride(1),
            bfloat16=plan.bfloat16,
            threads=torch.get_num_threads(),
        )
        call(library.visavis_scores, task)
        return scores

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Any, ...]:  # noqa: ANN401, D102
        work = _begun(ctx)
        by_lane = ctx.plan.by_lane(slope)
        active = by_lane != 0
        with torch.autocast("cpu", enabled=False):
            if active.float().mean() < FEW:
                lane, row = active.nonzero(as_tuple=True)
                work.of_pairs(lane, row, by_lane[lane, row])
            else:
                work.of_groups(by_lane)
        return (None, None, *work.found())


class AlignedPairs(Function):
    """Scores of row p of one side with row p of the other: (P,). Inputs as of `EveryPair`."""

    @staticmethod
    def forward(ctx: Any, library: ctypes.CDLL, plan: Plan, *tensors: Tensor | None) -> Tensor:  # noqa: ANN401, D102
        ctx.library, ctx.plan = library, plan
        ctx.save_for_backward(*tensors)
        return pair_scores(library, plan, _side(tensors[:3]), _side(tensors[3:]))

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Any, ...]:  # noqa: ANN401, D102
        work = _begun(ctx)
        active = slope.nonzero(as_tuple=True)[0]
        with torch.autocast("cpu", enabled=False):
            work.of_pairs(active, active, slope[active])
        return (None, None, *work.found())


def _side(tensors: Sequence[Tensor | None]) -> Tensors:
    vectors, gram, norm = tensors
    if vectors is None:
        raise ValueError("a side without vectors")
    return Tensors(vectors, gram, norm)


def _begun(ctx: Any) -> Slopes:  # noqa: ANN401
    if torch.is_grad_enabled():
        raise RuntimeError(
            "the native kernel has no second derivatives; score under "
            "visavis.kernels.choose.using('eager') for create_graph=True"
        )
    tensors, wanted = ctx.saved_tensors, ctx.needs_input_grad[2:]
    sides = _side(tensors[:3]), _side(tensors[3:])
    return Slopes(ctx.library, ctx.plan, sides, (wanted[:3], wanted[3:]))
