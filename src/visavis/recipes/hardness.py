"""Negatives of random batches against mined ones, ranked by a model in its training set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from visavis.data.corpus import Corpus
from visavis.data.negatives import Negatives
from visavis.data.texts import Texts
from visavis.explain.attention import evaluating
from visavis.explain.hardness import Hardness, Ranked, hardness, random_batches, rank_answers
from visavis.explain.leave_out import device_of
from visavis.models.pretrained import Pretrained
from visavis.recipes.assemble import Material, pretrained_texts
from visavis.recipes.measure import check_identity
from visavis.scoring.encode import IMAGES_AT_ONCE, SENTENCES_AT_ONCE, encode_images
from visavis.scoring.matrix import score_stripe
from visavis.types import ImageBatch, Matcher, SentenceBatch

Array = NDArray[np.float32]
Rows = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class HardnessConfig:
    """What is measured."""

    batch_sizes: tuple[int, ...] = (64, 128, 256)
    training_size: int = 128  # of the batches whose negatives are shown
    anchors: int = 200  # pairs, each of another image
    draws: int = 20  # random batches for each
    seed: int = 0
    name: str = "model"  # as it stands in reports

    def __post_init__(self) -> None:
        if min(*self.batch_sizes, self.training_size) < 2 or min(self.anchors, self.draws) < 1:
            raise ValueError(
                f"batches of {self.batch_sizes} and {self.training_size}, {self.anchors} anchors, "
                f"{self.draws} draws: expected 2 pairs in a batch and 1 of the others at least"
            )

    @property
    def sizes(self) -> tuple[int, ...]:
        """All sizes that are measured, in order."""
        return tuple(sorted({*self.batch_sizes, self.training_size}))


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """What was found: sentences as negatives of images, and images as negatives of sentences."""

    config: HardnessConfig
    corpus: Corpus
    anchors: Rows  # (A, 2) image, sentence
    sentences: Ranked
    images: Ranked
    sentence_hardness: Hardness
    image_hardness: Hardness


def measure_hardness(
    pretrained: Pretrained,
    material: Material,
    negatives: tuple[str, Negatives],
    config: HardnessConfig,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Measured:
    """Rank all answers to some anchors, and see where both kinds of negatives stand.

    Args:
        pretrained: the model that ranks.
        material: the training set, linked to its features.
        negatives: where they come from, and the mined lists of that training set.
        config: batches, anchors, seed.
        progress: told items done and items in all.

    Raises:
        DataError: lists of another corpus, features of another kind, too few pairs for a batch.
    """
    corpus = material.corpus
    place, lists = negatives
    check_identity(pretrained, material.features)
    lists.check(corpus, place)
    chosen = _anchors(corpus, config)
    anchors = corpus.pairs[chosen]
    batches = random_batches(
        chosen, len(corpus.pairs), max(config.sizes), config.draws, config.seed
    )
    sentences, images = _ranked(_scores(pretrained, material, anchors, progress), corpus, anchors)
    ranked = (
        Ranked(*sentences, corpus.pairs[batches, 1], lists.sentences[anchors[:, 0]]),
        Ranked(*images, corpus.pairs[batches, 0], lists.images[anchors[:, 1]]),
    )
    found = [hardness(one, config.sizes, anchors[:, 0], seed=config.seed) for one in ranked]
    return Measured(config, corpus, anchors, *ranked, *found)


def _ranked(
    scores: tuple[Array, Array], corpus: Corpus, anchors: Rows
) -> list[tuple[Array, NDArray[np.int32]]]:
    """Scores of sentences and of images, each with ranks among those that are wrong."""
    found = []
    for side, values in enumerate(scores):  # an anchor's image asks for sentences, and so on
        asks, answers = corpus.pairs[:, side], corpus.pairs[:, 1 - side]
        right = [answers[asks == anchor] for anchor in anchors[:, side]]
        found.append((values, rank_answers(values, right)))
    return found


def _anchors(corpus: Corpus, config: HardnessConfig) -> Rows:
    """Numbers of pairs, each of another image, drawn by the seed."""
    order = np.random.default_rng(config.seed).permutation(len(corpus.pairs))
    _, first = np.unique(corpus.pairs[order, 0], return_index=True)
    found: Rows = order[np.sort(first)[: config.anchors]]
    return found


@torch.inference_mode()
def _scores(
    pretrained: Pretrained,
    material: Material,
    anchors: Rows,
    progress: Callable[[int, int], None] | None,
) -> tuple[Array, Array]:
    """All sentences for the anchors' images (A, M), and all images for their sentences (A, N).

    What is scored is encoded a batch at a time and not kept.
    """
    corpus, features = material.corpus, material.features
    texts = pretrained_texts(pretrained, corpus.sentence_texts)
    rows = corpus.rows
    if rows is None:
        raise TypeError("a linked corpus is needed")
    total = len(texts) + len(rows)

    def told(done: int) -> None:
        if progress is not None:
            progress(done, total)

    def images(chosen: Rows) -> ImageBatch:
        return features.read(rows[chosen])

    with evaluating(pretrained.model) as model:
        to_sentences = _to_sentences(model, texts, images(anchors[:, 0]), told)
        sentences = texts.read(anchors[:, 1])
        to_images = _to_images(
            model, (images, len(rows)), sentences, lambda done: told(len(texts) + done)
        )
    return to_sentences, to_images


def _to_sentences(
    model: Matcher, texts: Texts, batch: ImageBatch, told: Callable[[int], None]
) -> Array:
    """Scores of some images with all sentences: (A, M)."""
    device = device_of(model)
    images = encode_images(model, batch.select, len(batch), device=device)
    order = np.argsort(texts.lengths, kind="stable")
    found = np.empty((len(batch), len(order)), np.float32)
    for start in range(0, len(order), SENTENCES_AT_ONCE):
        part = order[start : start + SENTENCES_AT_ONCE]
        sentences = model.encode_sentences(texts.read(part).to(device))
        found[:, part] = score_stripe(model, images, sentences).i2t.float().cpu().numpy()
        told(start + len(part))
    return found


def _to_images(
    model: Matcher,
    images: tuple[Callable[[Rows], ImageBatch], int],
    batch: SentenceBatch,
    told: Callable[[int], None],
) -> Array:
    """Scores of some sentences with all images, which are read and of which there are so many."""
    read, count = images
    device = device_of(model)
    sentences = model.encode_sentences(batch.to(device))
    found = np.empty((len(batch), count), np.float32)
    for start in range(0, count, IMAGES_AT_ONCE):
        part = np.arange(start, min(start + IMAGES_AT_ONCE, count))
        encoded = model.encode_images(read(part).to(device))
        found[:, part] = score_stripe(model, encoded, sentences).t2i.T.float().cpu().numpy()
        told(start + len(part))
    return found
