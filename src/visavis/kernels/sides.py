"""Sides made ready for kernels: real vectors first, lengths, Gram matrices, norms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from visavis.kernels.spec import Attention, Vectors
from visavis.kernels.structures import Side, Way, way

PACKING = 64  # products that take as long as packing their column


class Tensors(NamedTuple):
    """What has gradients of one side."""

    vectors: Tensor  # (items, L, D)
    gram: Tensor | None  # (items, L, L), where this side is looked at
    norm: Tensor | None  # (items, L), where it looks

    def structure(self) -> Side:
        """The same for the library."""
        found = Side(
            vectors=self.vectors.data_ptr(),
            vector_item=self.vectors.stride(0),
            vector_token=self.vectors.stride(1),
        )
        if self.gram is not None:
            found.gram = self.gram.data_ptr()
            found.gram_item, found.gram_row = self.gram.stride(0), self.gram.stride(1)
        if self.norm is not None:
            found.norm, found.norm_item = self.norm.data_ptr(), self.norm.stride(0)
        return found


def readied(side: Vectors, *, looks: bool, looked_at: bool) -> tuple[Tensors, Tensor]:
    """Tensors of a side, and how many vectors of each item are real: (items,) int32."""
    lengths = side.mask.sum(dim=1)
    longest = int(lengths.max())
    vectors, gram = side.vectors, side.gram
    in_front = torch.arange(side.mask.shape[1], device=lengths.device) < lengths.unsqueeze(1)
    if not torch.equal(in_front, side.mask):
        order = (~side.mask).long().argsort(dim=1, stable=True)  # real ones first
        vectors = vectors.gather(1, order.unsqueeze(2).expand_as(vectors))
        gram = None
    vectors = vectors[:, :longest]
    if vectors.stride(2) != 1:
        vectors = vectors.contiguous()
    with torch.autocast(vectors.device.type, enabled=False):  # bfloat16 is for affinities alone
        norm = vectors.norm(dim=2) if looks else None
        if not looked_at:
            gram = None
        elif gram is None or gram.dtype != torch.float32 or gram.stride(2) != 1:
            gram = vectors @ vectors.transpose(1, 2)
        else:
            gram = gram[:, :longest, :longest]
    return Tensors(vectors, gram, norm), lengths.to(torch.int32)


@dataclass(frozen=True, slots=True)
class Groups:
    """Items of one side, `lanes` at a time, those of like length together."""

    item: Tensor  # (groups, lanes) int64, -1 where there is none
    length: Tensor  # (groups, lanes) int32, 1 where there is none

    @property
    def positions(self) -> list[int]:
        """The longest item of each group."""
        found: list[int] = self.length.amax(dim=1).tolist()
        return found

    def __len__(self) -> int:
        return len(self.item)


def grouped(lengths: Tensor, lanes: int) -> Groups:
    """Groups of items by their lengths (items,)."""
    order = lengths.argsort(stable=True)
    beyond = -len(order) % lanes
    return Groups(
        functional.pad(order, (0, beyond), value=-1).view(-1, lanes),
        functional.pad(lengths[order], (0, beyond), value=1).view(-1, lanes),
    )


@dataclass(frozen=True, slots=True)
class Plan:
    """Which side stands in lanes, how both look, and what follows from lengths alone."""

    left_in_lanes: bool
    lane_length: Tensor  # (items in lanes,) int32
    row_length: Tensor  # (items of the other side,) int32
    groups: Groups  # of the side in lanes
    ways: tuple[Way, Way]  # of those who look at lanes, and of lanes
    bfloat16: bool  # affinities are products of bfloat16 numbers

    @property
    def lanes(self) -> int:
        """Items in a group."""
        return self.groups.item.shape[1]

    def in_lanes_first(self, left: Any, right: Any) -> tuple[Any, Any]:  # noqa: ANN401
        """Something of the side in lanes, then of the other."""
        return (left, right) if self.left_in_lanes else (right, left)

    def by_lane(self, scores: Tensor) -> Tensor:
        """A matrix (left, right) as (lane items, other items)."""
        return scores if self.left_in_lanes else scores.T

    def rounded(self, vectors: Tensor) -> Tensor:
        """Vectors as they are multiplied."""
        return vectors.bfloat16().float() if self.bfloat16 else vectors


def planned(attention: Attention, left: Tensor, right: Tensor, lanes: int) -> Plan:
    """The plan with the least work: padding is multiplied in lanes, and lanes are packed first.

    Args:
        attention: what is asked for.
        left: lengths of the left items, int32.
        right: lengths of the right items, int32.
        lanes: items in a group.
    """
    choices = grouped(left, lanes), grouped(right, lanes)
    costs = [
        sum(groups.positions) * lanes * (int(other.sum()) + PACKING)
        for groups, other in zip(choices, (right, left), strict=True)
    ]
    ways = way(attention.left_looks), way(attention.right_looks)
    if costs[0] <= costs[1]:
        return Plan(True, left, right, choices[0], ways[::-1], _half_wanted())  # noqa: FBT003
    return Plan(False, right, left, choices[1], ways, _half_wanted())  # noqa: FBT003


def _half_wanted() -> bool:
    return torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
