"""Where pairs stand among the wrong pairs of both directions at once.

AOQ (Chen et al., ECCV 2020), Fig. 6: the rank r_i of a pair among the pairs of its sentence with
wrong images, its rank r_t among those of its image with wrong sentences, and the cross-retrieval
rank max(5 r_i - 4, r_t), where 5 is how many times more sentences than images there are. It is 1
when no wrong pair with either side scores as high.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from visavis.errors import DataError
from visavis.explain.charts import COLOURS, colour, panels, plain_axes
from visavis.types import Scores

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# The last rank of each interval; what comes after has the last one.
EDGES = (1, 5, 10, 20, 50, 100, 200)
INTERVALS = ("1", "2-5", "6-10", "11-20", "21-50", "51-100", "101-200", "above 200")
BLOCK_BYTES = 32 << 20


@dataclass(frozen=True, slots=True, eq=False)
class CrossRanks:
    """Ranks of P pairs, from 1; ties lose."""

    pairs: NDArray[np.int64]  # (P, 2)
    among_images: NDArray[np.int64]  # (P,) r_i
    among_sentences: NDArray[np.int64]  # (P,) r_t
    each: float  # sentences per image

    @property
    def cross(self) -> NDArray[np.float64]:
        """The worse of the two, in the measure of sentences: (P,)."""
        weighted = self.each * (self.among_images - 1) + 1
        found: NDArray[np.float64] = np.maximum(weighted, self.among_sentences)
        return found

    @property
    def counts(self) -> tuple[int, ...]:
        """Pairs in each of `INTERVALS`."""
        places = np.searchsorted(np.array(EDGES), self.cross)
        return tuple(np.bincount(places, minlength=len(INTERVALS)).tolist())


def cross_ranks(scores: Scores, pairs: NDArray[np.int64]) -> CrossRanks:
    """Rank every pair of the ground truth among the wrong pairs with its sentence and its image.

    Args:
        scores: (N, M) for both directions.
        pairs: (P, 2) image, sentence.

    Raises:
        DataError: no pair, or scores that are not finite.

    >>> scores = Scores.shared(torch.tensor([[0.9, 0.2], [0.5, 0.1]]))
    >>> found = cross_ranks(scores, np.array([[0, 0], [1, 1]]))
    >>> found.among_images.tolist(), found.among_sentences.tolist()
    ([1, 2], [1, 2])
    """
    pairs = np.unique(pairs, axis=0)
    if not len(pairs):
        raise DataError("ground truth without a single pair; nothing can be ranked")
    images, sentences = scores.i2t.shape
    return CrossRanks(
        pairs=pairs,
        among_images=_ranks(scores.t2i.T, pairs[:, ::-1]),
        among_sentences=_ranks(scores.i2t, pairs),
        each=sentences / images,
    )


def _ranks(scores: Tensor, pairs: NDArray[np.int64]) -> NDArray[np.int64]:
    """1 and the number of wrong columns that score at least as high in the pair's row: (P,)."""
    rows, columns = (torch.from_numpy(side.copy()) for side in pairs.T)
    order = rows.argsort(stable=True)
    found = torch.empty(len(pairs), dtype=torch.int64)
    height = max(1, BLOCK_BYTES // (scores.shape[1] * scores.element_size()))
    for start in range(0, len(order), height):
        part = order[start : start + height]
        found[part] = (_row_of(scores, rows[part]) >= _of(scores, rows, columns, part)).sum(dim=1)
    # Own columns at or above were counted too: each pair with all the pairs of its row.
    value = scores[rows, columns]
    counts = torch.bincount(rows, minlength=int(rows.max()) + 1)
    own = value.new_full((len(counts), int(counts.max())), -torch.inf)
    place = torch.arange(len(order)) - (counts.cumsum(0) - counts)[rows[order]]
    own[rows[order], place] = value[order]
    for start in range(0, len(order), height):
        some = slice(start, start + height)
        found[some] -= (own[rows[some]] >= value[some, None]).sum(dim=1)
    return (found + 1).numpy()


def _row_of(scores: Tensor, rows: Tensor) -> Tensor:
    found = scores[rows].float()
    if not bool(torch.isfinite(found).all()):
        raise DataError("a score is not finite; such scores cannot be ranked")
    return found


def _of(scores: Tensor, rows: Tensor, columns: Tensor, part: Tensor) -> Tensor:
    return scores[rows[part], columns[part]].float()[:, None]


def draw_cross_ranks(
    found: Sequence[CrossRanks], names: Sequence[str], notes: tuple[str, str]
) -> Figure:
    """Bars of every model for each interval.

    Args:
        found: one for each model.
        names: of the models.
        notes: the title, and what stands below.
    """
    figure, (axes,) = panels(*notes, 1, size=(10.0, 5.0))
    plain_axes(axes)
    axes.grid(visible=False, axis="x")
    width = 0.8 / len(found)
    for number, (name, one) in enumerate(zip(names, found, strict=True)):
        places = np.arange(len(INTERVALS)) + (number - (len(found) - 1) / 2) * width
        shares = 100 * np.array(one.counts) / len(one.pairs)
        bars = axes.bar(
            places,
            shares,
            width * 0.94,
            color=colour(number),
            label=name,
            hatch="" if number < len(COLOURS) else "//",
        )
        axes.bar_label(bars, [f"{share:.1f}" for share in shares], fontsize=max(5, 9 - len(found)))
    axes.set_xticks(np.arange(len(INTERVALS)), INTERVALS)
    axes.set_xlabel("cross-retrieval rank")
    axes.set_ylabel("share of the pairs, %")
    axes.legend()
    return figure
