"""What a collection of images and sentences is, whatever file format it came from."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from visavis.errors import DataError


@dataclass(frozen=True, slots=True, eq=False)
class Corpus:
    """Images, sentences and which of them belong together.

    Ground truth is the explicit list `pairs`: any number of sentences per image, a sentence may
    have several images, and nothing is derived from positions.
    """

    name: str
    image_ids: tuple[str, ...]  # N, unique
    image_splits: tuple[str, ...]  # N: train, restval, val, test, ...
    sentence_ids: tuple[str, ...]  # M, unique
    sentence_texts: tuple[str, ...]  # M
    pairs: NDArray[np.int64]  # (P, 2) image index, sentence index
    rows: NDArray[np.int64] | None = None  # (N,) row of each image in the corpus's own features
    pictures: tuple[Path | None, ...] | None = None  # N, where the picture file lies

    def __post_init__(self) -> None:
        if len(self.image_splits) != len(self.image_ids):
            raise DataError(
                f"{self.name}: {len(self.image_ids)} images, {len(self.image_splits)} splits"
            )
        if len(self.sentence_texts) != len(self.sentence_ids):
            raise DataError(
                f"{self.name}: {len(self.sentence_ids)} sentence ids, "
                f"{len(self.sentence_texts)} sentences"
            )
        for what, ids in (("image", self.image_ids), ("sentence", self.sentence_ids)):
            if len(set(ids)) != len(ids):
                raise DataError(f"{self.name}: two {what}s share an id ({_first_twice(ids)!r})")
        if self.pairs.ndim != 2 or self.pairs.shape[1] != 2:
            raise DataError(
                f"{self.name}: ground truth of shape {self.pairs.shape}, expected (P, 2)"
            )
        if len(self.pairs):
            high = self.pairs.max(axis=0)
            if (
                (self.pairs < 0).any()
                or high[0] >= len(self.image_ids)
                or high[1] >= len(self.sentence_ids)
            ):
                raise DataError(
                    f"{self.name}: ground truth names an image or sentence that is not there"
                )

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits, in order of first appearance."""
        return tuple(dict.fromkeys(self.image_splits))

    def split(self, *names: str) -> Corpus:
        """The images of some splits with their sentences.

        Raises:
            DataError: a split that the corpus has not.
        """
        for name in names:
            if name not in self.splits:
                raise DataError(
                    f"{self.name}: no split {name!r}; it has {', '.join(self.splits) or 'none'}"
                )
        wanted = set(names)
        return self.select([i for i, split in enumerate(self.image_splits) if split in wanted])

    def select(self, images: Sequence[int] | NDArray[np.int64]) -> Corpus:
        """Some images, in the order given, with every sentence paired to one of them.

        Sentences keep the order of the corpus when the images do.
        """
        chosen = np.asarray(images, dtype=np.int64)
        position = np.full(len(self.image_ids), -1, dtype=np.int64)
        position[chosen] = np.arange(len(chosen))
        kept = self.pairs[position[self.pairs[:, 0]] >= 0]
        kept = kept[np.lexsort((kept[:, 1], position[kept[:, 0]]))]
        sentences = np.array(list(dict.fromkeys(kept[:, 1].tolist())), dtype=np.int64)
        renumbered = np.full(len(self.sentence_ids), -1, dtype=np.int64)
        renumbered[sentences] = np.arange(len(sentences))
        pairs = np.stack([position[kept[:, 0]], renumbered[kept[:, 1]]], axis=1)
        return Corpus(
            name=self.name,
            image_ids=tuple(self.image_ids[i] for i in chosen),
            image_splits=tuple(self.image_splits[i] for i in chosen),
            sentence_ids=tuple(self.sentence_ids[j] for j in sentences),
            sentence_texts=tuple(self.sentence_texts[j] for j in sentences),
            pairs=pairs,
            rows=None if self.rows is None else self.rows[chosen],
            pictures=None if self.pictures is None else tuple(self.pictures[i] for i in chosen),
        )

    def fingerprint(self) -> str:
        """A hash of ids, texts and ground truth: results compare only when it is equal."""
        digest = hashlib.sha256()
        for text in (*self.image_ids, "\x00", *self.sentence_ids, "\x00", *self.sentence_texts):
            digest.update(text.encode("utf-8") + b"\x1f")
        digest.update(np.ascontiguousarray(self.pairs).tobytes())
        return digest.hexdigest()[:16]


def _first_twice(ids: Sequence[str]) -> str:
    seen: set[str] = set()
    for name in ids:
        if name in seen:
            return name
        seen.add(name)
    raise AssertionError("called only when an id stands twice")
