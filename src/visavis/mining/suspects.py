"""Negatives that may be none: a sentence that would fit the image as well as its own do.

A mined sentence is suspected when its words are those of one of the image's own sentences (`same`),
hardly others (`alike`), or when it scores above all of them (`above`).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from visavis.data.corpus import Corpus
from visavis.data.negatives import NONE, Negatives

WORD = re.compile(r"\w+")


@dataclass(frozen=True, kw_only=True)
class SuspectConfig:
    """What is looked at, and what counts as alike."""

    look: int = 10  # of the hardest sentences of each image
    alike: float = 0.8  # words in common of all words that either has
    shown: int = 1000  # suspects that are named; all are counted


@dataclass(frozen=True, slots=True)
class Suspect:
    """A mined negative that may belong to the image after all."""

    image: str
    sentence: str
    text: str
    own: str  # the image's sentence that is nearest to it
    why: str  # same, alike or above
    score: float | None
    positive: float | None  # highest score of the image's own sentences


@dataclass(frozen=True, slots=True)
class Report:
    """Suspects among the hardest sentences of all images."""

    looked_at: int
    counts: dict[str, int]  # by reason
    suspects: tuple[Suspect, ...]  # the first ones


def suspects(found: Negatives, corpus: Corpus, config: SuspectConfig | None = None) -> Report:
    """Look through the hardest sentences of each image.

    Without scores, as in the published lists, only texts are compared.
    """
    config = config or SuspectConfig()
    counts = Counter({"same": 0, "alike": 0, "above": 0})
    named: list[Suspect] = []
    for suspect in _all(found, corpus, config):
        counts[suspect.why] += 1
        if len(named) < config.shown:
            named.append(suspect)
    looked_at = int((found.sentences[:, : config.look] != NONE).sum())
    return Report(looked_at, dict(counts), tuple(named))


def _all(found: Negatives, corpus: Corpus, config: SuspectConfig) -> Iterator[Suspect]:
    words = [frozenset(WORD.findall(text.lower())) for text in corpus.sentence_texts]
    joined = [" ".join(WORD.findall(text.lower())) for text in corpus.sentence_texts]
    own: list[list[int]] = [[] for _ in corpus.image_ids]
    for image, sentence in corpus.pairs.tolist():
        own[image].append(sentence)
    best = _best_positive(found, corpus)
    for image, row in enumerate(found.sentences[:, : config.look].tolist()):
        for place, sentence in enumerate(row):
            if sentence == NONE:
                break
            nearest = max(own[image], key=lambda mine: _overlap(words[mine], words[sentence]))
            score = None
            if found.sentence_scores is not None:
                score = float(found.sentence_scores[image, place])
            positive = None if best is None else float(best[image])
            if joined[nearest] == joined[sentence]:
                why = "same"
            elif _overlap(words[nearest], words[sentence]) >= config.alike:
                why = "alike"
            elif score is not None and positive is not None and score > positive:
                why = "above"
            else:
                continue
            yield Suspect(
                image=corpus.image_ids[image],
                sentence=corpus.sentence_ids[sentence],
                text=corpus.sentence_texts[sentence],
                own=corpus.sentence_texts[nearest],
                why=why,
                score=score,
                positive=positive,
            )


def _overlap(left: frozenset[str], right: frozenset[str]) -> float:
    return len(left & right) / max(1, len(left | right))


def _best_positive(found: Negatives, corpus: Corpus) -> NDArray[np.float32] | None:
    if found.pair_scores is None:
        return None
    best = np.full(len(corpus.image_ids), -np.inf, dtype=np.float32)
    np.maximum.at(best, corpus.pairs[:, 0], found.pair_scores[:, 0])
    return best
