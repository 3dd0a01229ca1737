"""Which regions each word looks at, or which regions a score rests on.

A model that attends says so itself (`Attentive`). For any other, regions are left out one at a
time: what the score loses without a region is the evidence of that region. The two kinds are not
the same: attention says where a word looks, leaving out says what the whole sentence's score needs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, Protocol, cast, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from visavis.errors import DataError
from visavis.explain.words import is_content, is_special, whole_words
from visavis.models.pretrained import Pretrained
from visavis.types import Encoded, ImageBatch, Matcher, SentenceBatch

PAIRS_AT_ONCE = 64

Kind = Literal["attention", "ablation"]
Array = NDArray[np.float32]


@runtime_checkable
class Attentive(Protocol):
    """A model that can tell which regions each word attends to."""

    def attend(self, images: Encoded, sentences: Encoded) -> Tensor:
        """Weight of region r for word w of aligned rows: (P, W, R)."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Explanation:
    """Why one image and one sentence have the score they have.

    `attention`: each word's weights over the regions, as the model used them. `ablation`: the
    whole sentence is the only word, and a weight is what the score loses without the region, below
    0 where the score gains.
    """

    words: tuple[str, ...]  # W, readable, end marks of the tokenizer included
    boxes: Array  # (R, 4) x1 y1 x2 y2 as fractions of width and height
    weights: Array  # (W, R)
    score: float
    kind: Kind = "attention"

    def __post_init__(self) -> None:
        shape = (len(self.words), len(self.boxes))
        if self.weights.shape != shape or self.boxes.shape[1:] != (4,):
            raise ValueError(
                f"weights {self.weights.shape}, boxes {self.boxes.shape}, {len(self.words)} words"
            )


@torch.inference_mode()
def explain(
    pretrained: Pretrained,
    images: ImageBatch,
    texts: Sequence[str],
    *,
    encode: Callable[[Sequence[str]], SentenceBatch] | None = None,
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

    Raises:
        DataError: no boxes, numbers that do not fit, a sentence without a token, a score that is
            not finite.
    """
    if images.boxes is None:
        raise DataError(
            "these region vectors have no boxes, so nothing can be shown in a picture; "
            "extract regions again or give the file of boxes"
        )
    if len(images) not in (1, len(texts)):
        raise DataError(f"{len(images)} images, {len(texts)} sentences; give one image or as many")
    encode = encode or pretrained.tokenizer.encode
    found: list[Explanation] = []
    with _evaluating(pretrained.model) as model:
        for start in range(0, len(texts), PAIRS_AT_ONCE):
            part = slice(start, start + PAIRS_AT_ONCE)
            chosen = images if len(images) == 1 else images.select(part)
            batch = encode(texts[part])
            if isinstance(model, Attentive):
                tokens = [pretrained.tokenizer.tokens(text) for text in texts[part]]
                found += _attended(model, chosen, batch, tokens)
            else:
                found += _ablated(model, chosen, batch, texts[part])
    return found


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[Matcher]:
    training = model.training
    model.eval()
    try:
        yield cast("Matcher", model)
    finally:
        model.train(training)


def _attended(
    model: Matcher, images: ImageBatch, sentences: SentenceBatch, tokens: Sequence[list[str]]
) -> Iterator[Explanation]:
    device = _device(model)
    image = model.encode_images(images.to(device))
    sentence = model.encode_sentences(sentences.to(device))
    if len(images) == 1:
        image = image.select(torch.zeros(len(sentences), dtype=torch.long, device=device))
    scores = _finite(model.score_pairs(image, sentence).t2i)
    weights = cast("Attentive", model).attend(image, sentence).float().cpu().numpy()  # (P, W, R)
    for p, pieces in enumerate(tokens):
        regions, boxes = _real(images, p if len(images) > 1 else 0)
        words, places = whole_words(pieces)
        of_pieces = weights[p][sentences.mask[p].cpu().numpy()][:, regions]
        if len(of_pieces) != len(pieces):
            raise ValueError(f"{len(of_pieces)} token numbers, {len(pieces)} readable tokens")
        of_words = np.stack([of_pieces[place].mean(axis=0) for place in places])  # (W, R)
        yield Explanation(tuple(words), boxes, of_words.astype(np.float32), float(scores[p]))


def _ablated(
    model: Matcher, images: ImageBatch, sentences: SentenceBatch, texts: Sequence[str]
) -> Iterator[Explanation]:
    device = _device(model)
    encoded = model.encode_sentences(sentences.to(device))
    without: Encoded | None = None
    for p, text in enumerate(texts):
        row = p if len(images) > 1 else 0
        regions, boxes = _real(images, row)
        if without is None or len(images) > 1:
            left_out = _leave_out(images.regions[row][regions], torch.from_numpy(boxes))
            without = model.encode_images(left_out.to(device))
        sentence = encoded.select(torch.full((len(without),), p, device=device))
        scores = _finite(model.score_pairs(without, sentence).t2i)
        # One region alone cannot be left out: nothing is known of it.
        lost = scores[0] - scores[1:] if len(scores) > 1 else np.zeros(1, np.float32)
        yield Explanation((text,), boxes, lost[None], float(scores[0]), "ablation")


def _leave_out(regions: Tensor, boxes: Tensor) -> ImageBatch:
    """An image of R regions, and the same without each in turn: 1 + R images."""
    count = len(regions)
    rows = count + 1 if count > 1 else 1
    mask = torch.ones(rows, count, dtype=torch.bool)
    mask[torch.arange(1, rows), torch.arange(rows - 1)] = False  # places mean something: none moves
    real = mask[:, :, None].to(regions.device)
    return ImageBatch(regions * real, mask, boxes.to(regions.device) * real)


def _real(images: ImageBatch, row: int) -> tuple[NDArray[np.bool_], Array]:
    """Which places of an image hold a region, and the boxes of those."""
    regions = images.mask[row].cpu().numpy()
    boxes = cast("Tensor", images.boxes)[row].float().cpu().numpy()
    return regions, boxes[regions]


def _device(model: Matcher) -> torch.device:
    return next(cast("nn.Module", model).parameters()).device


def _finite(scores: Tensor) -> Array:
    if not bool(torch.isfinite(scores).all()):
        raise DataError("a score is not finite; check the region vectors and the model's weights")
    found: Array = scores.float().cpu().numpy()
    return found


def content_words(explanation: Explanation) -> tuple[int, ...]:
    """Positions of the words that can stand for something in the picture.

    Without end marks, punctuation and English stop words; of a sentence that has nothing else,
    every word but the end marks.
    """
    if explanation.kind == "ablation":
        return (0,)
    words = explanation.words
    content = tuple(place for place, word in enumerate(words) if is_content(word))
    return content or tuple(place for place, word in enumerate(words) if not is_special(word))


def top_regions(explanation: Explanation, word: int, k: int) -> NDArray[np.int64]:
    """The regions of largest weight for the word at a position, best first: at most k."""
    return np.argsort(-explanation.weights[word], kind="stable")[:k]


def region_relevance(explanation: Explanation, how: Literal["max", "mean"] = "max") -> Array:
    """How much the sentence's content words look at each region: (R,).

    `max`: the word that looks at it most counts; `mean`: all of them together.
    """
    weights = explanation.weights[list(content_words(explanation))]  # (content words, R)
    relevance: Array = weights.max(axis=0) if how == "max" else weights.mean(axis=0)
    return relevance
