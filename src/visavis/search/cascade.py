"""Filter, first stage, the model's own scores, and re-ranking, each with its time.

The first stage compares one vector of the query with one of each picture, in the space of the
direction that is searched. The model then scores the best of them: what comes back are its scores,
and only the choice of pictures that it sees is an approximation. `exact` leaves that stage out.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from visavis.errors import DataError, IndexError_
from visavis.scoring.matrix import score_matrix
from visavis.search.answers import Answer, Hit, Stage, StageName
from visavis.search.calibrate import matches_well, reference_places
from visavis.search.reciprocal import K, reorder
from visavis.search.view import View
from visavis.search.where import Condition, parse
from visavis.types import Encoded

Places = NDArray[np.int64]
BLOCK = 1024  # pictures that are fetched and scored at once
MARGIN = 64  # pictures beyond twice the candidates that rounding may have put behind
RECIPROCAL = "reciprocal"


@dataclass(frozen=True, slots=True)
class Settings:
    """How to search."""

    k: int = 10
    where: str | None = None
    candidates: int | None = None  # None: what `verify` recommends
    exact: bool = False
    rerank: str | None = None  # or RECIPROCAL

    def __post_init__(self) -> None:
        if self.k < 1:
            raise DataError(f"{self.k} results were asked for; ask for at least 1")
        if self.candidates is not None and self.candidates < 1:
            raise DataError(f"{self.candidates} candidates; give at least 1, or leave it out")
        if self.rerank not in (None, RECIPROCAL):
            raise DataError(f"re-ranking {self.rerank!r} is not known; {RECIPROCAL!r} is")


@dataclass(frozen=True, slots=True, eq=False)
class Filter:
    """What a condition leaves."""

    condition: Condition
    places: Places  # sorted


@dataclass(slots=True)
class Clock:
    """Times of stages, in the order they ran."""

    stages: list[Stage] = field(default_factory=list)

    @contextmanager
    def stage(self, name: StageName, items: list[int]) -> Iterator[None]:
        """Time a block; the number that it appends to `items` is what came out of it."""
        start = time.perf_counter()
        yield
        self.stages.append(Stage(name, time.perf_counter() - start, items[-1] if items else 0))


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """Pictures with the model's scores, best first."""

    places: Places  # (K,)
    scores: Tensor  # (K,) float32
    first: dict[int, float]  # score of the first stage by place
    exact: bool
    scored: int  # pictures that the model scored
    well: bool | None = None


def search(view: View, queries: Sequence[str], settings: Settings) -> list[Answer]:
    """The best pictures for each query.

    Raises:
        DataError: an empty query, a filter that is not understood.
    """
    shared = Clock()
    allowed = filter_of(view, settings.where, shared)
    with shared.stage("encode", [len(queries)]):
        encoded = view.engine.main.sentences(queries)
        space = view.engine.space("t2i")
        vectors = None if space is None else view.engine.query_vectors(queries, "t2i", encoded)
    answers = []
    for row, query in enumerate(queries):
        sentence = encoded.select(slice(row, row + 1)).trimmed()
        vector = None if vectors is None else vectors[row]
        clock = Clock([*shared.stages])
        found = cascade(view, sentence, vector, settings, allowed=allowed, clock=clock)
        answers.append(_answer(view, query, found, settings.k, clock))
    return answers


def embed(view: View, sentences: Sequence[str]) -> NDArray[np.float32]:
    """Sentences as vectors of the first stage: (N, P).

    Raises:
        DataError: an empty sentence.
        IndexError_: an index without a first stage.
    """
    if view.engine.space("t2i") is None:
        raise IndexError_("the index has no vectors of sentences; build it with a companion")
    encoded = view.engine.main.sentences(sentences)
    vectors: NDArray[np.float32] = view.engine.query_vectors(sentences, "t2i", encoded).numpy()
    return vectors


def cascade(
    view: View,
    sentence: Encoded,
    vector: Tensor | None,
    settings: Settings,
    *,
    allowed: Filter | None = None,
    clock: Clock | None = None,
) -> Found:
    """Both stages for one sentence; all candidates come back, best first.

    Args:
        view: what is searched.
        sentence: by the main model.
        vector: (P,) for the first stage; None when there is none.
        settings: how.
        allowed: what the filter left; None is all.
        clock: takes the times.
    """
    clock = clock or Clock()
    total = len(view.snapshot) if allowed is None else len(allowed.places)
    wanted = max(settings.candidates or view.candidates, settings.k)
    exact = settings.exact or vector is None or wanted >= total
    first: dict[int, float] = {}
    places = np.arange(total) if allowed is None else allowed.places
    if not exact and vector is not None:
        with clock.stage("first", [wanted]):
            places, values = _first(view, vector, allowed, wanted)
            first = dict(zip(places.tolist(), values.tolist(), strict=True))
    well: bool | None = None
    with clock.stage("exact", [len(places)]):
        scores = scores_of(view, sentence, places)
        order = torch.sort(scores, descending=True, stable=True).indices
        if len(places) and view.generation.calibration is not None:
            reference = scores_of(view, sentence, reference_places(len(view.snapshot)))
            well = matches_well(float(scores[order[0]]), reference, view.generation.calibration)
    places, scores = places[order.numpy()], scores[order]
    if settings.rerank and len(places):
        with clock.stage("rerank", [min(K, len(places))]):
            order = reorder(view, places, sentence)
            places, scores = places[order.numpy()], scores[order]
    return Found(places, scores, first, exact, len(first) or total, well)


def filter_of(view: View, where: str | None, clock: Clock) -> Filter | None:
    """What a filter leaves; None without one.

    Raises:
        DataError: it is not understood.
    """
    if where is None:
        return None
    condition = parse(where)
    count: list[int] = []
    with clock.stage("filter", count):
        place_of = view.snapshot.place_of
        known = [place_of[name] for name in view.store.select(condition) if name in place_of]
        places = np.array(sorted(known), dtype=np.int64)
        count.append(len(places))
    return Filter(condition, places)


def _first(
    view: View, vector: Tensor, allowed: Filter | None, count: int
) -> tuple[Places, NDArray[np.float32]]:
    """The places with the largest inner products, by place, and the products."""
    name = view.engine.space("t2i") or ""
    matrix = view.snapshot.vectors.get(name)
    if matrix is None:  # too many to be held in memory
        where = None if allowed is None else allowed.condition
        pairs = view.store.nearest(name, vector.numpy(), count, where)
        known = [(view.snapshot.place_of[i], s) for i, s in pairs if i in view.snapshot.place_of]
        known.sort()
        return (
            np.array([place for place, _ in known], dtype=np.int64),
            np.array([score for _, score in known], dtype=np.float32),
        )
    rows = matrix if allowed is None else matrix[torch.from_numpy(allowed.places)]
    # In half precision twice as many; those that stay are chosen in float32.
    likely = torch.mv(rows, vector.half()).topk(min(2 * count + MARGIN, len(rows))).indices
    best = (rows[likely].float() @ vector).topk(count)
    inside = likely[best.indices]
    order = inside.argsort()
    places = inside[order].numpy()
    return (places if allowed is None else allowed.places[places]), best.values[order].numpy()


@torch.inference_mode()
def scores_of(view: View, sentence: Encoded, places: Places) -> Tensor:
    """The model's scores of one sentence with some pictures: (K,)."""
    matcher = view.engine.main.matcher
    parts = [
        score_matrix(matcher, view.encoded(places[start : start + BLOCK]), sentence).t2i[:, 0]
        for start in range(0, len(places), BLOCK)
    ]
    return torch.cat(parts) if parts else torch.zeros(0)


def _answer(view: View, query: str, found: Found, k: int, clock: Clock) -> Answer:
    hits = [
        hit_of(view, int(place), rank, float(score), found.first.get(int(place)))
        for rank, (place, score) in enumerate(
            zip(found.places[:k], found.scores[:k], strict=True), start=1
        )
    ]
    return Answer(
        query=query,
        hits=tuple(hits),
        stages=tuple(clock.stages),
        exact=found.exact,
        candidates=found.scored,
        gallery=len(view.snapshot),
        matches_well=found.well,
    )


def hit_of(view: View, place: int, rank: int, score: float, first: float | None) -> Hit:
    """A picture as an answer shows it."""
    record = view.snapshot.records[place]
    return Hit(
        id=record.id,
        path=record.path,
        score=score,
        rank=rank,
        width=record.width,
        height=record.height,
        taken=record.taken,
        tags=record.tags,
        first_score=first,
    )
