"""What every plotted figure shares: colours, panels and axes."""

from __future__ import annotations

import importlib.util
import textwrap
from typing import TYPE_CHECKING

from visavis.errors import MissingExtraError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Told apart with any kind of colour vision (Okabe and Ito), dark enough for lines on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#7A6A00", "#555555")
MARKERS = "osD^vPX"  # one more than colours: the looks of lines repeat after 42, not after 6


def check_plotting(*also: str) -> None:
    """Refuse to go on without matplotlib, or without another package that a figure needs.

    Raises:
        MissingExtraError: one of them is not installed.
    """
    named = {"sklearn": "scikit-learn"}
    for package in (*also, "matplotlib"):
        if importlib.util.find_spec(package) is None:
            raise MissingExtraError(named.get(package, package), "plot")


def panels(
    title: str, note: str, count: int, *, size: tuple[float, float]
) -> tuple[Figure, list[Axes]]:
    """Empty panels side by side under a title and a note.

    Args:
        title: of the figure.
        note: below all of it, in small letters.
        count: of panels.
        size: of one panel, in inches.
    """
    from matplotlib.figure import Figure

    width, height = size
    figure = Figure(figsize=(width * count, height), layout="constrained")
    figure.suptitle(_wrapped(title, width * count, 13), fontsize=13, x=0.01, ha="left")
    if note:
        told = _wrapped(note, width * count, 9)
        figure.supxlabel(told, fontsize=9, color="#57606a", x=0.01, ha="left")
    return figure, [figure.add_subplot(1, count, place + 1) for place in range(count)]


def _wrapped(text: str, inches: float, size: int) -> str:
    """Lines that fit a width in letters of some size, which are about half as wide as high."""
    return textwrap.fill(text, int(inches * 72 / size * 1.7))


def colour(number: int) -> str:
    """Of the line or bar of that number; the colours come round again."""
    return COLOURS[number % len(COLOURS)]


def marker(number: int) -> str:
    """Of the line of that number."""
    return MARKERS[number % len(MARKERS)]


def plain_axes(axes: Axes) -> None:
    """A light grid behind, no frame on top and on the right."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_axisbelow(True)
    axes.grid(alpha=0.3)
