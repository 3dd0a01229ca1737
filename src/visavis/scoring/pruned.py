"""The best of each query without scoring every pair, where a model has upper bounds.

Candidates of a query come by falling bound, some at a time. When the next bound lies below the
last score of the query's list, nothing that is left can enter it. For ranks the best right item's
score takes the place of the list's last one where it is lower. Exact, whatever the bounds are
worth: loose ones only leave more to be scored, in the end all of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from visavis.errors import DataError
from visavis.metrics.ranks import NO_POSITIVE, Ranks
from visavis.scoring.bounds import Bounded, with_rounding
from visavis.scoring.budget import used_lengths
from visavis.scoring.collect import TopK, Wanted
from visavis.scoring.matrix import Block, score_pairs, scored_at
from visavis.scoring.own import OwnPairs
from visavis.scoring.top import RunningTop
from visavis.types import Encoded, Matcher

FIRST = 16  # candidates of a query at first, or twice the list's length; doubled each time
WHOLE = 0.5  # a larger share of what is left is scored faster as a whole matrix
CELL_BYTES = 24  # of a pair of a stripe: bounds, what is left of them, scores, places
PAIRS_AT_ONCE = 4096


class BoundedMatcher(Matcher, Bounded, Protocol):
    """A matcher with bounds."""


@dataclass(frozen=True, slots=True, eq=False)
class _Direction:
    """Queries of one side, the gallery of the other."""

    model: BoundedMatcher
    images: Encoded
    sentences: Encoded
    block: Block
    by_image: bool  # whether images ask

    @property
    def sizes(self) -> tuple[int, int]:
        """Queries and items of the gallery."""
        sizes = len(self.images), len(self.sentences)
        return sizes if self.by_image else sizes[::-1]

    def bounds(self, queries: slice) -> Tensor:
        """(q, G)."""
        images, sentences = self._sides(queries)
        found = self.model.upper_bounds(images, sentences)
        return with_rounding((found.i2t if self.by_image else found.t2i.T).float())

    def whole(self, queries: slice) -> Tensor:
        """Scores (q, G) of everything."""
        images, sentences = self._sides(queries)
        found = scored_at(self.model, images, sentences, self.block)
        return found.i2t if self.by_image else found.t2i.T

    def _sides(self, queries: slice) -> tuple[Encoded, Encoded]:
        if self.by_image:
            return self.images.select(queries), self.sentences
        return self.images, self.sentences.select(queries)

    def some(self, queries: Tensor, items: Tensor) -> Tensor:
        """Scores (P,) of single pairs."""
        rows, columns = (queries, items) if self.by_image else (items, queries)
        # Sentences of like length together.
        order = used_lengths(self.sentences.select(columns)).argsort(stable=True)
        found = torch.empty(len(rows), device=rows.device)
        for part in torch.split(order, PAIRS_AT_ONCE):
            pair = self.images.select(rows[part]), self.sentences.select(columns[part]).trimmed()
            scores = score_pairs(self.model, *pair, block=self.block)
            found[part] = (scores.i2t if self.by_image else scores.t2i).to(found.device)
        return found


@torch.inference_mode()
def pruned_top_k(
    model: BoundedMatcher, images: Encoded, sentences: Encoded, wanted: Wanted, *, block: Block
) -> TopK:
    """What `top_k` finds, with fewer pairs scored; each direction by itself.

    Raises:
        DataError: scores with NaN or infinity.
    """
    shape = len(images), len(sentences)
    own = None if wanted.pairs is None else OwnPairs(wanted.pairs, shape)
    pair_scores = None
    if own is not None:
        rows, columns = (torch.from_numpy(part).to(images.mask.device) for part in own.pairs.T)
        both = [
            _Direction(model, images, sentences, block, by_image).some(*pair)
            for by_image, pair in ((True, (rows, columns)), (False, (columns, rows)))
        ]
        pair_scores = torch.stack(both, dim=1)
    found = []
    for side, k in enumerate((wanted.sentences, wanted.images)):
        direction = _Direction(model, images, sentences, block, by_image=side == 0)
        scores = None if pair_scores is None else pair_scores[:, side]
        found.append(_Search(direction, wanted, k, own, scores).run())
    i2t, t2i = found
    i2t.top.to("cpu")
    t2i.top.to("cpu")
    return TopK(
        sentences=i2t.top.ids,
        sentence_scores=i2t.top.scores,
        images=t2i.top.ids,
        image_scores=t2i.top.scores,
        pairs=None if own is None else own.pairs,
        pair_scores=None if pair_scores is None else pair_scores.cpu(),
        ranks=Ranks(i2t.ranks(), t2i.ranks()) if wanted.ranks else None,
        scored=(i2t.scored, t2i.scored),
    )


class _Search:
    """The answers of one direction."""

    def __init__(
        self,
        direction: _Direction,
        wanted: Wanted,
        k: int,
        own: OwnPairs | None,
        pair_scores: Tensor | None,
    ) -> None:
        self.direction, self.wanted, self.own = direction, wanted, own
        device = direction.images.mask.device
        queries = direction.sizes[0]
        self.top = RunningTop(queries, k, device=device)
        self.scored = 0
        self.count = torch.zeros(queries, dtype=torch.int64, device=device)
        self.best = torch.full((queries,), torch.inf, device=device)
        if wanted.ranks and own is not None and pair_scores is not None:
            self.best = own.best(pair_scores, 0 if direction.by_image else 1)
            self.scored += len(own)
        self.asks = bool(k) or wanted.ranks

    def run(self) -> _Search:
        """Go through all queries, a stripe at a time."""
        queries, gallery = self.direction.sizes
        if self.asks and gallery:
            rows = max(1, self.direction.block.memory_bytes // CELL_BYTES // gallery)
            for start in range(0, queries, rows):
                self._stripe(slice(start, min(start + rows, queries)))
        return self

    def ranks(self) -> NDArray[np.int64]:
        """Ranks of the best right items."""
        found: NDArray[np.int64] = self.count.masked_fill(
            self.best == torch.inf, NO_POSITIVE
        ).numpy(force=True)
        return found

    def _needed(self, queries: Tensor) -> Tensor:
        """What a score must reach to count: (q,)."""
        last = self.top.scores[queries, -1] if self.top.scores.shape[1] else self.best[queries]
        return torch.minimum(last, self.best[queries])

    def _stripe(self, span: slice) -> None:
        left = self.direction.bounds(span)  # (q, G), -inf where a pair is done
        if torch.isnan(left).any():
            raise DataError("bounds hold NaN; the model cannot be pruned, or its weights are NaN")
        queries = torch.arange(span.start, span.stop, device=left.device)
        own = self._pairs(queries, left)
        if self.wanted.without_pairs:
            left = left.masked_fill(own, -torch.inf)
        size = max(FIRST, 2 * self.top.scores.shape[1])
        open_ = left > -torch.inf
        while bool(open_.any()):
            self._see_some(queries, left, own, size)
            size *= 2
            open_ = (left >= self._needed(queries)[:, None]) & (left > -torch.inf)
            if open_.float().mean() > WHOLE:
                self._see_whole(span, queries, left, own)
                return

    def _pairs(self, queries: Tensor, like: Tensor) -> Tensor:
        """Where the pairs stand in a stripe: (q, G) bool."""
        found = torch.zeros_like(like, dtype=torch.bool)
        if self.own is not None:
            pairs = torch.from_numpy(self.own.pairs).to(like.device)
            ours, others = pairs.T if self.direction.by_image else pairs.T.flip(0)
            inside = (ours >= queries[0]) & (ours <= queries[-1])
            found[ours[inside] - queries[0], others[inside]] = True
        return found

    def _see_some(self, queries: Tensor, left: Tensor, own: Tensor, size: int) -> None:
        """Score the next candidates of every query by falling bound, and mark them in `left`."""
        bounds, places = left.topk(min(size, left.shape[1]), dim=1)
        needed = self._needed(queries)[:, None]
        rows, slots = ((bounds >= needed) & (bounds > -torch.inf)).nonzero(as_tuple=True)
        items = places[rows, slots]
        values = torch.full_like(bounds, -torch.inf)
        values[rows, slots] = self.direction.some(queries[rows], items)
        left[rows, items] = -torch.inf
        self.scored += len(rows)
        self._take(queries, values, places, own.gather(1, places))

    def _see_whole(self, span: slice, queries: Tensor, left: Tensor, own: Tensor) -> None:
        """Score all that is left at once."""
        values = self.direction.whole(span).masked_fill(left == -torch.inf, -torch.inf)
        self.scored += values.numel()
        self._take(queries, values, torch.arange(values.shape[1], device=values.device), own)

    def _take(self, queries: Tensor, values: Tensor, items: Tensor, own: Tensor) -> None:
        if torch.isnan(values).any() or (values == torch.inf).any():
            raise DataError("scores hold NaN or infinity; they cannot be ranked")
        if self.wanted.ranks:
            wrong = (values >= self.best[queries][:, None]) & ~own
            self.count[queries] += wrong.sum(dim=1)
        self.top.see(queries, values, items)
