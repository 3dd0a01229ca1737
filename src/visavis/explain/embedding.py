"""Fused vectors of true and false pairs: can a plane part them, and what do they look like?

MTFN-RR (Wang et al. 2019), Fig. 4: fused vectors by t-SNE in the plane, with the boundary and the
accuracy of a linear SVM. The paper leaves open where the accuracy was measured. Here it is that of
pairs that the SVM did not learn from, with none of their images and sentences, once among the fused
vectors themselves and once in the plane; t-SNE places all pairs together, without being told which
are which.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from inspect import ismethod
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from visavis.explain.charts import COLOURS, panels
from visavis.explain.true_and_false import TrueAndFalse
from visavis.types import ImageBatch, SentenceBatch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from sklearn.svm import LinearSVC

FEW = 2  # columns, among which nothing can be learned by heart
WIDEST = 50  # columns that t-SNE is given: more are reduced to as many principal directions

Floats = NDArray[np.float64]


@runtime_checkable
class Fusing(Protocol):
    """A model that makes one vector of a pair before it scores it."""

    def fusion_vectors(self, images: ImageBatch, sentences: SentenceBatch) -> Tensor:
        """The fused vector of row p of one side with row p of the other: (P, F)."""
        ...


def is_fusing(model: object) -> bool:
    """Whether a model is `Fusing`."""
    return isinstance(model, Fusing) and ismethod(model.fusion_vectors)


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Share of pairs on the right side of a boundary that was learned from others."""

    mean: float  # over the folds
    folds: tuple[float, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Embedding:
    """Fused vectors of one model, parted and drawn in the plane."""

    dimensions: int  # of the fused vectors
    points: Floats  # (2 P, 2), each column with mean 0 and deviation 1
    boundary: tuple[float, float, float]  # a x + b y + c = 0 of an SVM on all points, for drawing
    full: Accuracy  # of an SVM among the fused vectors
    plane: Accuracy  # of one in the plane
    score: Accuracy  # of a threshold on the model's own score


def embed(
    vectors: NDArray[np.float32],
    scores: NDArray[np.float32],
    pairs: TrueAndFalse,
    *,
    perplexity: float = 30.0,
    seed: int = 0,
) -> Embedding:
    """Part fused vectors by linear SVMs, and lay them out by t-SNE.

    Args:
        vectors: (2 P, F), of the pairs in their order.
        scores: (2 P,) what the model makes of them.
        pairs: which belong together, and folds for the accuracies.
        perplexity: of t-SNE, less than the number of pairs.
        seed: of t-SNE.
    """
    points = _standardised(_plane(vectors, perplexity, seed))
    final = _svm(points, pairs.true)
    return Embedding(
        dimensions=vectors.shape[1],
        points=points,
        boundary=(float(final.coef_[0, 0]), float(final.coef_[0, 1]), float(final.intercept_[0])),
        full=_accuracy(vectors.astype(np.float64), pairs),
        plane=_accuracy(points, pairs),
        score=_accuracy(scores.astype(np.float64)[:, None], pairs),
    )


def _plane(vectors: NDArray[np.float32], perplexity: float, seed: int) -> Floats:
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    if vectors.shape[1] > WIDEST:
        parts = min(WIDEST, len(vectors))
        vectors = PCA(parts, svd_solver="covariance_eigh").fit_transform(vectors)
    found: Floats = TSNE(2, perplexity=perplexity, init="pca", random_state=seed).fit_transform(
        vectors
    )
    return found


def _standardised(values: Floats) -> Floats:
    spread = values.std(axis=0)
    found: Floats = (values - values.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    return found


def _svm(values: Floats, true: NDArray[np.bool_]) -> LinearSVC:
    """A linear SVM; among many columns its loss is a mean, so that it does not learn by heart."""
    from sklearn.svm import LinearSVC

    weight = 1.0 if values.shape[1] <= FEW else 2 / len(values)
    # The primal form draws no random numbers, and ends where the dual may not.
    return LinearSVC(dual=False, C=weight, max_iter=10_000).fit(values, true)


def _accuracy(values: Floats, pairs: TrueAndFalse) -> Accuracy:
    """Of an SVM on standardised columns, over the folds."""
    found = []
    for fold in np.unique(pairs.folds):
        seen = pairs.folds != fold
        centre, spread = values[seen].mean(axis=0), values[seen].std(axis=0)
        scaled = (values - centre) / np.where(spread > 0, spread, 1.0)
        model = _svm(scaled[seen], pairs.true[seen])
        found.append(float((model.predict(scaled[~seen]) == pairs.true[~seen]).mean()))
    return Accuracy(float(np.mean(found)), tuple(found))


def draw_embeddings(
    found: Sequence[Embedding],
    names: Sequence[str],
    true: NDArray[np.bool_],
    notes: tuple[str, str],
) -> Figure:
    """A panel for each model, with the boundary dashed.

    Args:
        found: one for each model.
        names: of the models, as they stand above the panels.
        true: which pairs belong together: (2 P,).
        notes: the title, and what stands below.
    """
    figure, axes = panels(*notes, len(found), size=(5.6, 5.6))
    for part, name, one in zip(axes, names, found, strict=True):
        _panel(part, one, true)
        told = (
            f"accuracy: {one.full.mean:.1%} in {one.dimensions:,} dimensions, "
            f"{one.plane.mean:.1%} in the plane,\n{one.score.mean:.1%} by a threshold on the score"
        )
        part.set_title(f"{textwrap.fill(name, 60)}\n{told}", fontsize=10, loc="left")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper right", fontsize=9)
    return figure


def _panel(axes: Axes, found: Embedding, true: NDArray[np.bool_]) -> None:
    for belongs, colour, marker, size, label in (
        (False, COLOURS[1], "x", 12, "do not belong together"),
        (True, COLOURS[0], ".", 36, "belong together"),
    ):
        x, y = found.points[true == belongs].T
        edge = 0.8 if marker == "x" else 0
        axes.scatter(x, y, s=size, c=colour, marker=marker, linewidths=edge, alpha=0.6, label=label)
    low, high = found.points.min(axis=0) - 0.1, found.points.max(axis=0) + 0.1
    a, b, c = found.boundary
    if max(abs(a), abs(b)) > 0:
        ends = _two_points(a, b, c)
        axes.axline(*ends, color="black", linestyle="--", label="boundary of a linear SVM")
    axes.set_xlim(low[0], high[0])
    axes.set_ylim(low[1], high[1])
    axes.set_box_aspect(1)
    axes.set_xticks([])
    axes.set_yticks([])


def _two_points(a: float, b: float, c: float) -> tuple[tuple[float, float], tuple[float, float]]:
    """Two points of the line a x + b y + c = 0."""
    square = a * a + b * b
    x, y = -a * c / square, -b * c / square
    return (x, y), (x - b, y + a)
