"""Two curves over the values of a setting, each with an axis of its own (DCPA, Fig. 4)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

from visavis.explain.canvas import INK, LINE, MARGIN, SMALL, SOFT, TEXT, blank, cut, heading, stack
from visavis.explain.draw import font

WIDTH, HEIGHT = 960, 440
SIDE = 110  # pixels left and right of the curves, for ticks and names
ABOVE, BELOW = 56, 76
TICKS = 5
COLOURS = ("#0550ae", "#bc4c00")  # of the left and the right curve
DOT = 7  # radius


@dataclass(frozen=True, slots=True)
class Curve:
    """A name and a number for each value of the setting."""

    name: str
    values: tuple[float, ...]


def draw_curves(
    title: str, notes: Sequence[str], names: Sequence[str], curves: tuple[Curve, Curve], under: str
) -> Image.Image:
    """Both curves over the names of the values, which stand at even distances.

    Args:
        title: above the plot.
        notes: below the title.
        names: of the values, in order.
        curves: of the left and of the right axis.
        under: what the values are of.
    """
    plot, pen = blank(WIDTH, HEIGHT)
    right, bottom = WIDTH - SIDE, HEIGHT - BELOW
    room = (right - SIDE) / max(len(names), 1)
    across = [SIDE + room * (place + 0.5) for place in range(len(names))]
    pen.rectangle((SIDE, ABOVE, right, bottom), outline=SOFT)
    for number, curve in enumerate(curves):
        _curve(pen, curve, across, number)
    for x, name in zip(across, names, strict=True):
        shown = cut(name, SMALL, room - 4)
        pen.line((x, bottom, x, bottom + 6), SOFT)
        pen.text((x, bottom + 12), shown, INK, font(SMALL), anchor="mt")
    pen.text(((SIDE + right) / 2, HEIGHT - 12), under, INK, font(TEXT), anchor="mb")
    return stack([heading(title, notes, WIDTH), plot])


def _curve(pen: ImageDraw.ImageDraw, curve: Curve, across: Sequence[float], number: int) -> None:
    """One curve, its axis and its name; the second is dashed and has squares."""
    colour = COLOURS[number]
    ticks = nice_ticks(min(curve.values), max(curve.values))
    low, high = ticks[0], ticks[-1]
    top, bottom = ABOVE, HEIGHT - BELOW

    def height(value: float) -> float:
        return bottom - (value - low) / (high - low) * (bottom - top)

    at = SIDE if number == 0 else WIDTH - SIDE
    outwards = -1 if number == 0 else 1
    for tick in ticks:
        y = height(tick)
        if number == 0 and tick not in (low, high):
            pen.line((SIDE, y, WIDTH - SIDE, y), LINE)
        pen.line((at, y, at + 6 * outwards, y), colour)
        anchor = "rm" if number == 0 else "lm"
        pen.text((at + 12 * outwards, y), f"{tick:g}", colour, font(SMALL), anchor=anchor)
    edge = MARGIN if number == 0 else WIDTH - MARGIN
    _name(pen, (edge, top - 18), curve.name, number)
    points = [(x, height(value)) for x, value in zip(across, curve.values, strict=True)]
    for (x1, y1), (x2, y2) in itertools.pairwise(points):
        _line(pen, (x1, y1, x2, y2), colour, dashed=number == 1)
    for x, y in points:
        _dot(pen, x, y, number)


def _name(pen: ImageDraw.ImageDraw, corner: tuple[float, float], name: str, number: int) -> None:
    """The curve's name beside its sign."""
    x, y = corner
    colour = COLOURS[number]
    if number == 0:
        _dot(pen, x + DOT, y - TEXT / 3, number)
        pen.text((x + 3 * DOT, y), name, colour, font(TEXT), anchor="ls")
    else:
        _dot(pen, x - DOT, y - TEXT / 3, number)
        pen.text((x - 3 * DOT, y), name, colour, font(TEXT), anchor="rs")


def _dot(pen: ImageDraw.ImageDraw, x: float, y: float, number: int) -> None:
    corners = (x - DOT, y - DOT, x + DOT, y + DOT)
    draw = pen.ellipse if number == 0 else pen.rectangle
    draw(corners, fill=COLOURS[number], outline="#ffffff")


def _line(
    pen: ImageDraw.ImageDraw, ends: tuple[float, float, float, float], colour: str, *, dashed: bool
) -> None:
    x1, y1, x2, y2 = ends
    if not dashed:
        pen.line(ends, colour, 3)
        return
    pieces = max(int(math.hypot(x2 - x1, y2 - y1) / 8), 1)
    for piece in range(0, pieces, 2):
        start, end = piece / pieces, min((piece + 1) / pieces, 1.0)
        pen.line(
            (
                x1 + start * (x2 - x1),
                y1 + start * (y2 - y1),
                x1 + end * (x2 - x1),
                y1 + end * (y2 - y1),
            ),
            colour,
            3,
        )


def nice_ticks(low: float, high: float) -> list[float]:
    """Round numbers from at most the lowest to at least the highest.

    >>> nice_ticks(251.3, 279.9)
    [250.0, 260.0, 270.0, 280.0]
    >>> nice_ticks(3.0, 3.0)
    [2.0, 2.5, 3.0, 3.5, 4.0]
    """
    if high - low < 1e-6:  # a flat curve
        low, high = low - 1, high + 1
    rough = (high - low) / (TICKS - 1)
    magnitude = 10.0 ** math.floor(math.log10(rough))
    step = next(m * magnitude for m in (1, 2, 5, 10) if m * magnitude >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(step * place, 10) for place in range(first, last + 1)]
