"""Drawing attended regions into a picture: numbered boxes with a word, stronger where it counts."""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from visavis.explain.attention import (
    Explanation,
    content_words,
    region_relevance,
    top_regions,
)
from visavis.extract.boxes import iou, suppress

WIDTH = 320  # pixels; smaller pictures are enlarged, so that labels can be read
REGIONS = 3
SAME = 0.5  # boxes that overlap more (IoU) show the same thing and are drawn once

# Told apart with any kind of colour vision (Okabe and Ito), light enough for black letters.
COLOURS = ("#E69F00", "#56B4E9", "#F0E442", "#CC79A7", "#009E73", "#D55E00")
LABEL_SIZE = 17  # of letters, in pixels
LABEL_LENGTH = 24  # characters
PADDING = 4  # between letters and the edge of their label
# What the built-in font has beyond ASCII.
_GLYPHS = frozenset("©«°±´·»‘’“”…‹›⁄™")

Rectangle = tuple[float, float, float, float]  # x1 y1 x2 y2


@dataclass(frozen=True, slots=True)
class Mark:
    """A region to be drawn."""

    box: Rectangle  # fractions of width and height
    label: str
    strength: float  # 0 to 1 of the strongest mark: how opaque its outline is
    colour: str  # #RRGGBB


@dataclass(frozen=True, slots=True)
class PlacedMark:
    """A mark in the pixels of one picture. Labels lie inside it and, where they can, apart."""

    mark: Mark
    outline: Rectangle
    label: Rectangle

    @property
    def opacity(self) -> float:
        """Of the outline: the weakest can still be seen."""
        return 0.4 + 0.6 * self.mark.strength


@functools.cache
def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """The built-in font in one size."""
    return ImageFont.load_default(size=size)


def printable(text: str) -> str:
    """The text as the built-in font can draw it: accents dropped, other scripts as ?.

    >>> printable("Café über 猫")
    'Cafe uber ?'
    """
    letters = unicodedata.normalize("NFKD", " ".join(text.split()))
    kept = (letter for letter in letters if not unicodedata.combining(letter))
    return "".join(
        letter if letter.isascii() or letter in _GLYPHS else "?" for letter in kept
    )  # fmt: skip


def shorten(text: str, length: int = LABEL_LENGTH) -> str:
    """At most `length` characters. The last words stay: in English the noun comes last.

    >>> shorten("large dotted white heart", 20), shorten("unbelievable", 6)
    ('…dotted white heart', 'unbel…')
    """
    if len(text) <= length:
        return text
    words = text.split()
    while len(words) > 1:
        words = words[1:]
        if len(kept := "…" + " ".join(words)) <= length:
            return kept
    return words[0][: length - 1] + "…"


def word_marks(explanation: Explanation, word: int, k: int = REGIONS) -> list[Mark]:
    """The k regions that one word looks at most, with its weights as labels.

    Only regions of weight above 0: what a sentence does better without is no evidence for it.
    """
    weights = explanation.weights[word]
    chosen = [int(region) for region in top_regions(explanation, word, k) if weights[region] > 0]
    form = ".0%" if explanation.kind == "attention" else "+.2g"
    return _marks(
        explanation, chosen, weights, [format(weights[region], form) for region in chosen]
    )


def sentence_marks(explanation: Explanation, k: int = REGIONS) -> list[Mark]:
    """The k regions that the sentence's content words look at most, labelled with these words.

    A label names the words whose most attended region this is, or one drawn once with it.
    """
    if explanation.kind == "ablation":
        return word_marks(explanation, 0, k)
    relevance = region_relevance(explanation)
    boxes = explanation.boxes
    chosen = [
        int(region) for region in suppress(boxes, relevance, SAME, k) if relevance[region] > 0
    ]
    overlap = iou(boxes, boxes[chosen])  # (R, chosen)
    labels = []
    for place, region in enumerate(chosen):
        words = [
            word
            for word in content_words(explanation)
            if _drawn_as(overlap[explanation.weights[word].argmax()]) == place
        ]
        weights = explanation.weights[list(content_words(explanation)), region]
        words = words or [content_words(explanation)[int(weights.argmax())]]
        labels.append(" ".join(explanation.words[word] for word in words))
    return _marks(explanation, chosen, relevance, labels)


def _drawn_as(overlap: np.ndarray[tuple[int], np.dtype[np.float32]]) -> int | None:
    """Which of the chosen boxes stands for a region; None when no one does."""
    best = int(overlap.argmax())
    return best if overlap[best] > SAME else None


def _marks(
    explanation: Explanation,
    regions: Sequence[int],
    weights: np.ndarray[tuple[int], np.dtype[np.float32]],
    labels: Sequence[str],
) -> list[Mark]:
    strongest = max((float(weights[region]) for region in regions), default=1.0)
    marks = []
    for place, (region, label) in enumerate(zip(regions, labels, strict=True)):
        x1, y1, x2, y2 = (float(edge) for edge in explanation.boxes[region])
        marks.append(
            Mark(
                (x1, y1, x2, y2),
                f"{place + 1} {shorten(label)}",
                float(weights[region]) / strongest,
                COLOURS[place % len(COLOURS)],
            )
        )
    return marks


def fit(picture: Image.Image, width: int = WIDTH, height: int | None = None) -> Image.Image:
    """The picture scaled to a width, or less where it would be higher than `height`."""
    scale = width / picture.width
    if height is not None:
        scale = min(scale, height / picture.height)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture.resize(size, Image.Resampling.LANCZOS)


def place(marks: Sequence[Mark], size: tuple[int, int]) -> list[PlacedMark]:
    """Pixels of outlines and labels in a picture of some width and height."""
    width, height = size
    placed: list[PlacedMark] = []
    for mark in marks:
        x1, y1, x2, y2 = mark.box
        outline = (x1 * width, y1 * height, x2 * width, y2 * height)
        placed.append(PlacedMark(mark, outline, _label_place(mark.label, outline, size, placed)))
    return placed


def _label_place(
    label: str, outline: Rectangle, size: tuple[int, int], others: Sequence[PlacedMark]
) -> Rectangle:
    """The corner of the box, inside or out, where the label hides least; labels never meet there.

    Where every corner is taken, the first free line of the picture.
    """
    wide = min(font(LABEL_SIZE).getlength(printable(label)) + 2 * PADDING, float(size[0]))
    high = LABEL_SIZE + PADDING
    x1, y1, x2, y2 = outline
    corners = [(x1, y1 - high), (x2 - wide, y1 - high), (x1, y2), (x2 - wide, y2)]
    corners += [(x, y) for y in (y1, y2 - high) for x in (x1, x2 - wide)]
    lines = [
        (x, float(y)) for y in range(0, size[1] - high, high) for x in (x1, 0.0, size[0] - wide)
    ]
    places = [
        (left, top, left + wide, top + high)
        for left, top in (
            (max(0.0, min(x, size[0] - wide)), max(0.0, min(y, size[1] - high)))
            for x, y in corners + lines
        )
    ]
    free = [spot for spot in places if not any(_shared(spot, other.label) for other in others)]
    near = [spot for spot in free if spot in places[: len(corners)]]
    boxes = [outline, *(other.outline for other in others)]
    hidden = {spot: sum(_shared(box, spot) for box in boxes) for spot in near}
    return min(near, key=hidden.__getitem__) if near else (free or places)[0]


def _shared(first: Rectangle, second: Rectangle) -> float:
    """The share of the first rectangle that lies in the second."""
    wide = min(first[2], second[2]) - max(first[0], second[0])
    high = min(first[3], second[3]) - max(first[1], second[1])
    area = (first[2] - first[0]) * (first[3] - first[1])
    return max(0.0, wide) * max(0.0, high) / max(area, 1e-9)


def draw_marks(picture: Image.Image, marks: Sequence[Mark], width: int = WIDTH) -> Image.Image:
    """A copy of the picture, `width` pixels wide, with its marks; the first lies on top."""
    return paint(fit(picture, width), marks)


def paint(picture: Image.Image, marks: Sequence[Mark]) -> Image.Image:
    """A copy of the picture as large as it is, with its marks."""
    canvas = picture.convert("RGBA")
    placed = place(marks, canvas.size)
    for item in reversed(placed):
        layer = Image.new("RGBA", canvas.size)
        pen = ImageDraw.Draw(layer)
        opacity = round(255 * item.opacity)
        # A dark edge on both sides keeps a light outline visible on a light picture.
        for inset, line, ink in ((0, 5, "#000000"), (1, 3, item.mark.colour)):
            pen.rectangle(
                _inset(item.outline, inset, canvas.size), outline=_ink(ink, opacity), width=line
            )
        canvas.alpha_composite(layer)
    pen = ImageDraw.Draw(canvas)
    for item in reversed(placed):
        left, top, right, bottom = item.label
        pen.rectangle((left, top, right - 1, bottom - 1), fill=item.mark.colour, outline="#000000")
        middle = (left + PADDING, (top + bottom) / 2 - 1)
        pen.text(middle, printable(item.mark.label), "#000000", font(LABEL_SIZE), anchor="lm")
    return canvas.convert("RGB")


def _inset(outline: Rectangle, by: int, size: tuple[int, int]) -> Rectangle:
    """Whole pixels inside the picture, at least one wide and high."""
    left, top = (
        min(int(edge), side - 1) + by for edge, side in zip(outline[:2], size, strict=True)
    )
    right, bottom = (
        min(round(edge), side) - 1 - by for edge, side in zip(outline[2:], size, strict=True)
    )
    return left, top, max(left, right), max(top, bottom)


def _ink(colour: str, opacity: int) -> tuple[int, int, int, int]:
    red, green, blue = bytes.fromhex(colour.removeprefix("#"))
    return red, green, blue, opacity
