"""The best images for a sentence, and the best sentences for an image. No paper is named here."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from visavis.errors import DataError
from visavis.scoring.bounds import Bounded
from visavis.scoring.collect import Job, Wanted
from visavis.scoring.top_k import top_k
from visavis.types import Encoded, Matcher


@dataclass(frozen=True, slots=True)
class Hit:
    """One answer."""

    index: int  # row in the gallery
    score: float


def find_images(model: Matcher, images: Encoded, sentence: Encoded, k: int) -> list[Hit]:
    """The `k` images that fit one sentence best, best first.

    Equal scores keep the order of the gallery, so that an answer is always the same.

    Raises:
        DataError: an empty gallery, `k` below 1, scores that are NaN.
    """
    _check(len(images), k)
    wanted = Wanted(sentences=0, images=min(k, len(images)))
    found = top_k(model, images, sentence, wanted, job=_job(model))
    return _hits(found.images[0], found.image_scores[0])


def find_sentences(model: Matcher, image: Encoded, sentences: Encoded, k: int) -> list[Hit]:
    """The `k` sentences that fit one image best, best first.

    Raises:
        DataError: an empty gallery, `k` below 1, scores that are NaN.
    """
    _check(len(sentences), k)
    wanted = Wanted(sentences=min(k, len(sentences)), images=0)
    found = top_k(model, image, sentences, wanted, job=_job(model))
    return _hits(found.sentences[0], found.sentence_scores[0])


def _job(model: Matcher) -> Job:
    """Pairs that cannot be among the best are not scored, where the model knows bounds."""
    return Job(prune=isinstance(model, Bounded))


def _check(size: int, k: int) -> None:
    if size == 0:
        raise DataError("nothing to search in: the gallery is empty")
    if k < 1:
        raise DataError(f"{k} results were asked for; ask for at least 1")


def _hits(items: Tensor, scores: Tensor) -> list[Hit]:
    pairs = zip(items.tolist(), scores.tolist(), strict=True)
    return [Hit(index, score) for index, score in pairs if index >= 0]
