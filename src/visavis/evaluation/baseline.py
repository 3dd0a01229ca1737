"""The linear baseline that a trained model must beat, on the vectors that the model sees.

An image is the mean of its region vectors (per group of regions where they come from several
sources), a sentence its bag of words, and regularised CCA joins them: see `visavis.evaluation.cca`.
No order of words, no single region: what a model scores above it is what it learnt of those.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from visavis.data.corpus import Corpus
from visavis.data.features import Features
from visavis.errors import DataError
from visavis.evaluation.cca import BagOfWords, Moments, Ridge, TfIdf, check_fit
from visavis.metrics.ranks import ranks, unique_pairs
from visavis.metrics.recall import recall_metrics
from visavis.types import Scores

ALL_REGIONS = (slice(None),)
DIMS = 128
GRID = tuple(
    Ridge(image=image, text=text) for image in (0.05, 0.2, 0.8) for text in (0.3, 1.0, 3.0)
)
_LEFT_OUT = 1000
_BATCH = 256

OnStep = Callable[[int, int], None]  # told how many steps are done, of how many


@dataclass(frozen=True, slots=True, eq=False)
class Baseline:
    """A fitted baseline with the features it reads: a scorer for `evaluate`."""

    model: BagOfWords
    ridge: Ridge
    features: Features
    groups: tuple[slice, ...]

    def __call__(self, corpus: Corpus) -> Scores:
        """The (N, M) scores of a corpus whose images have rows in the features."""
        vectors = mean_vectors(self.features, feature_rows(corpus, self.features), self.groups)
        return Scores.shared(self.model.score(vectors, corpus.sentence_texts))


def fit_baseline(
    train: Corpus,
    features: Features,
    *,
    groups: Sequence[slice] = ALL_REGIONS,
    seed: int = 0,
    on_step: OnStep | None = None,
) -> Baseline:
    """Choose the ridges on a part of train that is left out, then fit on all of it.

    Args:
        train: the training images, and no others.
        features: where the region vectors lie.
        groups: which regions are averaged together; their means are joined.
        seed: of the part that is left out.
        on_step: told of progress.

    Raises:
        DataError: an image without a row, too few images or too little text.
    """
    vectors = mean_vectors(features, feature_rows(train, features), groups)
    ridge = choose_ridge(vectors, train.sentence_texts, train.pairs, seed=seed, on_step=on_step)
    model = BagOfWords.fit(
        vectors, train.sentence_texts, train.pairs, dims=DIMS, regularisation=ridge
    )
    return Baseline(model, ridge, features, tuple(groups))


def choose_ridge(
    vectors: NDArray[np.float32],
    texts: Sequence[str],
    pairs: NDArray[np.int64],
    *,
    seed: int = 0,
    on_step: OnStep | None = None,
) -> Ridge:
    """The entry of `GRID` with the best rsum on a part that is left out of the fit.

    A fifth of the images with sentences, at most 1,000, is left out with all their sentences.

    Raises:
        DataError: fewer than ten images with sentences.
    """
    check_fit(vectors, pairs)
    edges = unique_pairs(pairs)
    images = np.unique(edges[:, 0])
    if len(images) < 10:
        raise DataError(f"{len(images)} images with sentences; ten are needed to leave some out")
    order = np.random.default_rng(seed).permutation(images)
    left_out = np.sort(order[: min(_LEFT_OUT, len(images) // 5)])
    held = np.isin(edges[:, 0], left_out)
    # A sentence of both parts would be known to the fit: it stays out of it.
    kept = edges[~held & ~np.isin(edges[:, 1], edges[held, 1])]
    words, fit_texts, fit_pairs = _gathered(texts, kept)
    moments = Moments.of(vectors, words.transform(fit_texts), fit_pairs)
    sentences, columns = np.unique(edges[held, 1], return_inverse=True)
    held_pairs = np.stack([np.searchsorted(left_out, edges[held, 0]), columns], axis=1)
    held_texts = [texts[j] for j in sentences]
    found = []
    for done, ridge in enumerate(GRID, start=1):
        model = BagOfWords.solve(words, moments, dims=DIMS, ridge=ridge)
        scores = Scores.shared(model.score(vectors[left_out], held_texts))
        found.append(recall_metrics(ranks(scores, held_pairs))["rsum"])
        if on_step is not None:
            on_step(done, len(GRID))
    return GRID[int(np.argmax(found))]


def mean_vectors(
    features: Features, rows: NDArray[np.int64], groups: Sequence[slice] = ALL_REGIONS
) -> NDArray[np.float32]:
    """The mean region vector of each image and group, joined: (N, groups x D) float32.

    Only real regions count; a group without one gives zeros. Rows are read a few at a time.
    """
    means = np.zeros((len(rows), len(groups), features.dim), dtype=np.float32)
    for start in range(0, len(rows), _BATCH):
        batch = features.read(rows[start : start + _BATCH])
        for number, group in enumerate(groups):
            mask = batch.mask[:, group, None]  # (B, R, 1)
            total = (batch.regions[:, group] * mask).sum(dim=1)  # (B, D)
            mean = total / mask.sum(dim=1).clamp_min(1)
            means[start : start + _BATCH, number] = mean.numpy()
    return means.reshape(len(rows), -1)


def feature_rows(corpus: Corpus, features: Features) -> NDArray[np.int64]:
    """The row of each image: by id where the features have ids, by the corpus's own rows else.

    Raises:
        DataError: an image that the features do not have.
    """
    if features.ids is not None:
        places = {name: row for row, name in enumerate(features.ids)}
        missing = [name for name in corpus.image_ids if name not in places]
        if missing:
            raise DataError(
                f"{corpus.name}: {len(missing)} images have no features, {missing[0]!r} first; "
                "extract them"
            )
        return np.array([places[name] for name in corpus.image_ids], dtype=np.int64)
    if corpus.rows is None:
        raise DataError(
            f"{corpus.name}: neither the features have ids nor the corpus rows; "
            "images cannot be found"
        )
    if len(corpus.rows) and corpus.rows.max() >= len(features):
        raise DataError(
            f"{corpus.name}: row {corpus.rows.max()} is wanted, the features have {len(features)}"
        )
    return corpus.rows


def _gathered(
    texts: Sequence[str], pairs: NDArray[np.int64]
) -> tuple[TfIdf, list[str], NDArray[np.int64]]:
    """The sentences that some pairs name, numbered anew, and their vocabulary."""
    sentences, columns = np.unique(pairs[:, 1], return_inverse=True)
    chosen = [texts[j] for j in sentences]
    return TfIdf.fit(chosen), chosen, np.stack([pairs[:, 0], columns], axis=1)
