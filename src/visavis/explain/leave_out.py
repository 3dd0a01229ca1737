"""Explanations that need nothing but scores: regions and words are left out and put back.

`ablation` leaves out one region at a time. `interaction` leaves out one region r, one word w, and
both: S(all) - S(without r) - S(without w) + S(without both) is what the two bring together. It is
the second difference of the score, 0 for a score that is a sum of a part of the image and a part of
the sentence. R + 1 images and W + 1 sentences are encoded, and one score matrix has all of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from visavis.errors import DataError
from visavis.explain.explanation import Array, Explanation
from visavis.explain.words import find_words, is_special, whole_words
from visavis.scoring.matrix import score_matrix
from visavis.types import Encoded, ImageBatch, Matcher, SentenceBatch

Encode = Callable[[Sequence[str]], SentenceBatch]
Tokens = Callable[[str], list[str]]


def ablated(
    model: Matcher, images: ImageBatch, sentences: SentenceBatch, texts: Sequence[str]
) -> Iterator[Explanation]:
    """What each pair's score loses without each region."""
    encoded = model.encode_sentences(sentences.to(device_of(model)))
    for p, (text, without, boxes) in enumerate(_images_without(model, images, texts)):
        sentence = encoded.select(torch.full((len(without),), p, device=without.mask.device))
        scores = finite(model.score_pairs(without, sentence).t2i)
        # One region alone cannot be left out: nothing is known of it.
        lost = scores[0] - scores[1:] if len(scores) > 1 else np.zeros(1, np.float32)
        yield Explanation((text,), boxes, lost[None], float(scores[0]), "ablation")


def interacting(
    model: Matcher, images: ImageBatch, texts: Sequence[str], encode: Encode, tokens: Tokens
) -> Iterator[Explanation]:
    """What each word and each region bring to a pair's score together.

    Words are taken out of the text, so that a language model too reads the shorter sentence.
    """
    shorter = [shorter_texts(text, tokens) for text in texts]
    together = [text for words in shorter for text in words.texts]
    encoded = model.encode_sentences(encode(together).to(device_of(model)))
    start = 0
    for words, (_, without, boxes) in zip(
        shorter, _images_without(model, images, texts), strict=True
    ):
        sentences = encoded.select(slice(start, start + len(words.texts))).trimmed()
        start += len(words.texts)
        scores = finite(score_matrix(model, without, sentences).t2i)  # (1 + R, 1 + left out)
        weights = np.zeros((len(words.words), len(boxes)), np.float32)
        if len(scores) > 1:
            second = scores[:1, :1] - scores[1:, :1] - scores[:1, 1:] + scores[1:, 1:]
            weights[list(words.places)] = second.T
        yield Explanation(words.words, boxes, weights, float(scores[0, 0]), "interaction")


@dataclass(frozen=True, slots=True)
class ShorterTexts:
    """A sentence, and the same without each of its words."""

    words: tuple[str, ...]  # W, end marks included
    places: tuple[int, ...]  # of the words that could be left out
    texts: tuple[str, ...]  # the whole sentence, then one for each of the places


def shorter_texts(text: str, tokens: Tokens) -> ShorterTexts:
    """Leave out each word of a text in turn.

    Words that do not stand in the text as they are, and a word without which nothing would be left,
    cannot be left out. Where the tokenizer cut a long sentence, the rest of it stays out.

    >>> found = shorter_texts("red dog", str.split)
    >>> found.words, found.places, found.texts
    (('red', 'dog'), (0, 1), ('red dog', ' dog', 'red '))
    """
    pieces = tokens(text)
    words, _ = whole_words(pieces)
    spans = find_words(text, words)
    kept = text[: max((span[1] for span in spans if span is not None), default=len(text))]
    if tokens(kept) != pieces:  # the last words do not stand in the text as they are
        kept = text
    places, texts = [], [text]
    for place, span in enumerate(spans):
        if span is None:
            continue
        rest = kept[: span[0]] + kept[span[1] :]
        if rest.strip() and not all(map(is_special, tokens(rest))):
            places.append(place)
            texts.append(rest)
    return ShorterTexts(tuple(words), tuple(places), tuple(texts))


def _images_without(
    model: Matcher, images: ImageBatch, texts: Sequence[str]
) -> Iterator[tuple[str, Encoded, Array]]:
    """Each text with its image, whole and without each region, and the image's boxes.

    One image with many sentences is encoded once.
    """
    without: Encoded | None = None
    for p, text in enumerate(texts):
        row = p if len(images) > 1 else 0
        regions, boxes = real_regions(images, row)
        if without is None or len(images) > 1:
            left_out = _leave_out(images.regions[row][regions], torch.from_numpy(boxes))
            without = model.encode_images(left_out.to(device_of(model)))
        yield text, without, boxes


def _leave_out(regions: Tensor, boxes: Tensor) -> ImageBatch:
    """An image of R regions, and the same without each in turn: 1 + R images."""
    count = len(regions)
    rows = count + 1 if count > 1 else 1
    mask = torch.ones(rows, count, dtype=torch.bool)
    mask[torch.arange(1, rows), torch.arange(rows - 1)] = False  # places mean something: none moves
    real = mask[:, :, None].to(regions.device)
    return ImageBatch(regions * real, mask, boxes.to(regions.device) * real)


def real_regions(images: ImageBatch, row: int) -> tuple[NDArray[np.bool_], Array]:
    """Which places of an image hold a region, and the boxes of those."""
    regions = images.mask[row].cpu().numpy()
    boxes = cast("Tensor", images.boxes)[row].float().cpu().numpy()
    return regions, boxes[regions]


def device_of(model: Matcher) -> torch.device:
    """Where the model's weights are."""
    return next(cast("nn.Module", model).parameters()).device


def finite(scores: Tensor) -> Array:
    """Scores as an array.

    Raises:
        DataError: one of them is not finite.
    """
    if not bool(torch.isfinite(scores).all()):
        raise DataError("a score is not finite; check the region vectors and the model's weights")
    found: Array = scores.float().cpu().numpy()
    return found
