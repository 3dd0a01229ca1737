"""The Triton kernel: for graphics processors, with gradients; docs/kernels.md.

A program multiplies the vectors of one left item with those of a few right ones, keeps the
affinities on the chip and writes one score for each pair. Gradients multiply again, and are added
up by programs that own what they add to. `triton_tile` has the equations.
"""

from __future__ import annotations

import importlib.util
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from visavis.kernels.sides import Tensors, readied
from visavis.kernels.spec import Attention, Items, Vectors
from visavis.kernels.taken import empty, unknown
from visavis.kernels.triton_launch import ROWS, WORDS, Launch, Plan, interpreting, way

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
CAPABILITY = (8, 0)  # the least that multiplies bfloat16
SHARED = 2**17  # bytes on the chip that the largest tiles need


def missing() -> str:
    """Why this machine cannot run the kernel; empty where it can."""
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed; PyTorch for CUDA brings it"
    if not (interpreting() or torch.cuda.is_available()):
        return "there is no CUDA device"
    return ""


def refusal(attention: Attention) -> str:
    """Why a request is not taken; empty where it is."""
    sides = attention.left, attention.right
    for side, longest in zip(sides, (ROWS[-1], WORDS[-1]), strict=True):
        device = side.vectors.device
        if device.type != ("cpu" if interpreting() else "cuda"):
            return f"it runs on graphics processors with CUDA, not on {device.type}"
        if side.vectors.dtype not in DTYPES:
            return f"it takes no {str(side.vectors.dtype).removeprefix('torch.')}"
        if side.vectors.shape[1] > longest:
            return f"it takes items of up to {longest} vectors here, not of {side.vectors.shape[1]}"
        if device.type == "cuda" and (why_not := _device_lacks(device)):
            return why_not
    return unknown(attention) or empty(attention)


def _device_lacks(device: torch.device) -> str:
    if torch.version.hip:
        return "it is written for CUDA"
    capability = torch.cuda.get_device_capability(device)
    if capability < CAPABILITY:
        return f"it needs capability 8.0, not {capability[0]}.{capability[1]}"
    properties = torch.cuda.get_device_properties(device)
    if getattr(properties, "shared_memory_per_block_optin", SHARED) < SHARED:
        return "it needs 128 KiB of shared memory for a program"
    return ""


def attended_scores(attention: Attention) -> Tensor:
    """Every left item with every right one: (left items, right items)."""
    return _applied(attention, aligned=False)


def attended_pairs(attention: Attention) -> Tensor:
    """Row p of one side with row p of the other: (P,)."""
    return _applied(attention, aligned=True)


def _applied(attention: Attention, *, aligned: bool) -> Tensor:
    left_looks, right_looks = attention.left_looks, attention.right_looks
    left, left_length = readied(
        _single(attention.left), looks=left_looks is not None, looked_at=right_looks is not None
    )
    right, right_length = readied(
        _single(attention.right), looks=right_looks is not None, looked_at=left_looks is not None
    )
    plan = Plan(
        left_length=left_length,
        right_length=right_length,
        left_looks=way(left_looks),
        right_looks=way(right_looks),
        aligned=aligned,
        dtype=_multiplied_in(attention),
    )
    scores: Tensor = _Scores.apply(plan, *left, *right)  # type: ignore[no-untyped-call]
    return scores


def _single(side: Vectors) -> Items:
    """A side in float32; which numbers are multiplied is another matter."""
    return Items(side.vectors.float(), side.mask, side.gram)


def _multiplied_in(attention: Attention) -> torch.dtype:
    """What vectors are rounded to for their products: as autocast says, else their own type."""
    kinds = {side.vectors.dtype for side in (attention.left, attention.right)}
    device = attention.left.vectors.device.type
    if torch.is_autocast_enabled(device):
        return torch.get_autocast_dtype(device)
    return kinds.pop() if len(kinds) == 1 else torch.float32


class _Scores(Function):
    """Inputs are the plan, and vectors, Gram matrix and norms of either side."""

    @staticmethod
    def forward(ctx: Any, plan: Plan, *tensors: Tensor | None) -> Tensor:  # noqa: ANN401
        ctx.plan = plan
        ctx.save_for_backward(*tensors)
        return Launch(plan, *_sides(tensors)).scores()

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Any, ...]:  # noqa: ANN401
        if torch.is_grad_enabled():
            raise RuntimeError(
                "the Triton kernel has no second derivatives; score under "
                "visavis.kernels.choose.using('eager') for create_graph=True"
            )
        launch = Launch(ctx.plan, *_sides(ctx.saved_tensors))
        wanted = ctx.needs_input_grad[1:]
        found: list[Tensor | None] = []
        for of_rows, each in ((True, wanted[:3]), (False, wanted[3:])):
            found += launch.slopes(slope, each, of_rows=of_rows) if any(each) else [None] * 3
        return (None, *found)


def _sides(tensors: tuple[Tensor | None, ...]) -> tuple[Tensors, Tensors]:
    left, right = tensors[0], tensors[3]
    if left is None or right is None:
        raise ValueError("a side without vectors")
    return Tensors(left, *tensors[1:3]), Tensors(right, *tensors[4:])
