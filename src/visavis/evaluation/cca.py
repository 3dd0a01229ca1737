"""Regularised canonical correlation between image vectors and bags of words.

Hotelling, Relations between two sets of variates, 1936; as a retrieval baseline: Hodosh, Young and
Hockenmaier, Framing Image Description as a Ranking Task, JAIR 2013. Axes are scaled by their
correlation before the cosine (Gong et al., A Multi-View Embedding Space, IJCV 2014, with power 1):
a direction on which the two sides hardly agree should hardly count.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import linalg, sparse
from torch import Tensor

from visavis.errors import DataError
from visavis.metrics.ranks import unique_pairs

MIN_COUNT = 5
MAX_WORDS = 5000  # the covariance of words is a matrix of this side
_ROWS = 4096  # vectors raised to float64 at a time
_WORD = re.compile(r"[^\W_]+")

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Ridge:
    """What is added to the diagonals, in units of the mean variance of each side."""

    image: float = 0.1
    text: float = 1.0

    def __post_init__(self) -> None:
        if not (self.image > 0 and self.text > 0):
            raise ValueError(f"ridge {self.image}, {self.text}; both must be above 0")


@dataclass(frozen=True, slots=True, eq=False)
class TfIdf:
    """Unigrams of lower-cased text, weighted by rarity, each sentence of unit length."""

    places: dict[str, int]
    rarity: Array  # (V,) log((1 + M) / (1 + sentences with the word)) + 1

    @classmethod
    def fit(cls, texts: Sequence[str], min_count: int = MIN_COUNT) -> Self:
        """Keep words of at least `min_count` sentences, the `MAX_WORDS` most frequent.

        Raises:
            DataError: no word is frequent enough.
        """
        counts = Counter(word for text in texts for word in set(_words(text)))
        common = sorted((-count, word) for word, count in counts.items() if count >= min_count)
        words = [word for _, word in common[:MAX_WORDS]]
        if not words:
            raise DataError(
                f"no word stands in {min_count} of {len(texts)} sentences; "
                "a bag of words needs more text"
            )
        frequency = np.array([counts[word] for word in words])
        rarity = np.log((1 + len(texts)) / (1 + frequency)) + 1.0
        return cls({word: place for place, word in enumerate(words)}, rarity)

    def transform(self, texts: Sequence[str]) -> sparse.csr_array:
        """(M, V); a sentence of unknown words alone is a row of zeros."""
        rows, columns = [], []
        for row, text in enumerate(texts):
            known = [self.places[word] for word in _words(text) if word in self.places]
            rows += [row] * len(known)
            columns += known
        shape = (len(texts), len(self.rarity))
        bags = sparse.coo_array((self.rarity[columns], (rows, columns)), shape=shape).tocsr()
        length = np.sqrt((bags * bags).sum(axis=1))
        return sparse.diags_array(1.0 / np.where(length > 0, length, 1.0)) @ bags


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """Means and covariances over the pairs of a corpus: all that a fit needs of it."""

    image_mean: Array  # (D,)
    text_mean: Array  # (V,)
    image: Array  # (D, D)
    text: Array  # (V, V)
    cross: Array  # (D, V)

    @classmethod
    def of(
        cls, vectors: NDArray[np.float32], bags: sparse.csr_array, pairs: NDArray[np.int64]
    ) -> Self:
        """Each pair counts once; pairs are never laid out, only counted."""
        edges = unique_pairs(pairs)
        links = sparse.csr_array(
            (np.ones(len(edges)), (edges[:, 0], edges[:, 1])), shape=(len(vectors), bags.shape[0])
        )
        per_image, per_sentence = links.sum(axis=1), links.sum(axis=0)
        total = float(len(edges))
        words = links @ bags  # (N, V) the words of each image's sentences
        square = np.zeros((vectors.shape[1], vectors.shape[1]))
        cross = np.zeros((vectors.shape[1], bags.shape[1]))
        image_mean = np.zeros(vectors.shape[1])
        for start in range(0, len(vectors), _ROWS):
            part = vectors[start : start + _ROWS].astype(np.float64)
            weight = per_image[start : start + _ROWS]
            square += part.T @ (part * weight[:, None]) / total
            cross += (words[start : start + _ROWS].T @ part).T / total
            image_mean += weight @ part / total
        text_mean = np.asarray(bags.T @ per_sentence) / total
        text = (bags.T @ (sparse.diags_array(per_sentence) @ bags)).toarray() / total
        return cls(
            image_mean=image_mean,
            text_mean=text_mean,
            image=square - np.outer(image_mean, image_mean),
            text=text - np.outer(text_mean, text_mean),
            cross=cross - np.outer(image_mean, text_mean),
        )


@dataclass(frozen=True, slots=True, eq=False)
class BagOfWords:
    """Images and sentences in the space where they correlate most."""

    words: TfIdf
    image_mean: Array  # (D,)
    text_mean: Array  # (V,)
    image_axes: Array  # (D, K)
    text_axes: Array  # (V, K)

    @classmethod
    def fit(
        cls,
        vectors: NDArray[np.float32],
        texts: Sequence[str],
        pairs: NDArray[np.int64],
        *,
        dims: int = 128,
        regularisation: Ridge | None = None,
    ) -> Self:
        """Fit on the pairs of a training corpus.

        Args:
            vectors: (N, D), one per image.
            texts: M sentences.
            pairs: (P, 2) image index, sentence index.
            dims: how many axes are kept, at most.
            regularisation: the ridges.

        Raises:
            DataError: vectors with NaN or infinity, no pair, too little text.
        """
        check_fit(vectors, pairs)
        words = TfIdf.fit(texts)
        moments = Moments.of(vectors, words.transform(texts), pairs)
        return cls.solve(words, moments, dims=dims, ridge=regularisation or Ridge())

    @classmethod
    def solve(cls, words: TfIdf, moments: Moments, *, dims: int, ridge: Ridge) -> Self:
        """Singular vectors of the whitened cross covariance, scaled by their correlations."""
        image_root = _root(moments.image, ridge.image)  # L with L L' = covariance + ridge
        text_root = _root(moments.text, ridge.text)
        half = linalg.solve_triangular(image_root, moments.cross, lower=True)  # (D, V)
        whitened = linalg.solve_triangular(text_root, half.T, lower=True).T  # (D, V)
        left, correlations, right = linalg.svd(whitened, full_matrices=False)
        kept = slice(0, dims)
        scale = correlations[kept]
        return cls(
            words=words,
            image_mean=moments.image_mean,
            text_mean=moments.text_mean,
            image_axes=linalg.solve_triangular(image_root.T, left[:, kept]) * scale,
            text_axes=linalg.solve_triangular(text_root.T, right[kept].T) * scale,
        )

    def score(self, vectors: NDArray[np.float32], texts: Sequence[str]) -> Tensor:
        """Cosines of N images and M sentences: (N, M) float32.

        Raises:
            DataError: vectors of another width than those of the fit.
        """
        if vectors.ndim != 2 or vectors.shape[1] != len(self.image_mean):
            raise DataError(
                f"vectors of shape {vectors.shape}; the baseline was fitted on "
                f"(N, {len(self.image_mean)})"
            )
        images = _unit((vectors.astype(np.float64) - self.image_mean) @ self.image_axes)
        bags = self.words.transform(texts)
        sentences = _unit(bags @ self.text_axes - self.text_mean @ self.text_axes)
        return torch.from_numpy(images.astype(np.float32) @ sentences.astype(np.float32).T)


def check_fit(vectors: NDArray[np.float32], pairs: NDArray[np.int64]) -> None:
    """Refuse what no baseline can be fitted on.

    Raises:
        DataError: vectors that are no matrix or hold NaN or infinity; fewer than two pairs.
    """
    if vectors.ndim != 2 or not np.isfinite(vectors).all():
        raise DataError(f"image vectors of shape {vectors.shape}; expected (N, D), all finite")
    if len(pairs) < 2:
        raise DataError(f"{len(pairs)} pairs; a baseline needs at least two to fit")


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def _root(covariance: Array, ridge: float) -> Array:
    size = len(covariance)
    # Vectors that never vary have no variance to take a share of: one keeps the root defined.
    unit = float(np.trace(covariance)) / size or 1.0
    lower: Array = linalg.cholesky(covariance + ridge * unit * np.eye(size), lower=True)
    return lower


def _unit(rows: Array) -> Array:
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: Array = rows / np.where(length > 0, length, 1.0)
    return unit
