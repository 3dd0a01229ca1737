"""What a student learns from: a matcher's tokens and, of batches of neighbours, its scores.

The first pictures of a ranking are like each other, so a batch is the neighbourhood of a picture,
by the means of the tokens, with sentences of that neighbourhood. Tokens are encoded once and scores
are made once, however often a batch is seen; both are kept in half precision.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize

from visavis.data.corpus import Corpus
from visavis.data.features import Features
from visavis.errors import DataError
from visavis.scoring.matrix import score_matrix
from visavis.scoring.sides import Groups
from visavis.search.encoder import SENTENCES_AT_ONCE, Encoder
from visavis.types import Encoded, Scores

logger = logging.getLogger("visavis.search")

Progress = Callable[[int, int], None]
Numbers = NDArray[np.int64]

IMAGES_AT_ONCE = 128
BUDGET = 2**31  # bytes of tokens in memory; of a larger corpus some pictures are taken
JITTER = 0.05  # of cosines: the same picture has another neighbourhood each time
FEWEST = 20  # pictures


@dataclass(frozen=True, slots=True, eq=False)
class Tokens:
    """Both sides of a corpus as the matcher encoded them, in half precision."""

    images: Encoded
    sentences: Groups
    sentences_of: tuple[Numbers, ...]  # of each image

    def of_images(self, items: Numbers) -> Encoded:
        """Some images in float32."""
        return widened(self.images.select(torch.from_numpy(items)))

    def of_sentences(self, items: Numbers) -> Encoded:
        """Some sentences in float32, without needless padding."""
        return widened(self.sentences.pick(items))


@dataclass(frozen=True, slots=True, eq=False)
class Lesson:
    """A batch and what the matcher says of it."""

    images: Numbers  # (B,)
    sentences: Numbers  # (S,)
    scores: Scores  # (B, S) in half precision


@torch.inference_mode()
def encode(
    encoder: Encoder, corpus: Corpus, features: Features, progress: Progress | None = None
) -> Tokens:
    """Encode a linked corpus, each item once.

    Args:
        encoder: the matcher.
        corpus: whose `rows` are rows of `features`.
        features: region vectors.
        progress: told how many images and sentences are encoded, of how many.
    """
    if corpus.rows is None:
        raise TypeError("a linked corpus is needed")
    total, done = len(corpus.image_ids) + len(corpus.sentence_ids), 0
    images = []
    for start in range(0, len(corpus.rows), IMAGES_AT_ONCE):
        rows = corpus.rows[start : start + IMAGES_AT_ONCE]
        images.append(_halved(encoder.images(features.read(rows))))
        done = _told(progress, done + len(rows), total)
    texts = corpus.sentence_texts
    order = np.array(sorted(range(len(texts)), key=lambda place: len(texts[place])), dtype=np.int64)
    groups = []
    for start in range(0, len(order), SENTENCES_AT_ONCE):
        part = [texts[place] for place in order[start : start + SENTENCES_AT_ONCE]]
        groups.append(_halved(encoder.sentences(part)))
        done = _told(progress, done + len(part), total)
    by_image: list[list[int]] = [[] for _ in corpus.image_ids]
    for image, sentence in corpus.pairs.tolist():
        by_image[image].append(sentence)
    of = tuple(np.array(found, dtype=np.int64) for found in by_image)
    return Tokens(Encoded.join(images), Groups(groups, order), of)


def within_budget(
    encoder: Encoder, corpus: Corpus, features: Features, generator: np.random.Generator
) -> Corpus:
    """The corpus, or as many of its images as the budget has room for.

    Raises:
        DataError: fewer images with sentences than can teach anything.
    """
    told = np.unique(corpus.pairs[:, 0])
    if len(told) < FEWEST:
        raise DataError(
            f"{corpus.name}: {len(told)} images with sentences to distill from; it takes at least "
            f"{FEWEST}"
        )
    probe = corpus.select(generator.permutation(told)[:FEWEST])
    tokens = encode(encoder, probe, features)
    parts = [tokens.images, *tokens.sentences.groups]
    each = sum(t.nbytes for part in parts for t in (part.tokens, part.mask, *part.extra.values()))
    count = BUDGET * FEWEST // max(1, each)
    if count >= len(told):
        return corpus if len(told) == len(corpus.image_ids) else corpus.select(told)
    logger.warning("%d of %d images are used: memory for more is not taken", count, len(told))
    return corpus.select(np.sort(generator.permutation(told)[: max(FEWEST, count)]))


def neighbourhoods(
    tokens: Tokens, kept: Numbers, sizes: tuple[int, int], generator: np.random.Generator
) -> Iterator[tuple[Numbers, Numbers]]:
    """Images that are like each other with some of their sentences, without an end.

    Args:
        tokens: of the corpus.
        kept: images to choose from.
        sizes: of images and of sentences, at most.
        generator: decides everything.
    """
    means = mean_of(tokens.images)[torch.from_numpy(kept)]
    order: list[int] = []
    while True:
        order = order or generator.permutation(len(kept)).tolist()
        noise = torch.from_numpy(generator.random(len(kept), dtype=np.float32))
        likely = means @ means[order.pop()] + JITTER * noise
        images = kept[likely.topk(min(sizes[0], len(kept))).indices.numpy()]
        there = np.unique(np.concatenate([tokens.sentences_of[image] for image in images]))
        yield images, generator.permutation(there)[: sizes[1]]


def lesson(encoder: Encoder, tokens: Tokens, images: Numbers, sentences: Numbers) -> Lesson:
    """Let the matcher score a batch.

    Raises:
        DataError: scores that are not finite.
    """
    found = score_matrix(
        encoder.matcher,
        tokens.of_images(images).to(encoder.device),
        tokens.of_sentences(sentences).to(encoder.device),
    )
    if not (found.t2i.isfinite().all() and found.i2t.isfinite().all()):
        raise DataError("the model's scores are NaN or infinite; it cannot be distilled")
    t2i = found.t2i.half()
    return Lesson(images, sentences, Scores(found.i2t.half() if found.decoupled else t2i, t2i))


def mean_of(items: Encoded) -> Tensor:
    """The mean of the tokens of each item, of unit length: (N, D)."""
    parts = [
        (items.tokens[rows].float() * items.mask[rows].unsqueeze(2)).sum(dim=1)
        for rows in torch.arange(len(items)).split(IMAGES_AT_ONCE)
    ]
    return normalize(torch.cat(parts), dim=1)


def widened(items: Encoded) -> Encoded:
    """In float32."""
    return _as(items, torch.float32)


def _halved(items: Encoded) -> Encoded:
    """On the CPU in half precision, without padding."""
    return _as(items.trimmed().to("cpu"), torch.float16)


def _as(items: Encoded, kind: torch.dtype) -> Encoded:
    extra = {
        key: tensor.to(kind) if tensor.is_floating_point() else tensor
        for key, tensor in items.extra.items()
    }
    pooled = None if items.pooled is None else items.pooled.to(kind)
    return Encoded(items.tokens.to(kind), items.mask, pooled, extra)


def _told(progress: Progress | None, done: int, total: int) -> int:
    if progress is not None:
        progress(done, total)
    return done


def split_images(
    count: int, wanted: int, generator: np.random.Generator
) -> tuple[Numbers, Numbers]:
    """Images to learn from, and some that are kept back: a tenth of them at most."""
    order = generator.permutation(count)
    back = min(wanted, max(1, count // 10))
    return np.sort(order[back:]), np.sort(order[:back])


def some_sentences(tokens: Tokens, images: Numbers, count: int) -> Numbers:
    """Sentences of some images, spread over them."""
    there = np.unique(np.concatenate([tokens.sentences_of[image] for image in images]))
    places = np.unique(np.linspace(0, len(there) - 1, min(count, len(there))).astype(np.int64))
    return there[places]
