"""Sentences that say the same: the set G(T, K') of MTFN-RR (eq. 14), from three sources.

`none`: each sentence alone. `learned`: the nearest by any text-text similarity, given as a matrix
or as vectors whose inner products are it. `oracle`: the sentences of the same image by ground
truth, as the published code has it. It tells the method what it is to find, so its figures say
nothing about a model; it serves to see how far re-ranking could go, and everything made with it
says so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from visavis.errors import DataError
from visavis.rerank.matrices import BLOCK_BYTES, stripes

Kind = Literal["none", "learned", "oracle"]
KINDS: tuple[str, ...] = get_args(Kind)
GROUP = 5  # K': the paper gives none; the published code has the five sentences of an image


@dataclass(frozen=True, slots=True, eq=False)
class Groups:
    """The members of the group of every sentence, as pairs; each sentence is in its own group."""

    sentences: Tensor  # (E,) int64 the sentence T
    members: Tensor  # (E,) int64 one of G(T, K')
    count: int  # M
    kind: Kind

    def turned(self) -> Groups:
        """The groups {T' : T in G(T', K')}: those that T is a member of."""
        return Groups(self.members, self.sentences, self.count, self.kind)


def alone(count: int) -> Groups:
    """Each of `count` sentences by itself: re-ranking without text-text similarity.

    >>> alone(2).members.tolist()
    [0, 1]
    """
    each = torch.arange(count)
    return Groups(each, each, count, "none")


def nearest(similarity: Tensor, size: int = GROUP) -> Groups:
    """The sentence itself and its `size` - 1 nearest others by a similarity S_TT.

    Where the last of them is as similar as the first one left out, those of that similarity are
    left out too: no group depends on the order of the sentences.

    Args:
        similarity: (M, M); row T holds the similarity of T to every sentence.
        size: K', the sentence itself counted.

    Raises:
        DataError: not a square matrix, NaN, or a size that is below 1 or above M.

    >>> found = nearest(torch.tensor([[1.0, 0.2, 0.9], [0.2, 1.0, 0.3], [0.9, 0.3, 1.0]]), 2)
    >>> found.sentences.tolist(), found.members.tolist()
    ([0, 0, 1, 1, 2, 2], [0, 2, 1, 2, 2, 0])
    """
    if similarity.ndim != 2 or similarity.shape[0] != similarity.shape[1]:
        raise DataError(
            f"text-text similarity of shape {tuple(similarity.shape)}; expected (M, M), "
            "a row and a column for every sentence"
        )
    _check_size(size, len(similarity))
    parts = [
        _nearest(stripe.clone(), part.start, size)
        for part, stripe in stripes(similarity, "text-text similarities")
    ]
    return _joined(parts, len(similarity))


def nearest_vectors(
    vectors: Tensor,
    size: int = GROUP,
    *,
    others: Tensor | None = None,
    block_bytes: int = BLOCK_BYTES,
    advance: Callable[[int], None] | None = None,
) -> Groups:
    """As `nearest`, where inner products are the similarity; they are never all in memory.

    Args:
        vectors: (M, D) one vector for each sentence.
        size: K', the sentence itself counted.
        others: (M, D) the vectors of the other side, where S_TT(T, T') is not symmetric (eq. 6).
        block_bytes: how large a stripe of the similarity may be.
        advance: told how many sentences are done.

    Raises:
        DataError: no matrix, unlike shapes, NaN, or a size that is below 1 or above M.
    """
    keys = vectors if others is None else others
    if vectors.ndim != 2 or keys.shape != vectors.shape:
        raise DataError(
            f"sentence vectors of shapes {tuple(vectors.shape)} and {tuple(keys.shape)}; "
            "expected one shape (M, D)"
        )
    count = len(vectors)
    _check_size(size, count)
    for matrix in (vectors, keys):
        for _ in stripes(matrix, "sentence vectors"):
            pass  # looked through for NaN
    rows = max(1, block_bytes // (4 * count))
    turned = keys.float().T
    parts = []
    for start in range(0, count, rows):
        parts.append(_nearest(vectors[start : start + rows].float() @ turned, start, size))
        if advance is not None:
            advance(min(rows, count - start))
    return _joined(parts, count)


def oracle(pairs: NDArray[np.int64], count: int) -> Groups:
    """The sentences of the same image by ground truth: a diagnostic, never a result.

    Args:
        pairs: (P, 2) image index, sentence index.
        count: how many sentences there are; one without an image is alone.

    Raises:
        DataError: no ground truth, or a sentence that is not there.
    """
    unique = np.unique(np.asarray(pairs, dtype=np.int64).reshape(-1, 2), axis=0)
    if len(unique) == 0:
        raise DataError("oracle groups need ground truth, and there is not a single pair")
    if unique.min() < 0 or unique[:, 1].max() >= count:
        raise DataError(f"ground truth names sentence {unique[:, 1].max()} of {count}")
    _, first, sizes = np.unique(unique[:, 0], return_index=True, return_counts=True)
    first, sizes = np.repeat(first, sizes), np.repeat(sizes, sizes)  # per pair, of its image
    sentences = np.repeat(unique[:, 1], sizes)
    within = np.arange(len(sentences)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    members = unique[np.repeat(first, sizes) + within, 1]
    everyone = np.arange(count)
    edges = np.concatenate([np.stack([sentences, members]), np.stack([everyone, everyone])], axis=1)
    found = torch.from_numpy(np.unique(edges, axis=1))
    return Groups(found[0], found[1], count, "oracle")


def _check_size(size: int, count: int) -> None:
    if not 1 <= size <= count:
        raise DataError(f"groups of {size} among {count} sentences; give 1 to {count}")


def _nearest(similarity: Tensor, start: int, size: int) -> tuple[Tensor, Tensor]:
    """Pairs of the sentences start, start + 1, ...; their similarities (B, M) are used up."""
    rows = torch.arange(len(similarity), device=similarity.device)
    similarity[rows, rows + start] = torch.inf  # a sentence is the nearest of its own
    top = similarity.topk(min(size + 1, similarity.shape[1]), dim=1)
    kept = torch.ones_like(top.values[:, :size], dtype=torch.bool)
    if size < similarity.shape[1]:
        kept = top.values[:, :size] > top.values[:, size:]
    place = kept.nonzero()
    return (place[:, 0] + start).cpu(), top.indices[:, :size][kept].cpu()


def _joined(parts: list[tuple[Tensor, Tensor]], count: int) -> Groups:
    sentences, members = (torch.cat(side) for side in zip(*parts, strict=True))
    return Groups(sentences, members, count, "learned")
