"""Which regions each word looks at, or which regions a score rests on.

A model that attends says so itself (`Attentive`). For any other, regions are left out one at a
time, or regions and words (`visavis.explain.leave_out`). The kinds are not the same: attention says
where a word looks, leaving out says what the score needs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol, cast, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from visavis.errors import DataError
from visavis.explain.explanation import (
    Array,
    Explanation,
    Kind,
    content_words,
    region_relevance,
    top_regions,
)
from visavis.explain.leave_out import (
    Encode,
    Tokens,
    ablated,
    device_of,
    finite,
    interacting,
    real_regions,
)
from visavis.explain.words import whole_words
from visavis.models.pretrained import Pretrained
from visavis.types import Encoded, ImageBatch, Matcher, SentenceBatch

__all__ = [
    "Array",
    "Attentive",
    "Explanation",
    "Kind",
    "content_words",
    "explain",
    "region_relevance",
    "top_regions",
    "word_kind",
]

PAIRS_AT_ONCE = 64


@runtime_checkable
class Attentive(Protocol):
    """A model that can tell which regions each word attends to."""

    def attend(self, images: Encoded, sentences: Encoded) -> Tensor:
        """Weight of region r for word w of aligned rows: (P, W, R)."""
        ...


def word_kind(pretrained: Pretrained) -> Kind:
    """The kind of explanation that has weights for each word: the model's own, if it has one."""
    return "attention" if isinstance(pretrained.model, Attentive) else "interaction"


@torch.inference_mode()
def explain(
    pretrained: Pretrained,
    images: ImageBatch,
    texts: Sequence[str],
    *,
    encode: Encode | None = None,
    kind: Kind | None = None,
) -> list[Explanation]:
    """Explain image p with sentence p, or one image with every sentence.

    A word that the tokenizer cut into pieces gets the mean of their weights. The score is the one
    that ranks images for a sentence.

    Args:
        pretrained: any model; it is in evaluation mode while it explains.
        images: one image, or as many as there are sentences, with boxes.
        texts: P sentences.
        encode: Where sentences need more than the tokenizer gives, such as the states of a frozen
            language model.
        kind: of the explanation; None is attention where the model has it, else ablation.

    Raises:
        DataError: no boxes, numbers that do not fit, a sentence without a token, a score that is
            not finite, or attention that the model does not have.
    """
    check_images(images, texts)
    with evaluating(pretrained.model) as model:
        attends = isinstance(model, Attentive)
        if kind == "attention" and not attends:
            raise DataError(f"{pretrained.name} has no attention; ask for interaction or ablation")
        chosen = kind or ("attention" if attends else "ablation")
        reader = _Reader(encode or pretrained.tokenizer.encode, pretrained.tokenizer.tokens)
        found: list[Explanation] = []
        for start in range(0, len(texts), PAIRS_AT_ONCE):
            part = slice(start, start + PAIRS_AT_ONCE)
            image = images if len(images) == 1 else images.select(part)
            found += _explained(model, image, texts[part], reader, chosen)
    return found


@dataclass(frozen=True, slots=True)
class _Reader:
    """How sentences are read."""

    encode: Encode
    tokens: Tokens


def _explained(
    model: Matcher, images: ImageBatch, texts: Sequence[str], reader: _Reader, kind: Kind
) -> Iterator[Explanation]:
    if kind == "interaction":
        return interacting(model, images, texts, reader.encode, reader.tokens)
    if kind == "ablation":
        return ablated(model, images, reader.encode(texts), texts)
    tokens = [reader.tokens(text) for text in texts]
    return _attended(model, images, reader.encode(texts), tokens)


def check_images(images: ImageBatch, texts: Sequence[str]) -> None:
    """Refuse vectors without boxes, and numbers that do not fit.

    Raises:
        DataError: no boxes, or neither one image nor one for each sentence.
    """
    if images.boxes is None:
        raise DataError(
            "these region vectors have no boxes, so nothing can be shown in a picture; "
            "extract regions again or give the file of boxes"
        )
    if len(images) not in (1, len(texts)):
        raise DataError(f"{len(images)} images, {len(texts)} sentences; give one image or as many")


@contextmanager
def evaluating(model: nn.Module) -> Iterator[Matcher]:
    """The model in evaluation mode; afterwards it is as it was."""
    training = model.training
    model.eval()
    try:
        yield cast("Matcher", model)
    finally:
        model.train(training)


def _attended(
    model: Matcher, images: ImageBatch, sentences: SentenceBatch, tokens: Sequence[list[str]]
) -> Iterator[Explanation]:
    image, sentence = encode_rows(model, images, sentences)
    scores = finite(model.score_pairs(image, sentence).t2i)
    weights = cast("Attentive", model).attend(image, sentence).float().cpu().numpy()  # (P, W, R)
    for p, pieces in enumerate(tokens):
        regions, boxes = real_regions(images, p if len(images) > 1 else 0)
        words, places = whole_words(pieces)
        of_pieces = weights[p][sentences.mask[p].cpu().numpy()][:, regions]
        if len(of_pieces) != len(pieces):
            raise ValueError(f"{len(of_pieces)} token numbers, {len(pieces)} readable tokens")
        of_words = np.stack([of_pieces[place].mean(axis=0) for place in places])  # (W, R)
        yield Explanation(tuple(words), boxes, of_words.astype(np.float32), float(scores[p]))


def encode_rows(
    model: Matcher, images: ImageBatch, sentences: SentenceBatch
) -> tuple[Encoded, Encoded]:
    """Both sides, row p of one for row p of the other; one image is repeated."""
    device = device_of(model)
    image = model.encode_images(images.to(device))
    sentence = model.encode_sentences(sentences.to(device))
    if len(images) == 1:
        image = image.select(torch.zeros(len(sentences), dtype=torch.long, device=device))
    return image, sentence
