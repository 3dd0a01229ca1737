"""The value types that travel between the parts, and the protocol that every model follows.

Letters for shapes: N images, M sentences, R regions, W words, L tokens, D width, P pairs.
Rows are images and columns are sentences, everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Protocol, Self, runtime_checkable

import torch
from torch import Tensor

from visavis.errors import DataError


class _Batch:
    """Slicing and moving, shared by the dataclasses of tensors whose first axis counts items."""

    __slots__ = ()

    def _map(self, function: Callable[[Tensor], Tensor]) -> Self:
        values: dict[str, object] = {}
        done: dict[int, Tensor] = {}  # a tensor that stands in two fields stays one tensor
        for entry in fields(self):  # type: ignore[arg-type]
            value = getattr(self, entry.name)
            if isinstance(value, Tensor):
                if id(value) not in done:
                    done[id(value)] = function(value)
                values[entry.name] = done[id(value)]
            elif isinstance(value, Mapping):
                values[entry.name] = {key: function(item) for key, item in value.items()}
            else:
                values[entry.name] = value
        return type(self)(**values)

    def to(self, device: torch.device | str) -> Self:
        """The same items on a device."""
        return self._map(lambda tensor: tensor.to(device))

    def select(self, items: Tensor | slice) -> Self:
        """Some of the items: an index tensor, a boolean mask or a slice over the first axis."""
        return self._map(lambda tensor: tensor[items])


@dataclass(frozen=True, slots=True)
class ImageBatch(_Batch):
    """Region vectors of N images."""

    regions: Tensor  # (N, R, D) float
    mask: Tensor  # (N, R) bool, True where a region is real
    boxes: Tensor | None = None  # (N, R, 4) x1 y1 x2 y2 as fractions of width and height

    def __len__(self) -> int:
        return self.mask.shape[0]


@dataclass(frozen=True, slots=True)
class SentenceBatch(_Batch):
    """Token ids of M sentences, with the states of a frozen language model when one is used."""

    ids: Tensor  # (M, W) int64
    mask: Tensor  # (M, W) bool, True where a token is real
    states: Tensor | None = None  # (M, W, H) hidden states of a frozen encoder

    def __len__(self) -> int:
        return self.mask.shape[0]


@dataclass(frozen=True, slots=True)
class Encoded(_Batch):
    """What a model keeps of N items. Slicing, joining, storing and moving it need no model."""

    tokens: Tensor  # (N, L, D) region or word vectors
    mask: Tensor  # (N, L) bool, True where a token is real
    pooled: Tensor | None = None  # (N, P) unit vectors, comparable by inner product
    extra: Mapping[str, Tensor] = field(
        default_factory=dict
    )  # whatever else is precomputed, (N, ...)

    def __len__(self) -> int:
        return self.mask.shape[0]

    def trimmed(self) -> Encoded:
        """The same items without the last token columns that are padding for all of them.

        Entries of `extra` are kept as they are; a model cuts those that have a token axis.
        """
        used = self.mask.any(dim=0).nonzero()
        length = int(used[-1]) + 1 if len(used) else 1
        return Encoded(self.tokens[:, :length], self.mask[:, :length], self.pooled, self.extra)

    @staticmethod
    def join(parts: Sequence[Encoded]) -> Encoded:
        """One after the other; shorter axes are padded with False and 0."""
        first = parts[0]
        return Encoded(
            tokens=_join([part.tokens for part in parts]),
            mask=_join([part.mask for part in parts]),
            pooled=None if first.pooled is None else _join([_given(part.pooled) for part in parts]),
            extra={key: _join([part.extra[key] for part in parts]) for key in first.extra},
        )


def _join(tensors: Sequence[Tensor]) -> Tensor:
    shape = [max(sizes) for sizes in zip(*(tensor.shape[1:] for tensor in tensors), strict=True)]
    joined = tensors[0].new_zeros((sum(len(tensor) for tensor in tensors), *shape))
    start = 0
    for tensor in tensors:
        joined[(slice(start, start + len(tensor)), *map(slice, tensor.shape[1:]))] = tensor
        start += len(tensor)
    return joined


def _given(tensor: Tensor | None) -> Tensor:
    if tensor is None:
        raise ValueError("some parts have pooled vectors and others have none")
    return tensor


@dataclass(frozen=True, slots=True)
class Scores(_Batch):
    """Relevance of images (rows) and sentences (columns)."""

    i2t: Tensor  # (N, M), or (P,) for aligned pairs: ranks sentences for an image
    t2i: Tensor  # the same shape: ranks images for a sentence; the same tensor unless decoupled

    @property
    def decoupled(self) -> bool:
        """Whether the two directions are scored differently."""
        return self.i2t is not self.t2i

    def matrix_shape(self) -> tuple[int, int]:
        """The shape (N, M) that both directions have.

        Raises:
            DataError: unlike shapes, no matrix, nothing in it, or no floating point numbers.
        """
        first, second = tuple(self.i2t.shape), tuple(self.t2i.shape)
        if first != second or len(first) != 2 or 0 in first:
            raise DataError(
                f"scores of shapes {first} and {second}; expected one shape (N, M) for both"
            )
        for matrix in (self.i2t, self.t2i):
            if not matrix.is_floating_point():
                raise DataError(f"scores of type {matrix.dtype}; expected floating point numbers")
        return first[0], first[1]

    @staticmethod
    def shared(scores: Tensor) -> Scores:
        """One matrix for both directions."""
        return Scores(scores, scores)


@runtime_checkable
class Matcher(Protocol):
    """What training, evaluation, search and explanation know of a model."""

    def encode_images(self, images: ImageBatch) -> Encoded:
        """Everything about images that does not depend on a sentence."""
        ...

    def encode_sentences(self, sentences: SentenceBatch) -> Encoded:
        """Everything about sentences that does not depend on an image."""
        ...

    def score(self, images: Encoded, sentences: Encoded) -> Scores:
        """Every image with every sentence: (N, M)."""
        ...

    def score_pairs(self, images: Encoded, sentences: Encoded) -> Scores:
        """Row p of one with row p of the other: (P,)."""
        ...


@dataclass(frozen=True, slots=True)
class TrainingStep:
    """A training batch, what the model made of it, and when: row p of both sides is a pair."""

    images: ImageBatch  # N of them; an image with two sentences in the batch stands in it twice
    sentences: SentenceBatch  # N of them
    encoded_images: Encoded  # float32, as scores are made of it
    encoded_sentences: Encoded
    positives: Tensor  # (N, N) bool, True on the diagonal and wherever else no negative may be
    epoch: int  # counted from 0


@runtime_checkable
class OwnTerms(Protocol):
    """A model that brings loss terms beside the ranking loss, as some papers do."""

    def own_terms(self, step: TrainingStep) -> Mapping[str, Tensor]:
        """Named scalars, already weighted, that are added to the ranking loss.

        Called for every training batch, in full precision; the names stay the same, and none is
        `loss` or `ranking`.
        """
        ...


@runtime_checkable
class ComparesSentences(Protocol):
    """A model that learned how alike two sentences are, as MTFN's S_TT."""

    def text_vectors(self, sentences: Encoded) -> tuple[Tensor, Tensor]:
        """Two (M, P) matrices: S_TT(T, T') rises with the product of row T and row T'."""
        ...
