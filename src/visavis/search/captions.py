"""The sentences that fit a picture best."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from visavis.errors import DataError
from visavis.scoring.matrix import score_matrix
from visavis.search.answers import SentenceAnswer, SentenceHit
from visavis.search.cascade import Clock
from visavis.search.view import View
from visavis.types import Encoded

BLOCK = 512  # sentences that are encoded and scored at once


@torch.inference_mode()
def captions(
    view: View,
    image: Encoded,
    vector: Tensor | None,
    *,
    k: int,
    sentences: Sequence[str] | None = None,
) -> SentenceAnswer:
    """The best sentences of those given, or of the index's own.

    Args:
        view: what is searched.
        image: one picture.
        vector: (P,) of it for the first stage; None when there is none.
        k: how many.
        sentences: to choose from instead.

    Raises:
        DataError: no sentences, or `k` below 1.
    """
    if k < 1:
        raise DataError(f"{k} results were asked for; ask for at least 1")
    texts = tuple(dict.fromkeys(sentences)) if sentences is not None else _bank(view)
    if not texts:
        raise DataError("no sentences to choose from; give at least one")
    gallery, clock = len(texts), Clock()
    count = max(view.candidates, k)
    bank = view.bank if sentences is None else None
    if bank is not None and bank.vectors is not None and vector is not None and count < gallery:
        with clock.stage("first", [count]):
            query = view.engine.weighted(vector[None], "i2t")[0]
            products = torch.from_numpy(bank.vectors) @ query
            chosen = products.topk(count).indices.sort().values
            texts = tuple(texts[place] for place in chosen.tolist())
    with clock.stage("exact", [len(texts)]):
        scores = torch.cat(
            [
                _scores(view, image, texts[start : start + BLOCK])
                for start in range(0, len(texts), BLOCK)
            ]
        )
        order = torch.sort(scores, descending=True, stable=True).indices[:k].tolist()
    hits = [
        SentenceHit(texts[place], float(scores[place]), rank)
        for rank, place in enumerate(order, start=1)
    ]
    return SentenceAnswer(tuple(hits), tuple(clock.stages), gallery)


def _scores(view: View, image: Encoded, texts: Sequence[str]) -> Tensor:
    sentences = view.engine.main.sentences(texts)
    return score_matrix(view.engine.main.matcher, image, sentences).i2t[0]


def _bank(view: View) -> tuple[str, ...]:
    if view.bank is None:
        raise DataError(
            "this index has no sentences of its own; give some to choose from, or build it with "
            "a corpus or a file of sentences"
        )
    return view.bank.texts
