"""What the fused kernels take: both write out the same equations."""

from __future__ import annotations

from visavis.kernels.spec import AttendSpec, Attention
from visavis.kernels.structures import AGGREGATIONS, FOCALS

NORM = "clipped_l2norm"


def unknown(attention: Attention) -> str:
    """What of a request's equations no fused kernel has; empty where they have all of it."""
    return next(filter(None, map(_unknown, attention.specs)), "")


def empty(attention: Attention) -> str:
    """Whether a side has an item without a single real vector, in words."""
    for side in (attention.left, attention.right):
        if not side.vectors.numel() or not bool(side.mask.any(dim=1).all()):
            return "there is nothing to look at"
    return ""


def _unknown(spec: AttendSpec) -> str:
    if spec.norm != NORM:
        return f"it has {NORM}, not {spec.norm}"
    if spec.focal not in FOCALS or spec.aggregation not in AGGREGATIONS:
        return f"it has no {spec.focal} with {spec.aggregation}"
    if spec.aggregation == "LogSumExp" and not spec.lambda_lse > 0:
        return f"its LogSumExp needs lambda_lse above 0, not {spec.lambda_lse}"
    return ""
