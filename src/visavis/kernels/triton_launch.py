"""What the Triton kernel launches: items by their lengths, sizes of tiles, sums of gradients."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from visavis.kernels.sides import Tensors
from visavis.kernels.spec import AttendSpec
from visavis.kernels.structures import AGGREGATIONS, FOCALS

ROWS = (16, 32, 64, 128)  # sizes that vectors of a left item are filled up to
WORDS = (8, 16, 32, 64)  # and those of a right one; of more, its Gram matrix has no room
LEAST = 16  # rows or columns of a product
COLUMNS = 64  # of a tile: as many right items as fit
SLOPE_COLUMNS = 32  # the same for gradients, which need more registers
BYTES = 128  # of each vector that are multiplied at a time
PROGRAMS = 264  # two for each multiprocessor of an H100: gradients are split into as many
MOST_SPLITS = 8
INTERPRETER = "TRITON_INTERPRET"


def interpreting() -> bool:
    """Whether Triton's interpreter is asked for, which runs on the processor, slowly."""
    return os.environ.get(INTERPRETER, "").lower() in {"1", "true", "on", "yes", "y"}


class Way(NamedTuple):
    """One direction of looking, as kernels take it."""

    smooth: float = 0.0
    sharpness: float = 1.0
    focal: int = -1  # -1: this side does not look
    how: int = 0


def way(spec: AttendSpec | None) -> Way:
    """A direction, or the mark of one that does not count."""
    if spec is None:
        return Way()
    return Way(
        float(spec.smooth),
        float(spec.lambda_lse),
        FOCALS[spec.focal],
        AGGREGATIONS[spec.aggregation],
    )


class Side(NamedTuple):
    """What a launch hands over of one side; all of it contiguous."""

    vectors: Any  # (items, longest, depth) as they are multiplied
    gram: Any  # (items, longest, longest) float32, where this side is looked at
    norm: Any  # (items, longest) float32, where it looks
    length: Any  # (items,) int32
    chosen: Any  # (count,) int32: the items of this launch
    count: Any
    longest: Any


class Sums(NamedTuple):
    """Where gradients of the owned side go: as `Side`, for each split; zeros at first."""

    vectors: Any
    gram: Any
    norm: Any
    step: Any  # vectors of a split


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What follows from the request and from lengths."""

    left_length: Tensor  # (left items,) int32
    right_length: Tensor
    left_looks: Way
    right_looks: Way
    aligned: bool  # row p with row p alone
    dtype: torch.dtype  # in which vectors are multiplied

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the scores."""
        if self.aligned:
            return (len(self.left_length),)
        return len(self.left_length), len(self.right_length)


@dataclass(frozen=True, slots=True)
class Part:
    """Left and right items whose vectors are filled up to the same sizes."""

    left: Tensor  # (rows,) int32
    right: Tensor  # (columns,) int32
    rows: int
    words: int


def parts(plan: Plan) -> Iterator[Part]:
    """Everything that is to be scored, a launch at a time."""
    left, right = _size(plan.left_length, ROWS), _size(plan.right_length, WORDS)
    if plan.aligned:
        right = right.clamp_min(LEAST)  # a tile has one right item
        for code in (left * 1024 + right).unique().tolist():
            chosen = (left * 1024 + right == code).nonzero()[:, 0].to(torch.int32)
            yield Part(chosen, chosen, code // 1024, code % 1024)
        return
    for rows in left.unique().tolist():
        first = (left == rows).nonzero()[:, 0].to(torch.int32)
        for words in right.unique().tolist():
            yield Part(first, (right == words).nonzero()[:, 0].to(torch.int32), rows, words)


def _warps(part: Part) -> int:
    """A warpgroup for 64 rows of a product: more would do the same work twice."""
    return 8 if part.rows > 64 else 4


def _size(length: Tensor, sizes: tuple[int, ...]) -> Tensor:
    table = torch.tensor(sizes, device=length.device)
    return table[torch.searchsorted(table, length.long())]


class Launch:
    """Launches of one request, over the tensors of both sides."""

    def __init__(self, plan: Plan, left: Tensors, right: Tensors) -> None:
        self.plan, self.left, self.right = plan, left, right
        self.precision = "ieee" if torch.version.hip else "tf32x3"
        dtype = torch.float32 if interpreting() else plan.dtype  # it cannot multiply bfloat16
        self._multiplied = [
            side.vectors.detach().to(plan.dtype).to(dtype).contiguous() for side in (left, right)
        ]
        # What a kernel does not need is not read: any tensor stands there.
        self._own = [
            [part.detach().contiguous() if part is not None else vectors for part in side[1:]]
            for side, vectors in zip((left, right), self._multiplied, strict=True)
        ]

    def scores(self) -> Tensor:
        """All scores."""
        from visavis.kernels.triton_score import score_tiles

        found = torch.empty(self.plan.shape, device=self.left.vectors.device)
        for part in parts(self.plan):
            items = self._items(part, COLUMNS)
            tiles = 1 if self.plan.aligned else -(-len(part.right) // items)
            with self._on_device():
                score_tiles[(len(part.left) * tiles,)](
                    *self._sides(part),
                    found,
                    *self._steps(found),
                    *self._numbers(),
                    **self._flags(part, items),
                    num_warps=_warps(part),
                    num_stages=3,
                )
        return found

    def slopes(self, slope: Tensor, wanted: tuple[bool, ...], *, of_rows: bool) -> list[Any]:
        """Gradients by vectors, Gram matrices and norms of one side, each where it is wanted.

        Args:
            slope: of the loss by the scores.
            wanted: which of the three.
            of_rows: of the left side.
        """
        from visavis.kernels.triton_slopes import slope_tiles

        side = self.left if of_rows else self.right
        splits = self._splits(of_rows=of_rows)
        own = wanted[1] or wanted[2]  # one of them brings the other
        sums = [
            torch.zeros(splits, *each.shape, device=slope.device)
            if each is not None and want
            else None
            for each, want in zip(side, (wanted[0], own, own), strict=True)
        ]
        step = side.vectors.shape[0] * side.vectors.shape[1]
        vectors, gram, norm = (slope if each is None else each for each in sums)
        given = Sums(vectors, gram, norm, step)
        for part in parts(self.plan):
            items = self._items(part, SLOPE_COLUMNS)
            owners = len(part.left) if of_rows else -(-len(part.right) // items)
            with self._on_device():
                slope_tiles[(owners, splits)](
                    *self._sides(part),
                    given,
                    slope,
                    *self._steps(slope),
                    *self._numbers(),
                    **self._flags(part, items),
                    OF_ROWS=of_rows,
                    VECTORS=sums[0] is not None,
                    OWN=own,
                    HALF_PRECISION=self.precision if self.plan.dtype == torch.float32 else "tf32",
                    num_warps=_warps(part),
                    num_stages=2,
                )
        return [
            each.sum(dim=0) if each is not None and want else None
            for each, want in zip(sums, wanted, strict=True)
        ]

    def _splits(self, *, of_rows: bool) -> int:
        if self.plan.aligned:
            return 1
        words = int(self.plan.right_length.float().mean()) + 1
        owners = len(self.plan.left_length) if of_rows else self._owning_columns(words)
        return max(1, min(MOST_SPLITS, PROGRAMS // max(1, owners)))

    def _owning_columns(self, words: int) -> int:
        return -(-len(self.plan.right_length) * words // SLOPE_COLUMNS)

    def _items(self, part: Part, columns: int) -> int:
        if self.plan.aligned:
            return 1
        return max(1, columns // part.words)

    def _sides(self, part: Part) -> list[Any]:
        found = []
        for vectors, own, length, chosen in zip(
            self._multiplied,
            self._own,
            (self.plan.left_length, self.plan.right_length),
            (part.left, part.right),
            strict=True,
        ):
            gram, norm = own
            longest = vectors.shape[1]
            found.append(Side(vectors, gram, norm, length, chosen, len(chosen), longest))
        return found

    def _steps(self, scores: Tensor) -> tuple[int, int]:
        return (scores.stride(0), 0) if self.plan.aligned else (scores.stride(0), scores.stride(1))

    def _numbers(self) -> tuple[float, ...]:
        rows, columns = self.plan.left_looks, self.plan.right_looks
        return rows.smooth, rows.sharpness, columns.smooth, columns.sharpness

    def _flags(self, part: Part, items: int) -> dict[str, Any]:
        rows, columns = self.plan.left_looks, self.plan.right_looks
        return {
            "ROW_FOCAL": rows.focal,
            "ROW_HOW": rows.how,
            "COLUMN_FOCAL": columns.focal,
            "COLUMN_HOW": columns.how,
            "ALIGNED": self.plan.aligned,
            "DEPTH": self.left.vectors.shape[2],
            "ROWS": part.rows,
            "ITEMS": items,
            "WORDS": part.words,
            "BLOCK": BYTES // self.plan.dtype.itemsize,
            "PRECISION": self.precision,
        }

    def _on_device(self) -> AbstractContextManager[object]:
        return torch.cuda.device_of(self.left.vectors)
