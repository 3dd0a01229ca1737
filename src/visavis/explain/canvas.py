"""Paper, ink and letters that every drawn page shares, and what is written on top of one."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw

from visavis.explain.draw import font, printable

GAP, MARGIN = 20, 32
INK, SOFT, LINE, PAPER = "#1b1f24", "#57606a", "#d0d7de", "#ffffff"
TITLE, QUERY, TEXT, SMALL = 34, 26, 20, 17  # sizes of letters


def wrap(text: str, size: int, width: float) -> list[str]:
    """Lines that fit a width in the built-in font; a word too long for a line is cut.

    >>> wrap("one two three", 20, 80)
    ['one two', 'three']
    """
    measure = font(size).getlength
    lines = [""]
    for word in printable(text).split():
        longer = f"{lines[-1]} {word}".lstrip()
        if measure(longer) <= width:
            lines[-1] = longer
            continue
        if lines[-1]:
            lines.append("")
        for letter in word:
            if lines[-1] and measure(lines[-1] + letter) > width:
                lines.append("")
            lines[-1] += letter
    return lines


def cut(text: str, size: int, width: float) -> str:
    """The text, or its beginning and dots where it is too wide."""
    shown = printable(text)
    while len(shown) > 1 and font(size).getlength(shown) > width:
        shown = shown.removesuffix("…")[:-1] + "…"
    return shown


def blank(width: int, height: int) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    """Empty paper and a pen."""
    strip = Image.new("RGB", (width, height), PAPER)
    return strip, ImageDraw.Draw(strip)


def heading(title: str, notes: Sequence[str], width: int) -> Image.Image:
    """A title with notes below, as wide as the page."""
    inside = width - 2 * MARGIN
    lines = [(line, TITLE, INK) for line in wrap(title, TITLE, inside)]
    lines += [(line, TEXT, SOFT) for note in notes if note for line in wrap(note, TEXT, inside)]
    strip, pen = blank(width, MARGIN + sum(size + 12 for _, size, _ in lines) + GAP)
    top = MARGIN
    for line, size, ink in lines:
        pen.text((MARGIN, top), line, ink, font(size))
        top += size + 12
    return strip


def stack(strips: Sequence[Image.Image]) -> Image.Image:
    """One below the other, with a margin at the end."""
    width = max(strip.width for strip in strips)
    canvas, _ = blank(width, sum(strip.height for strip in strips) + MARGIN)
    top = 0
    for strip in strips:
        canvas.paste(strip, (0, top))
        top += strip.height
    return canvas


def tiles(pictures: Sequence[Image.Image], columns: int) -> Image.Image:
    """Pictures in lines of so many, side by side, with margins left and right."""
    starts = range(0, len(pictures), columns)
    return grid([pictures[start : start + columns] for start in starts])


def grid(lines: Sequence[Sequence[Image.Image]]) -> Image.Image:
    """Lines of pictures; a column is as wide as its widest, a line as high as its highest."""
    columns = max(map(len, lines))
    widths = [
        max(line[place].width for line in lines if place < len(line)) for place in range(columns)
    ]
    heights = [max(picture.height for picture in line) for line in lines]
    strip, _ = blank(
        2 * MARGIN + sum(widths) + GAP * (columns - 1), sum(heights) + GAP * (len(lines) - 1)
    )
    top = 0
    for line, height in zip(lines, heights, strict=True):
        left = MARGIN
        for picture, width in zip(line, widths, strict=False):
            strip.paste(picture, (left, top))
            left += width + GAP
        top += height + GAP
    return strip
