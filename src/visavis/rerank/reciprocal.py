"""Cross-modal reciprocal re-ranking: each candidate is asked where it ranks the query.

Wang et al.: Matching Images and Text with Multi-modal Tensor Fusion and Re-ranking, ACM MM 2019,
https://doi.org/10.1145/3343031.3350875, section 3.2, eq. 8-15. It needs scores alone, so it goes
with every model. docs/rerank.md says what the paper leaves open and where its code differs.

The first K items of a query are put in the order of the position that the query has in their own
lists; ties keep the first order, and items beyond K stay behind them. A result is a score matrix
again: the K scores of a query are dealt out anew in the new order.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from visavis.errors import DataError
from visavis.rerank.groups import Groups, alone
from visavis.rerank.matrices import copied, stripes
from visavis.types import Scores

K, K_COCO = 15, 7  # section 4.1: Flickr30k, MSCOCO
_EDGES = 2**14  # members of groups looked at together


@dataclass(frozen=True, kw_only=True)
class ReciprocalConfig:
    """How scores are re-ranked."""

    k: int = K  # candidates of a query; the paper: 15 on Flickr30K, 7 on COCO
    # Whose place counts as the query's in eq. 15: a member T' of G(T, K'), as the words around
    # eq. 14 have it, or a T' whose own group G(T', K') has T, as eq. 15 is printed.
    reading: Literal["words", "equation"] = "words"

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ValueError(f"k {self.k}; at least one candidate is needed")


@dataclass(frozen=True, slots=True, eq=False)
class Reordered:
    """The candidates of each query in their new order, with the scores that put them there."""

    items: Tensor  # (Q, K) int64
    scores: Tensor  # (Q, K) float32, falling


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """The first K items of Q queries, and where each of them ranks its query."""

    items: Tensor  # (Q, K) int64, best first: R(I, K) of eq. 8, R(T, K) of eq. 13
    scores: Tensor  # (Q, K) float32
    beyond: Tensor  # (Q,) float32 the best score that is no candidate's; -inf when all are
    positions: Tensor  # (Q, K) int64 from 0: P of eq. 11 and 15

    def first(self, k: int) -> Candidates:
        """The candidates for a smaller K, without looking at the matrix again."""
        kept = self.items.shape[1]
        if not 1 <= k <= kept:
            raise ValueError(f"the first {k} of {kept} candidates; give 1 to {kept}")
        if k == kept:
            return self
        beyond = self.scores[:, k]
        return Candidates(self.items[:, :k], self.scores[:, :k], beyond, self.positions[:, :k])

    def reordered(self) -> Reordered:
        """Sort by position (eq. 12, 15); of equal positions the first in the first order leads.

        Items with the score of the best one beyond K are in the list by chance: they stay where
        they are. Items with equal positions and equal scores stay equal.
        """
        chance = self.scores <= self.beyond[:, None]
        positions = self.positions.masked_fill(chance, torch.iinfo(torch.int64).max)
        places, order = positions.sort(dim=1, stable=True)  # (Q, K)
        former = self.scores.gather(1, order)
        told_apart = (places.diff(dim=1) != 0) | (former.diff(dim=1) != 0)
        step = torch.nn.functional.pad(told_apart.cumsum(dim=1), (1, 0))  # (Q, K) from 0
        return Reordered(self.items.gather(1, order), _dealt(self.scores, step))


def i2t_candidates(scores: Scores, k: int) -> Candidates:
    """Eq. 8-11: the first K sentences of every image, and its position in each one's list.

    The first list comes from `scores.i2t`, the position from `scores.t2i`: the number of images
    that the sentence scores higher.

    Raises:
        DataError: unlike shapes, NaN or infinity, or fewer than K sentences.
    """
    scores.matrix_shape()
    items, values, beyond = _best(scores.i2t, k, "sentences")
    images = torch.arange(len(items), device=items.device)[:, None].expand_as(items)
    own = scores.t2i[images, items].float()
    positions = _higher(scores.t2i.T, items.flatten(), own.flatten()).view_as(items)
    return Candidates(items, values, beyond, positions)


def t2i_candidates(
    scores: Scores, k: int, groups: Groups | None = None, reading: str = "words"
) -> Candidates:
    """Eq. 13-15: the first K images of every sentence, and its group's position in their lists.

    The position of a group is that of its best member, so one look at each image's list is
    enough: the number of sentences with a higher score than the best of the group.

    Args:
        scores: the first list comes from `scores.t2i`, the position from `scores.i2t`.
        k: candidates of a sentence.
        groups: G(T, K'); each sentence alone when left out.
        reading: see `ReciprocalConfig`.

    Raises:
        DataError: unlike shapes, NaN or infinity, fewer than K images, groups of other sentences.
    """
    _, sentences = scores.matrix_shape()
    groups = groups or alone(sentences)
    if groups.count != sentences:
        raise DataError(f"groups of {groups.count} sentences for scores of {sentences}")
    items, values, beyond = _best(scores.t2i.T, k, "images")
    best = _group_best(scores.i2t, items, groups if reading == "words" else groups.turned())
    positions = _higher(scores.i2t, items.flatten(), best.flatten()).view_as(items)
    return Candidates(items, values, beyond, positions)


def rerank(
    scores: Scores,
    groups: Groups | None = None,
    config: ReciprocalConfig | None = None,
    *,
    folder: Path | None = None,
) -> Scores:
    """Re-rank both directions: (N, M) float32 on the CPU, decoupled.

    Args:
        scores: of any model; left as they are.
        groups: sentences that say the same, for T→I; each sentence alone when left out.
        config: K, and how eq. 15 is read.
        folder: where large results are kept as files instead of in memory.

    Raises:
        DataError: unlike shapes, NaN or infinity, a gallery smaller than K, groups of others.

    >>> found = rerank(Scores.shared(torch.tensor([[0.9, 0.8], [0.95, 0.1]])),
    ...                config=ReciprocalConfig(k=2))
    >>> found.i2t.argsort(dim=1, descending=True).tolist()  # sentence 0 prefers the other image
    [[1, 0], [0, 1]]
    """
    settings = config or ReciprocalConfig()
    forward = i2t_candidates(scores, settings.k).reordered()
    backward = t2i_candidates(scores, settings.k, groups, settings.reading).reordered()
    return Scores(
        i2t=with_order(scores.i2t, forward, folder=folder, name="reranked_i2t"),
        t2i=with_order(scores.t2i, backward, folder=folder, name="reranked_t2i", by_column=True),
    )


def with_order(
    matrix: Tensor,
    order: Reordered,
    *,
    folder: Path | None = None,
    name: str = "reranked",
    by_column: bool = False,
) -> Tensor:
    """A copy of scores (N, M) with the new order written in.

    Args:
        matrix: the scores of one direction.
        order: new order of each row, or of each column where sentences ask.
        folder: where a large result is kept as a file.
        name: of that file.
        by_column: whether queries are columns.
    """
    made = copied(matrix, folder, name)
    rows = made.T if by_column else made
    rows.scatter_(1, order.items.cpu(), order.scores.cpu())
    return made


def _best(matrix: Tensor, k: int, what: str) -> tuple[Tensor, Tensor, Tensor]:
    """The first K columns of each row (Q, G): indices and scores (Q, K), the next score (Q,)."""
    gallery = matrix.shape[1]
    if not 1 <= k <= gallery:
        raise DataError(f"k {k} for a gallery of {gallery} {what}; give 1 to {gallery}")
    wanted = min(k + 1, gallery)
    parts = [stripe.float().topk(wanted, dim=1) for _, stripe in stripes(matrix, "scores")]
    values = torch.cat([part.values for part in parts])
    items = torch.cat([part.indices for part in parts])
    beyond = values[:, k] if k < gallery else values.new_full((len(values),), -torch.inf)
    return items[:, :k].contiguous(), values[:, :k].contiguous(), beyond


def _group_best(matrix: Tensor, items: Tensor, groups: Groups) -> Tensor:
    """The highest score of a group with each candidate of its sentence: (M, K) from (N, M)."""
    sentences, members = (side.to(items.device) for side in (groups.sentences, groups.members))
    best = torch.full(items.shape, -torch.inf, device=items.device)
    for start in range(0, len(sentences), _EDGES):
        asking, member = sentences[start : start + _EDGES], members[start : start + _EDGES]
        found = matrix[items[asking], member[:, None]].float()  # (edges, K)
        best.scatter_reduce_(0, asking[:, None].expand_as(found), found, "amax")
    return best


def _higher(matrix: Tensor, rows: Tensor, values: Tensor) -> Tensor:
    """How many entries of its row of (A, B) are higher than each value: (P,).

    Of a row only entries above the lowest value that is asked for are sorted. A query is a
    candidate's favourite more often than not, so these are few, however long the list.
    """
    lowest = values.new_full((matrix.shape[0],), torch.inf)
    lowest = lowest.scatter_reduce_(0, rows, values, "amin")
    order = rows.argsort()
    ends = rows[order]
    found = torch.zeros_like(rows)
    for part, stored in stripes(matrix, "scores"):
        first, behind_last = torch.searchsorted(ends, ends.new_tensor([part.start, part.stop]))
        asked = order[int(first) : int(behind_last)]
        stripe = stored.float()
        place = (stripe > lowest[part, None]).nonzero()
        keys = _keys(place[:, 0], stripe[place[:, 0], place[:, 1]]).sort().values
        row = rows[asked] - part.start
        not_higher = torch.searchsorted(keys, _keys(row, values[asked]), right=True)
        row_ends = torch.bincount(place[:, 0], minlength=len(stripe)).cumsum(dim=0)
        found[asked] = row_ends[row] - not_higher
    return found


def _keys(rows: Tensor, values: Tensor) -> Tensor:
    """Whole numbers in the order of rows, then of values: one sort serves many rows."""
    return (rows << 32) + _whole(values) + 2**31


def _whole(values: Tensor) -> Tensor:
    """Float32 as whole numbers in the same order; neighbouring floats differ by one."""
    bits = values.contiguous().view(torch.int32).long()
    return torch.where(bits < 0, -(bits & 0x7FFFFFFF), bits)


def _float(whole: Tensor) -> Tensor:
    """The inverse of `_whole`."""
    bits = torch.where(whole < 0, -whole - 2**31, whole)
    return bits.int().view(torch.float32)


def _dealt(scores: Tensor, step: Tensor) -> Tensor:
    """Scores (Q, K) for places in the new order, given which of them are told apart.

    Args:
        scores: falling, in the first order.
        step: rises by one from a place to the next where the two must differ.

    Returns:
        The scores as they are, but one for places that are equal, and raised by the least amount
        where two that were equal must differ now.
    """
    k = scores.shape[1]
    final = torch.nn.functional.pad(step.diff(dim=1) != 0, (0, 1), value=True)
    places = torch.arange(k, device=scores.device)
    last = torch.where(final, places, k).flip(1).cummin(dim=1).values.flip(1)  # of its equals
    whole = _whole(scores.gather(1, last)) + step
    return _float(whole.flip(1).cummax(dim=1).values.flip(1) - step)
