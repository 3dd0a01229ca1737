"""What is to be computed: two sides of vectors, who looks at whom, and how."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from torch import Tensor

FOCAL_TIE = 1e-5  # a share of the focal threshold: what reaches it up to this stays

Focal = Literal["none", "equal", "prob"]
Aggregation = Literal["LogSumExp", "Mean", "Max", "Sum"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AttendSpec:
    """One direction of looking: queries of an item attend to the sources of another.

    The numbers are those of the equations in `visavis.layers.attention`.
    """

    smooth: float  # factor of the affinities before the softmax
    norm: str = "clipped_l2norm"  # of affinities, over the queries
    focal: Focal = "none"  # which attention is set to 0 (BFAN)
    aggregation: Aggregation = "LogSumExp"  # of the cosines of the queries
    lambda_lse: float = 6.0  # of LogSumExp


class Vectors(Protocol):
    """One side: items of padded vectors. `visavis.layers.attention.Side` is one."""

    @property
    def vectors(self) -> Tensor:
        """(items, L, D); padding is 0."""
        ...

    @property
    def mask(self) -> Tensor:
        """(items, L) bool, True where a vector is real."""
        ...

    @property
    def gram(self) -> Tensor | None:
        """(items, L or more, L or more) inner products of the vectors, where they are known."""
        ...


@dataclass(frozen=True, slots=True)
class Items:
    """Vectors as kernels themselves hold them."""

    vectors: Tensor
    mask: Tensor
    gram: Tensor | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Attention:
    """Scores of left items with right items: of one direction, or both added up."""

    left: Vectors
    right: Vectors
    left_looks: AttendSpec | None = None  # left items are queries, right ones sources
    right_looks: AttendSpec | None = None

    def __post_init__(self) -> None:
        if self.left_looks is None and self.right_looks is None:
            raise ValueError("neither side looks at the other; give left_looks or right_looks")

    @property
    def specs(self) -> list[AttendSpec]:
        """Of the directions that count."""
        return [spec for spec in (self.left_looks, self.right_looks) if spec is not None]


Eager = Callable[[], Tensor]  # the plain form of a request, which is always there


class Kernel(Protocol):
    """What a module of a kernel offers; `visavis.kernels.choose` has the table of them."""

    def missing(self) -> str:
        """Why this machine cannot run it, in a few words; empty where it can."""
        ...

    def refusal(self, attention: Attention) -> str:
        """Why it does not take this request; empty where it does. Cheap, and builds nothing."""
        ...

    def attended_scores(self, attention: Attention) -> Tensor:
        """Every left item with every right one, with gradients: (left items, right items)."""
        ...

    def attended_pairs(self, attention: Attention) -> Tensor:
        """Row p of one side with row p of the other, with gradients: (P,)."""
        ...
