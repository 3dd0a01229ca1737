"""Distilling a student from a matcher: the order that the matcher gives, as inner products.

For each query of a batch the matcher's scores and the student's products are made distributions
over the items by a softmax, and the student learns by the divergence between them, in both
directions. Only the first items weigh anything, as only they count in a search. Listwise losses of
that form: Cao et al., Learning to Rank, ICML 2007 (ListNet, top one); a cheap image-text student of
a matcher: Messina et al., ALADIN, CBMI 2022.
"""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import get_args

import numpy as np
import torch
from torch import Tensor, nn

from visavis.config import plain
from visavis.data.corpus import Corpus
from visavis.data.features import Features
from visavis.errors import DataError
from visavis.search.answers import Direction
from visavis.search.encoder import Encoder
from visavis.search.lessons import (
    Lesson,
    Numbers,
    Tokens,
    encode,
    lesson,
    mean_of,
    neighbourhoods,
    some_sentences,
    split_images,
    within_budget,
)
from visavis.search.manifest import refuse_other_features
from visavis.search.student import BOTH, Pool, Student, StudentConfig, named_towers, new_towers
from visavis.types import Encoded, Scores

logger = logging.getLogger("visavis.search")

Progress = Callable[[str, int, int], None]  # told what is done, how much of it, of how much

SHARPNESS = 0.45  # temperature of the matcher's softmax, in standard deviations of a query's scores
SCALE = 20.0  # of the student's products, to begin with
WARMUP = 20  # steps
TOP = 10  # first items that a search wants


@dataclass(frozen=True, kw_only=True)
class DistillConfig:
    """How a student is made."""

    dim: int = 512  # of its vectors
    heads: int = 8  # means of the tokens, the plain one among them
    images: int = 256  # of a batch
    sentences: int = 256
    batches: int = 400  # that the matcher scores
    epochs: int = 3  # over these
    lr: float = 2e-3
    weight_decay: float = 0.01
    hold_out: int = 500  # images that only say which epoch is kept, a tenth at most
    seed: int = 0

    def __post_init__(self) -> None:
        sizes = (self.dim, self.images, self.sentences, self.batches, self.epochs, self.hold_out)
        if min(sizes) < 1 or self.heads < 2 or self.lr <= 0:
            raise ValueError("sizes must be at least 1, heads at least 2, the rate above 0")


def distill(
    encoder: Encoder,
    corpus: Corpus,
    features: Features,
    config: DistillConfig,
    progress: Progress | None = None,
) -> Student:
    """Distill a student.

    Args:
        encoder: the matcher.
        corpus: training images, linked to `features`, and their sentences.
        features: region vectors of the kind that the matcher reads.
        config: sizes and seed.
        progress: told how far each of its three steps is: encoding, scoring, fitting.

    Raises:
        DataError: fewer than 20 images with sentences, scores that are NaN or all alike.
        IndexError_: features of another kind.
    """
    refuse_other_features(encoder.place.source, encoder.features, features.identity)
    generator = np.random.default_rng(config.seed)
    corpus = within_budget(encoder, corpus, features, generator)
    tokens = encode(encoder, corpus, features, _named(progress, "encoding"))
    kept, back = split_images(len(corpus.image_ids), config.hold_out, generator)
    exam = lesson(encoder, tokens, back, some_sentences(tokens, back, config.hold_out))
    batches = neighbourhoods(tokens, kept, (config.images, config.sentences), generator)
    lessons = _scored(encoder, tokens, islice(batches, config.batches), progress)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        course = _Course(tokens, _untrained(tokens, exam, config), _temperatures(lessons), config)
        loss = course.run(lessons, exam, generator, _named(progress, "fitting"))
    details = {
        "settings": plain(config),
        "images": len(kept),
        "sentences": sum(len(tokens.sentences_of[image]) for image in kept),
        "loss": loss,
        **_found(tokens, course.towers, exam),
    }
    return Student(course.sizes, course.towers.eval(), encoder.place, details)


def _scored(
    encoder: Encoder,
    tokens: Tokens,
    batches: Iterable[tuple[Numbers, Numbers]],
    progress: Progress | None,
) -> list[Lesson]:
    found = []
    given = list(batches)
    for images, sentences in given:
        found.append(lesson(encoder, tokens, images, sentences))
        if progress is not None:
            progress("scoring", len(found), len(given))
    return found


def _untrained(tokens: Tokens, exam: Lesson, config: DistillConfig) -> StudentConfig:
    return StudentConfig(
        image_width=tokens.images.tokens.shape[2],
        sentence_width=tokens.sentences.groups[0].tokens.shape[2],
        heads=config.heads,
        dim=config.dim,
        towers=get_args(Direction) if exam.scores.decoupled else (BOTH,),
    )


class _Course:
    """Towers while they are fitted."""

    def __init__(
        self,
        tokens: Tokens,
        sizes: StudentConfig,
        temperatures: Mapping[Direction, float],
        config: DistillConfig,
    ) -> None:
        self.tokens, self.sizes, self.config = tokens, sizes, config
        self.temperatures = temperatures
        self.towers = new_towers(sizes)
        for tower in named_towers(self.towers).values():
            _measure(tower.images, tokens.images)
            _measure(tower.sentences, tokens.sentences.groups[len(tokens.sentences.groups) // 2])
        self.scales = nn.ParameterDict(
            {name: nn.Parameter(torch.tensor(math.log(SCALE))) for name in self.towers}
        )

    def run(
        self,
        lessons: Sequence[Lesson],
        exam: Lesson,
        generator: np.random.Generator,
        progress: Callable[[int, int], None] | None,
    ) -> float:
        """Fit the towers and keep those of the best epoch; its loss on the exam comes back."""
        config, total = self.config, self.config.epochs * len(lessons)
        groups = [
            {"params": [*self.towers.parameters()], "weight_decay": config.weight_decay},
            {"params": [*self.scales.parameters()], "weight_decay": 0.0, "lr": 5 * config.lr},
        ]
        optimizer = torch.optim.AdamW(groups, lr=config.lr)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, total))
        best, weights, step = math.inf, self.towers.state_dict(), 0
        for epoch in range(config.epochs):
            for place in generator.permutation(len(lessons)).tolist():
                optimizer.zero_grad()
                self.loss(lessons[place]).backward()
                optimizer.step()
                schedule.step()
                step += 1
                if progress is not None:
                    progress(step, total)
            with torch.no_grad():
                reached = float(self.loss(exam))
            logger.info("epoch %d of %d: held-out loss %.4f", epoch + 1, config.epochs, reached)
            if reached < best:
                best, weights = reached, copy.deepcopy(self.towers.state_dict())
        self.towers.load_state_dict(weights)
        return best

    def loss(self, given: Lesson) -> Tensor:
        """The divergence from the matcher's distributions, a mean over queries and directions."""
        images = self.tokens.of_images(given.images)
        sentences = self.tokens.of_sentences(given.sentences)
        products = {
            name: tower(images, sentences) * self.scales[name].exp()
            for name, tower in self.towers.items()
        }
        parts = []
        for direction, temperature in self.temperatures.items():
            axis = _axis(direction)
            told = _of(given.scores, direction).float() / temperature
            learnt = products[BOTH if BOTH in products else direction]
            parts.append(divergence(told, learnt, axis=axis))
        return torch.stack(parts).mean()


def divergence(told: Tensor, learnt: Tensor, *, axis: int) -> Tensor:
    """Kullback-Leibler divergence of softmaxes over an axis, a mean over the other one.

    Cao et al. 2007: the cross entropy of top-one probabilities, less the entropy of `told`.
    """
    told, learnt = told.log_softmax(dim=axis), learnt.log_softmax(dim=axis)
    return (told.exp() * (told - learnt)).sum(dim=axis).mean()


def _rate(step: int, total: int) -> float:
    """A short warm-up, then a cosine to 0."""
    return min(1.0, (step + 1) / WARMUP) * 0.5 * (1 + math.cos(math.pi * step / total))


def _axis(direction: Direction) -> int:
    """The axis of scores (N, M) over which a query of a direction ranks."""
    return 0 if direction == "t2i" else 1


def _of(scores: Scores, direction: Direction) -> Tensor:
    return scores.t2i if direction == "t2i" else scores.i2t


def _temperatures(lessons: Sequence[Lesson]) -> dict[Direction, float]:
    """Of the matcher's softmax: scores of one model lie in 0.1, of another in 20.

    Raises:
        DataError: every item scores alike.
    """
    found: dict[Direction, float] = {}
    for direction in get_args(Direction):
        spreads = [
            _of(given.scores, direction).float().std(dim=_axis(direction), correction=0).mean()
            for given in lessons
        ]
        found[direction] = SHARPNESS * float(torch.stack(spreads).mean())
        if not found[direction]:
            raise DataError("the model scores every pair alike; there is nothing to distill")
    return found


def _measure(pool: Pool, items: Encoded) -> None:
    """Tell a pool how long tokens are: models differ by orders of magnitude."""
    lengths = items.tokens.float().norm(dim=2)[items.mask]
    pool.scale.fill_(float(lengths.mean().clamp_min(1e-6)))


@torch.no_grad()
def _found(tokens: Tokens, towers: nn.ModuleDict, exam: Lesson) -> dict[str, float | int]:
    """How much of the matcher's first pictures is among the first of others, held out."""
    images, sentences = tokens.of_images(exam.images), tokens.of_sentences(exam.sentences)
    tower = towers[BOTH if BOTH in towers else "t2i"]
    found: dict[str, float | int] = {
        "held_out": len(exam.images),
        "student": _share(tower(images, sentences), exam.scores.t2i),
    }
    if images.pooled is not None and sentences.pooled is not None:
        found["own"] = _share(images.pooled @ sentences.pooled.T, exam.scores.t2i)
    elif images.tokens.shape[2] == sentences.tokens.shape[2]:
        found["mean"] = _share(mean_of(images) @ mean_of(sentences).T, exam.scores.t2i)
    return found


def _share(first: Tensor, scores: Tensor) -> float:
    """Of the pictures with the highest scores, which share is among twice as many by products."""
    count = min(TOP, max(1, len(scores) // 4))
    best = scores.float().topk(count, dim=0).indices
    ranks = torch.stack([(first > row).sum(dim=0) for row in first.gather(0, best)])
    return float((ranks < 2 * count).float().mean())


def _named(progress: Progress | None, what: str) -> Callable[[int, int], None] | None:
    return None if progress is None else lambda done, total: progress(what, done, total)
