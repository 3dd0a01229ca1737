"""Weights of boxes as heat over a picture, and of anything as the cells of a matrix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from visavis.explain.canvas import GAP, INK, SMALL, SOFT, TEXT, blank, cut
from visavis.explain.draw import font
from visavis.explain.explanation import Array

# From dark to light, so that the order is the same for any kind of colour vision.
RAMP = ((96, 0, 80), (190, 30, 60), (240, 120, 20), (255, 215, 60), (255, 250, 170))
OPAQUE = 0.5  # of the heat, where it is greatest
SHADE = 0.8  # of the grey picture where there is no heat
PAPER_COLOUR, FOR, AGAINST = (255, 255, 255), (5, 48, 97), (166, 54, 3)  # of a matrix
CELL = 24  # pixels, of a matrix with few columns
SMALLEST = 15
LONGEST = 150  # pixels, of the names beside a matrix


def heat_map(boxes: Array, weights: Array, size: tuple[int, int]) -> Array:
    """The largest weight of all boxes that cover each pixel, from 0 to 1 of the largest: (h, w).

    Weights below 0 count as 0.

    >>> left, all_of_it = [0, 0, 0.5, 1], [0, 0, 1, 1]
    >>> found = heat_map(np.array([left, all_of_it]), np.array([4.0, 1.0]), (4, 1))
    >>> found.tolist()
    [[1.0, 1.0, 0.25, 0.25]]
    """
    width, height = size
    heat = np.zeros((height, width), np.float32)
    for (x1, y1, x2, y2), weight in zip(boxes, weights, strict=True):
        if weight > 0:
            rows = slice(round(float(y1) * height), max(round(float(y2) * height), 1))
            columns = slice(round(float(x1) * width), max(round(float(x2) * width), 1))
            heat[rows, columns] = np.maximum(heat[rows, columns], weight)
    greatest = float(heat.max(initial=0))
    scaled: Array = heat / greatest if greatest > 0 else heat
    return scaled


def overlay(picture: Image.Image, heat: Array) -> Image.Image:
    """A picture under its heat: grey and dark where there is none, bright and clear where it is."""
    colours = np.asarray(picture.convert("RGB"), np.float32)  # (h, w, 3)
    grey = colours.mean(axis=2, keepdims=True)
    glow = np.stack(
        [
            np.interp(heat, np.linspace(0, 1, len(RAMP)), channel)
            for channel in zip(*RAMP, strict=True)
        ],
        axis=2,
    )
    share = heat[:, :, None] ** 0.7  # lifts what is weak
    below = (1 - share) * (SHADE * grey) + share * colours
    opacity = OPAQUE * share
    mixed = (1 - opacity) * below + opacity * glow
    return Image.fromarray(mixed.clip(0, 255).astype(np.uint8))


@dataclass(frozen=True, slots=True, eq=False)
class Matrix:
    """Numbers with names for rows and columns."""

    title: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    values: NDArray[np.float32]  # (rows, columns)


def draw_matrix(matrix: Matrix, cell: int = CELL) -> Image.Image:
    """Names on the left and on top, a cell for each number, and a line that says the scale."""
    rows, columns = matrix.values.shape
    left = _widest(matrix.rows) + 10
    above = _widest(matrix.columns) + 10
    top = 2 * (TEXT + 8) + above
    titles = [
        cut(text, size, 10_000) for text, size in ((matrix.title, TEXT), (_scale(matrix), SMALL))
    ]
    needed = max(
        font(size).getlength(text) for text, size in zip(titles, (TEXT, SMALL), strict=True)
    )
    width = max(left + columns * cell + GAP, int(needed) + GAP)
    canvas, pen = blank(width, top + rows * cell + 2)
    pen.text((0, 0), titles[0], INK, font(TEXT))
    pen.text((0, TEXT + 8), titles[1], SOFT, font(SMALL))
    size = min(SMALL, cell - 1)
    for row, name in enumerate(matrix.rows):
        middle = top + row * cell + cell / 2
        pen.text((left - 6, middle), cut(name, size, LONGEST), INK, font(size), anchor="rm")
    for column, name in enumerate(matrix.columns):
        _upright(canvas, cut(name, size, LONGEST), size, (left + column * cell, top - 5), cell)
    shares = _shares(matrix.values)
    for row in range(rows):
        for column in range(columns):
            x, y = left + column * cell, top + row * cell
            colour = cell_colour(float(shares[row, column]))
            pen.rectangle((x, y, x + cell - 2, y + cell - 2), fill=colour)
    pen.rectangle((left - 2, top - 2, left + columns * cell, top + rows * cell), outline=SOFT)
    return canvas


def cell_colour(share: float) -> tuple[int, int, int]:
    """White for 0, blue up to 1, brown down to -1.

    >>> cell_colour(0.0), cell_colour(1.0), cell_colour(-1.0)
    ((255, 255, 255), (5, 48, 97), (166, 54, 3))
    """
    end = FOR if share >= 0 else AGAINST
    strength = min(abs(share), 1.0)
    red, green, blue = (
        round(paper + (ink - paper) * strength)
        for paper, ink in zip(PAPER_COLOUR, end, strict=True)
    )
    return red, green, blue


def _shares(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """From -1 to 1: 0 is white. Numbers above 0 alone start at their smallest, to be told apart."""
    low = float(values.min(initial=np.inf))
    shifted = values - low if low > 0 else values
    greatest = float(np.abs(shifted).max(initial=0)) or 1.0
    shares: NDArray[np.float32] = shifted / greatest
    return shares


def _scale(matrix: Matrix) -> str:
    low, high = float(matrix.values.min(initial=np.inf)), float(matrix.values.max(initial=0))
    if low >= 0:
        return f"white {low:.3g}, blue {high:.3g}"
    return f"white 0, blue {high:.3g}, brown {low:.3g}"


def _widest(names: Sequence[str]) -> int:
    return int(max((font(SMALL).getlength(cut(name, SMALL, LONGEST)) for name in names), default=0))


def _upright(canvas: Image.Image, text: str, size: int, corner: tuple[int, int], cell: int) -> None:
    """Text that runs upwards from the lower end of its column."""
    if not text:
        return
    strip, pen = blank(int(font(size).getlength(text)) + 2, size + 6)
    pen.text((0, (size + 6) / 2), text, INK, font(size), anchor="lm")
    turned = strip.rotate(90, expand=True)
    left, bottom = corner
    canvas.paste(turned, (left + (cell - turned.width) // 2, bottom - turned.height))
