"""The structures of `task.h`, field by field, and pointers into tensors."""

from __future__ import annotations

from collections.abc import Callable
from ctypes import Structure, byref, c_float, c_int32, c_int64, c_void_p

import torch
from torch import Tensor

from visavis.kernels.spec import FOCAL_TIE, AttendSpec

FOCALS = {"none": 0, "equal": 1, "prob": 2}
AGGREGATIONS = {"LogSumExp": 0, "Mean": 1, "Max": 2, "Sum": 3}


class Way(Structure):
    """One direction of looking."""

    _fields_ = (
        ("used", c_int32),
        ("focal", c_int32),
        ("aggregation", c_int32),
        ("smooth", c_float),
        ("sharpness", c_float),
        ("keep", c_float),
    )


class Side(Structure):
    """The tensors of one side, and the steps between their entries."""

    _fields_ = (
        ("vectors", c_void_p),
        ("gram", c_void_p),
        ("norm", c_void_p),
        ("vector_item", c_int64),
        ("vector_token", c_int64),
        ("gram_item", c_int64),
        ("gram_row", c_int64),
        ("norm_item", c_int64),
    )


class All(Structure):
    """Every item of one side with every item of the other."""

    _fields_ = (
        ("lanes", Side),
        ("items", Side),
        ("width", c_int64),
        ("groups", c_int64),
        ("count", c_int64),
        ("lane_item", c_void_p),
        ("lane_length", c_void_p),
        ("item_length", c_void_p),
        ("to_lanes", Way),
        ("from_lanes", Way),
        ("scores", c_void_p),
        ("lane_step", c_int64),
        ("item_step", c_int64),
        ("bfloat16", c_int32),
        ("threads", c_int32),
    )


class Given(Structure):
    """Cells whose affinities are given."""

    _fields_ = (
        ("lanes", Side),
        ("rows", Side),
        ("cells", c_int64),
        ("positions", c_int64),
        ("most_rows", c_int64),
        ("affinity", c_void_p),
        ("start", c_void_p),
        ("lane_item", c_void_p),
        ("lane_length", c_void_p),
        ("row_item", c_void_p),
        ("row_length", c_void_p),
        ("to_lanes", Way),
        ("from_lanes", Way),
        ("scores", c_void_p),
        ("d_affinity", c_void_p),
        ("d_lane_gram", c_void_p),
        ("d_lane_norm", c_void_p),
        ("d_row_gram", c_void_p),
        ("d_row_norm", c_void_p),
        ("aligned", c_int32),
        ("threads", c_int32),
    )


def way(spec: AttendSpec | None) -> Way:
    """A direction, or the mark of one that does not count."""
    if spec is None:
        return Way(used=0)
    return Way(
        used=1,
        focal=FOCALS[spec.focal],
        aggregation=AGGREGATIONS[spec.aggregation],
        smooth=spec.smooth,
        sharpness=spec.lambda_lse,
        keep=1 - FOCAL_TIE,
    )


def call(function: Callable[[object], int], task: Structure) -> None:
    """Run a function of the library.

    Raises:
        MemoryError: it could not get what it needs.
    """
    if function(byref(task)):
        raise MemoryError("no memory for the native kernel; score fewer items at a time")


def at(tensor: Tensor | None, kind: torch.dtype = torch.float32) -> int | None:
    """Where the numbers of a tensor lie; it must outlive the call."""
    if tensor is None:
        return None
    assert tensor.dtype == kind
    assert tensor.device.type == "cpu"
    return tensor.data_ptr()
