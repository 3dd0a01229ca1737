"""Means as dots with their intervals on one axis, a line for each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

from visavis.explain.canvas import INK, LINE, MARGIN, SMALL, SOFT, TEXT, blank, cut
from visavis.explain.draw import font
from visavis.explain.interval import Mean
from visavis.explain.plot import nice_ticks

ROW = 36  # pixels, of a line
NAMES = 330  # of the names beside it
TOLD = 250  # of the numbers at its right end
RADIUS = 6


@dataclass(frozen=True, slots=True)
class Dot:
    """One mean."""

    name: str
    mean: Mean
    told: str  # the number, as it stands at the right end
    colour: str


def draw_dots(dots: Sequence[Dot], under: str, width: int, *, log: bool = False) -> Image.Image:
    """Dots with bars for their intervals, names on the left and numbers on the right.

    Args:
        dots: from top to bottom.
        under: what the axis is of.
        width: of the strip, with its margins.
        log: a logarithmic axis; every interval is then above 0.
    """
    low, high = min(dot.mean.low for dot in dots), max(dot.mean.high for dot in dots)
    ticks = _powers(low, high) if log else nice_ticks(low, high)
    left, right = MARGIN + NAMES, width - MARGIN - TOLD
    bottom = len(dots) * ROW + 10
    strip, pen = blank(width, bottom + 2 * TEXT + 40)

    def place(value: float) -> float:
        first, last, own = ((math.log(v) if log else v) for v in (ticks[0], ticks[-1], value))
        return left + (own - first) / (last - first) * (right - left)

    for tick in ticks:
        x = place(tick)
        pen.line((x, 0, x, bottom), LINE)
        pen.text((x, bottom + 6), f"{tick:,g}", SOFT, font(SMALL), anchor="mt")
    pen.text(((left + right) / 2, bottom + SMALL + 14), under, SOFT, font(SMALL), anchor="mt")
    for row, dot in enumerate(dots):
        y = row * ROW + ROW / 2
        pen.text((left - 16, y), cut(dot.name, TEXT, NAMES - 16), INK, font(TEXT), anchor="rm")
        pen.text((right + 20, y), cut(dot.told, SMALL, TOLD - 20), INK, font(SMALL), anchor="lm")
        _dot(pen, (place(dot.mean.low), place(dot.mean.mean), place(dot.mean.high)), y, dot.colour)
    return strip


def _dot(
    pen: ImageDraw.ImageDraw, across: tuple[float, float, float], y: float, colour: str
) -> None:
    low, mean, high = across
    pen.line((low, y, high, y), colour, 3)
    for end in (low, high):
        pen.line((end, y - 6, end, y + 6), colour, 3)
    pen.ellipse((mean - RADIUS, y - RADIUS, mean + RADIUS, y + RADIUS), fill=colour)


def _powers(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten from at most the lowest to at least the highest.

    >>> _powers(3.0, 70.0)
    [2.0, 5.0, 10.0, 20.0, 50.0, 100.0]
    """
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    steps = [m * 10.0**power for power in range(first, last + 1) for m in (1, 2, 5)]
    start = max(i for i, step in enumerate(steps) if step <= low)
    end = min((i for i, step in enumerate(steps) if step >= high), default=len(steps) - 1)
    return steps[start : max(end, start + 1) + 1]
