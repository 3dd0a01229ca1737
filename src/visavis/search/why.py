"""Why a picture was found: which words of the query met which of its regions."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from visavis.errors import DataError
from visavis.explain.attention import explain, word_kind
from visavis.explain.leave_out import shorter_texts
from visavis.explain.words import is_special
from visavis.scoring.matrix import score_matrix
from visavis.search.answers import WhyHit
from visavis.search.rows import BOXES, REAL, REGIONS, images_of
from visavis.search.view import View
from visavis.types import ImageBatch


@torch.inference_mode()
def why(view: View, image_id: str, query: str) -> WhyHit:
    """Words, regions, and what binds them.

    Raises:
        IndexError_: an unknown id.
        DataError: an empty query, or regions without boxes.
    """
    view.place(image_id)
    specs = view.generation.arrays
    if BOXES not in specs:
        raise DataError("the region vectors of this index have no boxes; nothing can be shown")
    image = images_of(view.store.read([image_id], [REGIONS, REAL, BOXES]))
    encoder = view.engine.main
    kind = word_kind(encoder.pretrained)
    (found,) = explain(encoder.pretrained, image, [query], encode=encoder.batch, kind=kind)
    kept = [place for place, word in enumerate(found.words) if not is_special(word)]
    told: Literal["attention", "left out"] = "attention" if kind == "attention" else "left out"
    return WhyHit(
        words=[found.words[place] for place in kept],
        boxes=found.boxes,
        weights=_fractions(found.weights[kept]),
        word_scores=_word_scores(view, image, query)[kept],
        score=found.score,
        kind=told,
    )


def _fractions(weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """Weights from 0 to 1: what counts against a word is 0, the largest at most 1."""
    positive = weights.clip(min=0)
    return (positive / max(1.0, float(positive.max(initial=0.0)))).astype(np.float32)


def _word_scores(view: View, image: ImageBatch, query: str) -> NDArray[np.float32]:
    """What the score loses without each word; 0 for words that cannot be left out."""
    encoder = view.engine.main
    shorter = shorter_texts(query, encoder.pretrained.tokenizer.tokens)
    encoded = encoder.sentences(shorter.texts)
    scores = score_matrix(encoder.matcher, encoder.images(image), encoded).t2i[0].numpy()
    lost = np.zeros(len(shorter.words), dtype=np.float32)
    lost[list(shorter.places)] = scores[0] - scores[1:]
    return lost
