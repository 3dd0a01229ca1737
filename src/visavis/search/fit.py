"""How much each part of a first-stage vector counts, fitted to the model's own scores.

A companion's cosine and the mean of the matcher's tokens tell different things of a pair. Their
weights are those of the sum that is nearest to the matcher's scores (least squares, nothing below
0), for sentences of the bank with pictures at random. What differs between queries alone does not
change an order, so both sides are centred for each query.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from visavis.scoring.matrix import score_matrix
from visavis.search.answers import Direction
from visavis.search.engine import parts_of
from visavis.search.view import View
from visavis.types import Scores

SENTENCES, PICTURES = 100, 512
FEWEST = 20  # sentences, and pictures, without which nothing is fitted


@torch.inference_mode()
def fit_weights(view: View) -> dict[str, tuple[float, ...]]:
    """Weights of the parts for each direction that has several; empty with too little to ask."""
    engine, bank = view.engine, view.bank
    several: list[Direction] = [
        direction
        for direction in ("t2i", "i2t")
        if len(parts_of(engine.spaces.get(direction, ""))) > 1
    ]
    if bank is None or min(len(bank), len(view.snapshot)) < FEWEST or not several:
        return {}
    chosen = np.random.default_rng(3).permutation(len(bank))[:SENTENCES].tolist()
    texts = [bank.texts[place] for place in chosen]
    count = min(PICTURES, len(view.snapshot))
    places = np.unique(np.linspace(0, len(view.snapshot) - 1, count).astype(np.int64))
    sentences = engine.main.sentences(texts)
    scores = score_matrix(engine.main.matcher, view.encoded(places), sentences)
    found: dict[str, tuple[float, ...]] = {}
    for direction in several:
        images = view.vectors(engine.space(direction) or "", torch.from_numpy(places))
        asked = engine.sentence_vectors(texts, direction, sentences)
        pairs = zip(engine.split(images, direction), engine.split(asked, direction), strict=True)
        products = [image @ sentence.T for image, sentence in pairs]  # (N, M) of each part
        found[direction] = _weights(products, _of(scores, direction), direction)
    return found


def _of(scores: Scores, direction: Direction) -> Tensor:
    return scores.t2i if direction == "t2i" else scores.i2t


def _weights(products: list[Tensor], scores: Tensor, direction: Direction) -> tuple[float, ...]:
    """The best sum of the parts; a part that would count against is left out."""
    axis = 0 if direction == "t2i" else 1  # over the items that a query ranks
    flat = [(p - p.mean(dim=axis, keepdim=True)).flatten().double() for p in products]
    wanted = (scores - scores.mean(dim=axis, keepdim=True)).flatten().double()
    kept = list(range(len(flat)))
    while True:
        columns = torch.stack([flat[part] for part in kept], dim=1)
        solved = torch.linalg.lstsq(columns, wanted[:, None]).solution[:, 0]
        against = [part for part, weight in zip(kept, solved.tolist(), strict=True) if weight < 0]
        if not against or len(kept) == 1:
            break
        kept = [part for part in kept if part not in against] or [0]
    by_part = dict(zip(kept, solved.tolist(), strict=True))
    weights = [max(0.0, by_part.get(part, 0.0)) for part in range(len(flat))]
    total = sum(weights)
    if not total:  # none of them says anything of the scores
        return (1.0,) * len(flat)
    return tuple(round(weight / total, 6) for weight in weights)  # only their ratio matters
