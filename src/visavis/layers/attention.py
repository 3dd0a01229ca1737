"""Cross attention between two sets of vectors, scored by the cosine of query and attended vector.

Each query of each item in one set attends to all sources of each item in the other set. Words
that attend to regions (t2i) and regions that attend to words (i2t) are the same function with the
sides exchanged. Letters: A query items of Q queries, B source items of S sources, D width.

Two forms: `attended_cosine_plain` follows the equations and builds the attended vectors;
`attended_cosine` gives the same numbers from inner products alone. With c = sum_s a_s v_s:

    q.c = sum_s a_s (q.v_s)          |c|^2 = a' G a,  G = V V' once per source item

so the affinity product is the only work of width D for each pair, and no (B, A, Q, D) tensor
exists. `visavis.kernels` has fused forms of these functions; the models choose between them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from visavis.layers.norm import EPSILON
from visavis.types import Encoded

FeatureNorm = Literal[
    "clipped_l2norm", "l2norm", "clipped_l1norm", "l1norm", "clipped", "softmax", "no_norm"
]
Aggregation = Literal["LogSumExp", "Mean", "Max", "Sum"]

COSINE_FLOOR = 1e-8  # the published code clamps |q| |c| here


@dataclass(frozen=True, slots=True)
class Side:
    """One side of the attention: items of padded vectors. Padding vectors are 0."""

    vectors: Tensor  # (items, L, D)
    mask: Tensor  # (items, L) bool
    gram: Tensor | None = None  # (items, L, L) inner products, where this side is attended to


def side_of(items: Encoded) -> Side:
    """Encoded items as a side; their Gram matrices stand in `extra` where they are known."""
    return Side(items.tokens, items.mask, items.extra.get("gram"))


def gram_matrix(vectors: Tensor) -> Tensor:
    """G = V V' of each item: (items, L, D) to (items, L, L)."""
    return vectors @ vectors.transpose(1, 2)


def _gram(side: Side) -> Tensor:
    if side.gram is None:
        return gram_matrix(side.vectors)
    length = side.vectors.shape[1]
    return side.gram[:, :length, :length]  # items may have been trimmed since


def normalise_affinity(affinity: Tensor, query_mask: Tensor, how: FeatureNorm) -> Tensor:
    """Normalise affinities over the QUERY axis, as the published code does.

    Args:
        affinity: (..., Q, S); rows of padding queries hold 0.
        query_mask: broadcasts to (..., Q, 1).
        how: the published name; `clipped` is a leaky rectifier of slope 0.1.
    """
    if how.startswith("clipped"):
        affinity = F.leaky_relu(affinity, 0.1)
    if how.endswith("l2norm"):
        # As `l2norm`, in fewer passes: a norm over an inner axis takes as long as all the rest, and
        # the gradient of a quotient longer than that of a product. Floored: no root of 0.
        square = affinity.square().sum(dim=-2, keepdim=True)
        return affinity * (square.clamp_min(EPSILON**3).sqrt() + EPSILON).reciprocal()
    if how.endswith("l1norm"):
        return affinity / (affinity.abs().sum(dim=-2, keepdim=True) + EPSILON)
    if how == "softmax":
        return affinity.masked_fill(~query_mask, -torch.inf).softmax(dim=-2)
    return affinity


def attention_weights(
    affinity: Tensor,
    masks: tuple[Tensor, Tensor],
    *,
    norm: FeatureNorm,
    smooth: float,
) -> Tensor:
    """Softmax over the sources of the normalised affinities times `smooth`: (..., Q, S).

    `masks` are the query mask, broadcasting to (..., Q, 1), and the source mask, to (..., 1, S).
    """
    queries, sources = masks
    logits = smooth * normalise_affinity(affinity, queries, norm)
    if not bool(sources.all()):
        logits = logits.masked_fill(~sources, -torch.inf)
    return logits.softmax(dim=-1)


def affinities(queries: Side, sources: Side) -> Tensor:
    """Inner product of every query with every source: (B, A, Q, S)."""
    (a, q, d), (b, s, _) = queries.vectors.shape, sources.vectors.shape
    flat = queries.vectors.reshape(a * q, d)
    return raised(torch.matmul(flat, sources.vectors.transpose(1, 2))).view(b, a, q, s)


def raised(product: Tensor) -> Tensor:
    """Affinities in float32 where autocast has multiplied in fewer bits.

    What follows compares them with thresholds: of half the bits, attention that should be equal
    differs, and a focus drops what it should keep.
    """
    fewer = product.dtype in (torch.bfloat16, torch.float16)
    return product.float() if fewer and torch.is_autocast_enabled(product.device.type) else product


def attended_cosine(
    queries: Side,
    sources: Side,
    weigh: Callable[[Tensor, tuple[Tensor, Tensor]], Tensor],
    affinity: Tensor | None = None,
) -> Tensor:
    """Cosine of each query with what it attends to in each source item: (B, A, Q).

    `weigh` turns affinities (B, A, Q, S) and the two masks into attention weights. The affinities
    may be given, contiguous, where they are known already.
    """
    if affinity is None:
        affinity = affinities(queries, sources)
    b, a, q, s = affinity.shape
    masks = queries.mask[None, :, :, None], sources.mask[:, None, None, :]
    weights = weigh(affinity, masks)  # (B, A, Q, S)
    rows = weights.view(b, a * q, s)
    square = (torch.bmm(rows, _gram(sources)) * rows).sum(dim=2).view(b, a, q)
    dot = (weights * affinity).sum(dim=3)  # (B, A, Q)
    return dot / _denominator(queries.vectors.norm(dim=2), square)


def attended_cosine_pairs(
    queries: Side, sources: Side, weigh: Callable[[Tensor, tuple[Tensor, Tensor]], Tensor]
) -> Tensor:
    """The same for item p of one side with item p of the other: (P, Q)."""
    affinity = raised(queries.vectors @ sources.vectors.transpose(1, 2))  # (P, Q, S)
    weights = weigh(affinity, (queries.mask[:, :, None], sources.mask[:, None, :]))
    square = (torch.bmm(weights, _gram(sources)) * weights).sum(dim=2)
    dot = (weights * affinity).sum(dim=2)
    return dot / _denominator(queries.vectors.norm(dim=2), square)


def attended_cosine_plain(
    queries: Side, sources: Side, weigh: Callable[[Tensor, tuple[Tensor, Tensor]], Tensor]
) -> Tensor:
    """`attended_cosine` by the equations, with the attended vectors: (B, A, Q)."""
    affinity = raised(torch.einsum("aqd,bsd->baqs", queries.vectors, sources.vectors))
    weights = weigh(affinity, (queries.mask[None, :, :, None], sources.mask[:, None, None, :]))
    attended = torch.einsum("baqs,bsd->baqd", weights, sources.vectors)
    dot = (queries.vectors[None] * attended).sum(dim=3)
    norms: Tensor = queries.vectors.norm(dim=2)[None] * attended.norm(dim=3)
    return dot / norms.clamp_min(COSINE_FLOOR)


def _denominator(query_norm: Tensor, square: Tensor) -> Tensor:
    # The square is floored before the root: a gradient through sqrt(0) would be infinite.
    attended_norm = square.clamp_min(COSINE_FLOOR**2).sqrt()
    return (query_norm * attended_norm).clamp_min(COSINE_FLOOR)


def aggregate(relevance: Tensor, mask: Tensor, how: Aggregation, smooth: float) -> Tensor:
    """Relevances of the queries to one score (Lee et al. 2018): (..., Q) to (...).

    LogSumExp is log(sum exp(smooth r)) / smooth, not divided by the number of queries.
    """
    if how == "LogSumExp":
        return (smooth * relevance).masked_fill(~mask, -torch.inf).logsumexp(dim=-1) / smooth
    if how == "Max":
        return relevance.masked_fill(~mask, -torch.inf).amax(dim=-1)
    total = (relevance * mask).sum(dim=-1)
    return total if how == "Sum" else total / mask.sum(dim=-1)
