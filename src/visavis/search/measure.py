"""What an index measures of itself: agreement of its stages, calibration, damage."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from visavis.errors import DataError
from visavis.scoring.matrix import score_matrix
from visavis.search.answers import Agreement, AgreementPoint
from visavis.search.calibrate import quantiles_of, reference_places, standing_out
from visavis.search.cascade import BLOCK, Settings, cascade, scores_of
from visavis.search.manifest import Calibration
from visavis.search.rows import TOKENS
from visavis.search.view import View

Progress = Callable[[int, int], None]

TOP = 10
COUNTS = (10, 20, 50, 100, 200, 400, 800, 1600, 3200)  # candidates
WANTED = 0.98  # share of sentences with the very same first ten pictures
ASKED = 100  # sentences that calibration asks
FEWEST = 20  # sentences, and pictures, without which nothing is calibrated


def agreement(
    view: View, *, sample: int, candidates: Sequence[int], progress: Progress | None = None
) -> Agreement:
    """Compare two stages with scoring every picture, for sentences of the bank.

    The second stage scores what the first one chose, so the ten best of all are found exactly when
    the first stage has all ten among its candidates: one look at their ranks answers for every
    number of candidates.

    Raises:
        DataError: no sentences, or numbers below 1.
    """
    start = time.monotonic()
    if sample < 1 or any(count < 1 for count in candidates):
        raise DataError("verify: the sample and the candidate counts must be at least 1")
    texts = _sample(view, sample)
    problems = tuple(damage(view))
    best = _exhaustive(view, texts, progress)  # (TOP, M) places
    points: list[AgreementPoint] = []
    name = view.engine.space("t2i")
    if name is not None and len(view.snapshot):
        first = _first_scores(view, name, texts)  # (N, M)
        chosen = first.gather(0, best)
        ranks = torch.stack([(first > row).sum(dim=0) for row in chosen])  # (TOP, M)
        counts = sorted({min(count, len(view.snapshot)) for count in candidates})
        points = [_point(ranks, count) for count in counts]
    enough = [point.candidates for point in points if point.same_top10 >= WANTED]
    return Agreement(
        sentences=len(texts),
        gallery=len(view.snapshot),
        points=tuple(points),
        recommended=min(enough) if enough else None,
        seconds=time.monotonic() - start,
        problems=problems,
    )


def _point(ranks: Tensor, count: int) -> AgreementPoint:
    inside = ranks < count
    return AgreementPoint(
        candidates=count,
        same_top10=float(inside.all(dim=0).float().mean()),
        overlap=float(inside.float().mean()),
        top1=float(inside[0].float().mean()),
    )


@torch.inference_mode()
def _exhaustive(view: View, texts: Sequence[str], progress: Progress | None) -> Tensor:
    """Places of the best pictures for each sentence, best first: (TOP, M)."""
    encoded = view.engine.main.sentences(texts)
    scores = torch.empty(len(view.snapshot), len(texts))
    for start in range(0, len(view.snapshot), BLOCK):
        places = np.arange(start, min(start + BLOCK, len(view.snapshot)))
        found = score_matrix(view.engine.main.matcher, view.encoded(places), encoded)
        scores[places[0] : places[-1] + 1] = found.t2i
        if progress is not None:
            progress(int(places[-1]) + 1, len(view.snapshot))
    return torch.sort(scores, dim=0, descending=True, stable=True).indices[:TOP]


def _first_scores(view: View, name: str, texts: Sequence[str]) -> Tensor:
    vectors = view.vectors(name, torch.arange(len(view.snapshot)))
    return vectors @ view.engine.query_vectors(texts, "t2i").T


def _sample(view: View, count: int) -> list[str]:
    if view.bank is None or not len(view.bank):
        raise DataError(
            "verify asks sentences and this index has none; build it with a corpus or with a file "
            "of sentences"
        )
    order = np.random.default_rng(0).permutation(len(view.bank))[:count]
    return [view.bank.texts[place] for place in order.tolist()]


def damage(view: View) -> list[str]:
    """What is wrong with rows, one line each."""
    problems = []
    digest = view.generation.model.digest
    for record in view.snapshot.records:
        if record.model != digest:
            problems.append(f"{record.id}: made by another model")
    seen: set[str] = set()
    for ids, arrays in view.store.scan([TOKENS]):
        finite = np.isfinite(arrays[TOKENS].reshape(len(ids), -1)).all(axis=1)
        problems += [f"{ids[row]}: NaN or infinity" for row in np.flatnonzero(~finite).tolist()]
        problems += [f"{name}: stands there twice" for name in ids if name in seen]
        seen.update(ids)
    missing = set(view.snapshot.place_of) - seen
    return problems + [f"{name}: is gone" for name in sorted(missing)]


def calibrate(view: View) -> Calibration | None:
    """How far the best picture stands out where none belongs; None with too little to ask."""
    bank = view.bank
    if bank is None or len(bank) < FEWEST or len(view.snapshot) < FEWEST:
        return None
    order = np.random.default_rng(1).permutation(len(bank))[:ASKED].tolist()
    texts = [bank.texts[place] for place in order]
    encoded = view.engine.main.sentences(texts)
    space = view.engine.space("t2i")
    vectors = None if space is None else view.engine.query_vectors(texts, "t2i", encoded)
    reference = reference_places(len(view.snapshot))
    distances = []
    for row, place in enumerate(order):
        sentence = encoded.select(slice(row, row + 1)).trimmed()
        vector = None if vectors is None else vectors[row]
        found = cascade(view, sentence, vector, Settings(k=TOP))
        own = {view.snapshot.place_of.get(name, -1) for name in bank.pictures[place]}
        others = [i for i, at in enumerate(found.places.tolist()) if at not in own]
        if others:
            best = float(found.scores[others[0]])
            distances.append(standing_out(best, scores_of(view, sentence, reference)))
    if len(distances) < FEWEST:
        return None
    quantiles = quantiles_of(np.array(distances, dtype=np.float64))
    return Calibration(sentences=len(distances), quantiles=quantiles, reference=len(reference))
