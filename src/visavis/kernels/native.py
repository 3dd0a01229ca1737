"""The native kernel: C++ for the processor, with gradients.

It scores blocks of affinities while they lie in the cache, several items at once in the lanes of
vector registers, and keeps none of them: docs/kernels.md. Gradients recompute affinities, of the
pairs alone whose scores have one.
"""

from __future__ import annotations

import ctypes
from functools import cache

import torch
from torch import Tensor

from visavis.errors import VisavisError
from visavis.kernels.build import load_library
from visavis.kernels.gradients import AlignedPairs, EveryPair
from visavis.kernels.sides import Plan, Tensors, planned, readied
from visavis.kernels.spec import Attention
from visavis.kernels.taken import empty, unknown


def missing() -> str:
    """Why this machine cannot run the kernel; empty where it can. Builds it at the first call."""
    return _loaded()[1]


def refusal(attention: Attention) -> str:
    """Why a request is not taken; empty where it is."""
    left, right = attention.left, attention.right
    for side in (left, right):
        if side.vectors.device.type != "cpu":
            return f"it runs on the processor, not on {side.vectors.device.type}"
        if side.vectors.dtype != torch.float32:
            return f"it takes float32, not {str(side.vectors.dtype).removeprefix('torch.')}"
    return empty(attention) or unknown(attention)


def attended_scores(attention: Attention) -> Tensor:
    """Every left item with every right one: (left items, right items)."""
    return _applied(EveryPair, attention)


def attended_pairs(attention: Attention) -> Tensor:
    """Row p of one side with row p of the other: (P,)."""
    return _applied(AlignedPairs, attention)


def _applied(function: type[EveryPair | AlignedPairs], attention: Attention) -> Tensor:
    plan, left, right = _prepared(attention)
    with torch.autocast("cpu", enabled=False):  # the plan has what it is to change
        scores: Tensor = function.apply(library(), plan, *left, *right)  # type: ignore[no-untyped-call]
    return scores


def library() -> ctypes.CDLL:
    """The library; only where `missing` says nothing."""
    found, why_not = _loaded()
    if found is None:
        raise RuntimeError(f"the native kernel cannot be had: {why_not}")
    return found


def _prepared(attention: Attention) -> tuple[Plan, Tensors, Tensors]:
    left_looks = attention.left_looks is not None
    right_looks = attention.right_looks is not None
    left, left_length = readied(attention.left, looks=left_looks, looked_at=right_looks)
    right, right_length = readied(attention.right, looks=right_looks, looked_at=left_looks)
    lanes = int(library().visavis_lanes())
    return planned(attention, left_length, right_length, lanes), left, right


@cache
def _loaded() -> tuple[ctypes.CDLL | None, str]:
    try:
        return load_library(), ""
    except (VisavisError, OSError) as error:
        return None, str(error)
