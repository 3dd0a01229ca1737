"""What an index says: answers with the time of each stage, reports of writes, what it holds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

StageName = Literal["filter", "encode", "first", "exact", "rerank"]
Direction = Literal["t2i", "i2t"]


@dataclass(frozen=True, slots=True)
class Hit:
    """One picture that was found."""

    id: str  # stable: it follows the picture's content, wherever the file is moved
    path: str  # relative to its root
    score: float  # the model's own; of `search_by_image` a cosine
    rank: int  # from 1
    width: int
    height: int
    taken: str | None  # EXIF date, 2024-07-31T18:00:00
    tags: tuple[str, ...]
    first_score: float | None  # of the first stage; None where there was none


@dataclass(frozen=True, slots=True)
class Stage:
    """One step of an answer."""

    name: StageName
    seconds: float
    items: int  # what came out of it


@dataclass(frozen=True, slots=True)
class Answer:
    """The pictures for one query."""

    query: str
    hits: tuple[Hit, ...]
    stages: tuple[Stage, ...]
    exact: bool  # every picture that the filter left was scored by the model
    candidates: int  # pictures that the model scored
    gallery: int  # pictures in the index
    matches_well: bool | None  # False: nothing fits better than chance; None: not calibrated


@dataclass(frozen=True, slots=True)
class SentenceHit:
    """One sentence that was found."""

    text: str
    score: float
    rank: int  # from 1


@dataclass(frozen=True, slots=True)
class SentenceAnswer:
    """The sentences for one picture."""

    hits: tuple[SentenceHit, ...]
    stages: tuple[Stage, ...]
    gallery: int  # sentences there were to choose from


@dataclass(frozen=True, slots=True, eq=False)
class WhyHit:
    """Which words of a query met which regions of a picture."""

    words: list[str]  # W, end marks left out
    boxes: NDArray[np.float32]  # (R, 4) x1 y1 x2 y2 as fractions of width and height
    weights: NDArray[np.float32]  # (W, R) 0 to 1
    word_scores: NDArray[np.float32]  # (W,) what the score loses without the word
    score: float
    kind: Literal["attention", "left out"]


@dataclass(frozen=True, slots=True)
class Report:
    """What a write did."""

    added: int
    changed: int
    removed: int
    skipped: list[tuple[str, str]]  # path and reason
    seconds: float
    ids: tuple[str, ...] = field(default=(), repr=False)  # of the pictures given to `add`, in order


@dataclass(frozen=True, slots=True)
class Info:
    """What an index holds."""

    images: int
    sentences: int
    model: str
    extractor: str
    roots: tuple[str, ...]
    uri: str
    versions: int
    bytes: int
    first_stage: str  # `none`, `own` or the companion's name
    recommended_candidates: int | None  # None: `verify` has not been run
    finished: bool = True  # False: a build was stopped; the same command goes on


@dataclass(frozen=True, slots=True)
class AgreementPoint:
    """How far a candidate count agrees with scoring everything."""

    candidates: int
    same_top10: float  # share of sentences with the very same ten pictures
    overlap: float  # mean share of the ten
    top1: float  # share of sentences with the same first picture


@dataclass(frozen=True, slots=True)
class Agreement:
    """What `verify` found."""

    sentences: int  # that were asked
    gallery: int
    points: tuple[AgreementPoint, ...]
    recommended: int | None  # the least count with 98 % of sentences alike; None: none does
    seconds: float
    problems: tuple[str, ...] = ()  # rows that are not as they must be


@dataclass(frozen=True, slots=True)
class CompactReport:
    """What `compact` did."""

    bytes_before: int
    bytes_after: int
    versions_before: int
    versions_after: int
    seconds: float
