"""Gates drawn: on the picture, over the words, and their means (CAMP, Fig. 5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from visavis.errors import DataError
from visavis.explain.canvas import (
    GAP,
    INK,
    MARGIN,
    SMALL,
    SOFT,
    TEXT,
    blank,
    cut,
    heading,
    stack,
    tiles,
    wrap,
)
from visavis.explain.dots import Dot, draw_dots
from visavis.explain.draw import Mark, fit, font, paint, printable
from visavis.explain.explanation import Array
from visavis.explain.gates import SIDES, GatedPair, MeanGates
from visavis.explain.heat import overlay
from visavis.explain.sheet_picture import VERDICTS
from visavis.extract.pictures import load_picture

TILE = 320  # pixels, of a picture
NAMED = 4  # boxes that are named in a picture
WIDTH = 2 * MARGIN + 4 * TILE + 3 * GAP
LEAST, GREATEST = (218, 222, 228), (240, 140, 20)  # of gates, behind black letters
TRUE, FALSE = "#0072B2", "#D55E00"  # of means; told apart with any kind of colour vision
NOTE = (
    "A gate says how much of the message from the other side a region or a word takes in: 0 "
    "nothing, 1 all of it; of a gate of many numbers, their mean. The second picture is brighter "
    "where its boxes have higher gates, in the mean. One scale holds for all pictures, another for "
    "all words."
)


def draw_gates(
    pairs: Sequence[GatedPair], means: Mapping[str, MeanGates], notes: tuple[str, str]
) -> Image.Image:
    """Each pair in its pictures and over its words, and the means below.

    Args:
        pairs: of one model, on one scale.
        means: by side.
        notes: the title, and what stands below it beside what gates are.

    Raises:
        DataError: no picture, or vectors without boxes.
    """
    scales = {
        "regions": _scale([pair.region_gates for pair in pairs]),
        "words": _scale([pair.word_gates for pair in pairs]),
    }
    strips = [heading(notes[0], (notes[1], NOTE), WIDTH)]
    for pair in pairs:
        strips += [_title(pair), _pictures(pair, scales["regions"]), _words(pair, scales["words"])]
    strips.append(_bars(scales))
    strips.append(_section("Mean gates over the split"))
    strips.append(draw_dots(_dots(means), "mean gate", WIDTH))
    return stack(strips)


def _scale(values: Sequence[Array]) -> tuple[float, float]:
    """The least and the greatest of all."""
    joined = np.concatenate(values)
    return float(joined.min()), float(joined.max())


def _shares(values: Array, scale: tuple[float, float]) -> Array:
    """From 0 for the least to 1 for the greatest."""
    low, high = scale
    found: Array = (values - low) / max(high - low, 1e-12)
    return found


def _title(pair: GatedPair) -> Image.Image:
    told, colour = f"score {pair.score:.3f}", SOFT
    if pair.right is not None:
        verdict = "belongs to this picture" if pair.right else "belongs to another picture"
        told, colour = (
            f"the sentence {verdict}; {told}",
            VERDICTS["right" if pair.right else "wrong"],
        )
    lines = wrap(pair.sentence, TEXT, WIDTH - 2 * MARGIN)
    strip, pen = blank(WIDTH, GAP + (len(lines) + 1) * (TEXT + 8) + 6)
    for place, line in enumerate(lines):
        pen.text((MARGIN, GAP + place * (TEXT + 8)), line, INK, font(TEXT))
    pen.text((MARGIN, GAP + len(lines) * (TEXT + 8)), told, colour, font(TEXT))
    return strip


def _pictures(pair: GatedPair, scale: tuple[float, float]) -> Image.Image:
    """The picture, its heat, and the boxes of the highest and of the lowest gates."""
    if pair.picture is None or pair.boxes is None:
        missing = "picture file" if pair.picture is None else "boxes"
        raise DataError(f"{pair.image}: has no {missing}, so no gates can be drawn; write .json")
    small = fit(load_picture(pair.picture), TILE, TILE)
    shares = _shares(pair.region_gates, scale)
    hot = overlay(small, _mean_map(pair.boxes, shares, small.size))
    order = np.argsort(-pair.region_gates, kind="stable")
    shown = [
        (small, "the picture"),
        (hot, "gates of the regions"),
        (paint(small, _marks(pair, shares, order[:NAMED])), "the highest gates"),
        (paint(small, _marks(pair, shares, order[::-1][:NAMED])), "the lowest gates"),
    ]
    return tiles([_captioned(picture, text) for picture, text in shown], len(shown))


def _mean_map(boxes: Array, shares: Array, size: tuple[int, int]) -> Array:
    """The mean over the boxes that cover each pixel; 0 where there is none: (h, w).

    Low gates tell as much as high ones, so the greatest of them would not do.
    """
    width, height = size
    total, count = np.zeros((2, height, width), np.float32)
    for (x1, y1, x2, y2), share in zip(boxes, shares, strict=True):
        rows = slice(round(float(y1) * height), max(round(float(y2) * height), 1))
        columns = slice(round(float(x1) * width), max(round(float(x2) * width), 1))
        total[rows, columns] += share
        count[rows, columns] += 1
    found: Array = (total / np.maximum(count, 1)).astype(np.float32)
    return found


def _told(value: float, digits: int = 3) -> str:
    """A gate with so many digits behind the point, or in powers of ten where it is tiny.

    >>> _told(0.48), _told(2.7e-9)
    ('0.480', '2.7e-09')
    """
    return f"{value:.{digits}f}" if value >= 10.0**-digits else f"{value:.1e}"


def _marks(pair: GatedPair, shares: Array, regions: NDArray[np.intp]) -> list[Mark]:
    marks = []
    for region in map(int, regions):
        x1, y1, x2, y2 = (float(edge) for edge in np.asarray(pair.boxes)[region])
        label = _told(float(pair.region_gates[region]))
        marks.append(Mark((x1, y1, x2, y2), label, 1.0, _hex(_colour(float(shares[region])))))
    return marks


def _colour(share: float) -> tuple[int, int, int]:
    """Grey for the least gate, orange for the greatest: black letters can be read on both."""
    strength = min(max(share, 0.0), 1.0)
    red, green, blue = (
        round(low + (high - low) * strength) for low, high in zip(LEAST, GREATEST, strict=True)
    )
    return red, green, blue


def _hex(colour: tuple[int, int, int]) -> str:
    return "#" + bytes(colour).hex()


def _captioned(picture: Image.Image, text: str) -> Image.Image:
    canvas, pen = blank(max(picture.width, TILE), picture.height + TEXT + 12)
    canvas.paste(picture, (0, 0))
    pen.text((0, picture.height + 6), cut(text, TEXT, canvas.width), SOFT, font(TEXT))
    return canvas


def _words(pair: GatedPair, scale: tuple[float, float]) -> Image.Image:
    """Each word on the colour of its gate, with the number below."""
    shares = _shares(pair.word_gates, scale)
    boxes: list[tuple[int, int, str, str, float]] = []  # left, line, word, number, share
    left, line = MARGIN, 0
    for word, gate, share in zip(pair.words, pair.word_gates, shares, strict=True):
        name, number = printable(word), _told(float(gate))
        wide = int(max(font(TEXT).getlength(name), font(SMALL).getlength(number))) + 16
        if left + wide > WIDTH - MARGIN and left > MARGIN:
            left, line = MARGIN, line + 1
        boxes.append((left, line, name, number, float(share)))
        left += wide + 8
    high = TEXT + SMALL + 26
    strip, pen = blank(WIDTH, (line + 1) * high + GAP)
    for start, row, name, number, share in boxes:
        _word(pen, (start, GAP // 2 + row * high), name, number, share)
    return strip


def _word(
    pen: ImageDraw.ImageDraw, corner: tuple[int, int], name: str, number: str, share: float
) -> None:
    left, top = corner
    wide = max(font(TEXT).getlength(name), font(SMALL).getlength(number)) + 16
    pen.rectangle((left, top, left + wide, top + TEXT + 10), fill=_colour(share))
    pen.text((left + wide / 2, top + (TEXT + 10) / 2), name, "#000000", font(TEXT), anchor="mm")
    pen.text((left + wide / 2, top + TEXT + 14), number, SOFT, font(SMALL), anchor="mt")


def _bars(scales: Mapping[str, tuple[float, float]]) -> Image.Image:
    """What the colours of regions and of words stand for."""
    strip, pen = blank(WIDTH, TEXT + 2 * GAP)
    for number, side in enumerate(SIDES):
        low, high = scales[side]
        left = MARGIN + number * (WIDTH // 2)
        name = f"{side}: {_told(low)}"
        pen.text((left, GAP), name, INK, font(SMALL))
        start = left + int(font(SMALL).getlength(name)) + 10
        for step in range(160):
            x = start + step
            pen.line((x, GAP, x, GAP + SMALL), _colour(step / 159))
        pen.text((start + 170, GAP), _told(high), INK, font(SMALL))
    return strip


def _section(text: str) -> Image.Image:
    strip, pen = blank(WIDTH, TEXT + 2 * GAP)
    pen.text((MARGIN, GAP), text, INK, font(TEXT))
    return strip


def _dots(means: Mapping[str, MeanGates]) -> list[Dot]:
    found = []
    for side in SIDES:
        for name, mean, colour in (
            ("pairs that belong together", means[side].true, TRUE),
            ("pairs that do not", means[side].false, FALSE),
        ):
            told = f"{_told(mean.mean, 4)} [{_told(mean.low, 4)}, {_told(mean.high, 4)}]"
            found.append(Dot(f"{side}, {name}", mean, told, colour))
    return found
