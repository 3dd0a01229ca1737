"""The best images for a sentence, and the best sentences for an image. No paper is named here."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from visavis.errors import DataError
from visavis.scoring.matrix import score_matrix
from visavis.types import Encoded, Matcher


@dataclass(frozen=True, slots=True)
class Hit:
    """One answer."""

    index: int  # row in the gallery
    score: float


def find_images(model: Matcher, images: Encoded, sentence: Encoded, k: int) -> list[Hit]:
    """The `k` images that fit one sentence best, best first.

    Raises:
        DataError: an empty gallery, or `k` below 1.
    """
    _check(len(images), k)
    return _best(score_matrix(model, images, sentence).t2i[:, 0], k)


def find_sentences(model: Matcher, image: Encoded, sentences: Encoded, k: int) -> list[Hit]:
    """The `k` sentences that fit one image best, best first.

    Raises:
        DataError: an empty gallery, or `k` below 1.
    """
    _check(len(sentences), k)
    return _best(score_matrix(model, image, sentences).i2t[0], k)


def _check(size: int, k: int) -> None:
    if size == 0:
        raise DataError("nothing to search in: the gallery is empty")
    if k < 1:
        raise DataError(f"{k} results were asked for; ask for at least 1")


def _best(scores: Tensor, k: int) -> list[Hit]:
    """Equal scores keep the order of the gallery, so that an answer is always the same."""
    order = torch.sort(scores, descending=True, stable=True).indices[:k]
    return [Hit(int(index), float(scores[index])) for index in order]
