"""Online and offline negatives of some anchors, and how hard they are (AOQ, Fig. 3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw

from visavis.explain.canvas import (
    GAP,
    INK,
    LINE,
    MARGIN,
    QUERY,
    SOFT,
    TEXT,
    blank,
    cut,
    heading,
    stack,
    wrap,
)
from visavis.explain.dots import Dot, draw_dots
from visavis.explain.draw import fit, font
from visavis.explain.hardness import Hardness, Level
from visavis.explain.sheet_picture import VERDICTS
from visavis.extract.pictures import load_picture

TILE = 230  # pixels, of a picture found
ANCHOR = 300
ONLINE, MINED = "#0072B2", "#D55E00"  # told apart with any kind of colour vision
WIDTH = 2 * MARGIN + ANCHOR + 5 * GAP + 4 * TILE
STEP = TEXT + 8  # from line to line


@dataclass(frozen=True, slots=True)
class Negative:
    """A wrong answer to an anchor."""

    item: Path | str  # a picture's file, or a sentence
    rank: int  # among all wrong answers, from 1
    score: float


@dataclass(frozen=True, slots=True)
class Anchor:
    """A picture or a sentence, what belongs to it, and negatives of both kinds."""

    query: Path | str
    right: tuple[Path | str, ...]
    online: tuple[Negative, ...]  # the hardest of some random batches
    mined: tuple[Negative, ...]  # drawn from the mined list


@dataclass(frozen=True, slots=True)
class SheetNotes:
    """What is said beside the anchors."""

    title: str
    note: str
    batch: int  # size of the batches whose negatives are shown
    listed: tuple[int, int]  # lengths of the mined lists: sentences, images


def draw_hardness(
    levels: Sequence[tuple[str, Hardness]], anchors: Sequence[Anchor], notes: SheetNotes
) -> Image.Image:
    """Mean ranks, then each anchor with its negatives.

    Args:
        levels: what the negatives are, and how hard they are.
        anchors: of both sides.
        notes: title and sizes.

    Raises:
        DataError: a picture is missing or cannot be decoded.
    """
    strips = [heading(notes.title, (notes.note,), WIDTH)]
    for what, found in levels:
        strips.append(_section(f"{what}: mean rank among {found.wrong:,.0f} wrong ones"))
        strips.append(draw_dots(_dots(found), "rank, logarithmic", WIDTH, log=True))
    for anchor in anchors:
        drawn = _sentence(anchor, notes) if isinstance(anchor.query, str) else _image(anchor, notes)
        strips.append(drawn)
    return stack(strips)


def _dots(found: Hardness) -> list[Dot]:
    rows = [(f"hardest of {size} pairs", level, ONLINE) for size, level in found.online.items()]
    rows.append((f"drawn from the {found.listed:,} mined", found.mined, MINED))
    return [Dot(name, level.rank, _told(level), colour) for name, level, colour in rows]


def _told(level: Level) -> str:
    return f"{level.rank.mean:,.1f}; {level.first:.0%} in the first 100"


def _section(text: str) -> Image.Image:
    strip, pen = blank(WIDTH, TEXT + GAP + 14)
    pen.text((MARGIN, GAP), text, INK, font(TEXT))
    return strip


def _names(notes: SheetNotes, listed: int) -> tuple[tuple[str, str], tuple[str, str]]:
    return (
        (f"online: hardest of a random batch of {notes.batch}", ONLINE),
        (f"offline: drawn from the {listed:,} mined", MINED),
    )


def _image(anchor: Anchor, notes: SheetNotes) -> Image.Image:
    """A picture with its sentences and both kinds of wrong ones beside it."""
    picture = fit(load_picture(Path(anchor.query)), ANCHOR, ANCHOR * 5 // 4)
    left = MARGIN + ANCHOR + 2 * GAP
    room = WIDTH - MARGIN - left
    blocks = [("its own sentences", VERDICTS["right"], [str(text) for text in anchor.right])]
    for (name, colour), negatives in zip(
        _names(notes, notes.listed[0]), (anchor.online, anchor.mined), strict=True
    ):
        told = [f"rank {n.rank:,}, score {n.score:.3f}: {n.item}" for n in negatives]
        blocks.append((name, colour, told or ["none"]))
    wrapped = [
        (name, colour, [line for text in texts for line in wrap(text, TEXT, room)])
        for name, colour, texts in blocks
    ]
    height = sum((len(lines) + 1) * STEP + 12 for _, _, lines in wrapped)
    strip, pen = blank(WIDTH, 2 * GAP + max(picture.height, height) + GAP)
    _rule(pen)
    strip.paste(picture, (MARGIN, 2 * GAP))
    top = 2 * GAP
    for name, colour, lines in wrapped:
        pen.text((left, top), name, colour, font(TEXT))
        for place, line in enumerate(lines, start=1):
            pen.text((left, top + place * STEP), line, INK, font(TEXT))
        top += (len(lines) + 1) * STEP + 12
    return strip


def _sentence(anchor: Anchor, notes: SheetNotes) -> Image.Image:
    """A sentence with its picture and both kinds of wrong ones below."""
    lines = wrap(str(anchor.query), QUERY, WIDTH - 2 * MARGIN)
    head, pen = blank(WIDTH, 2 * GAP + len(lines) * (QUERY + 10))
    _rule(pen)
    for place, line in enumerate(lines):
        pen.text((MARGIN, GAP + place * (QUERY + 10)), line, INK, font(QUERY))
    strips = [head]
    own = [
        (load_picture(Path(item)), "its own picture", VERDICTS["right"]) for item in anchor.right
    ]
    for number, ((name, colour), negatives) in enumerate(
        zip(_names(notes, notes.listed[1]), (anchor.online, anchor.mined), strict=True)
    ):
        cells = own[:1] if number == 0 else []
        cells += [
            (load_picture(Path(n.item)), f"rank {n.rank:,}, score {n.score:.3f}", colour)
            for n in negatives
        ]
        strips.append(_line(name, colour, cells, indented=number > 0))
    canvas, _ = blank(WIDTH, sum(strip.height for strip in strips))
    top = 0
    for strip in strips:
        canvas.paste(strip, (0, top))
        top += strip.height
    return canvas


def _line(
    name: str, colour: str, cells: Sequence[tuple[Image.Image, str, str]], *, indented: bool
) -> Image.Image:
    """Pictures side by side, text below each; the first place is the own picture's."""
    small = [(fit(picture, TILE, TILE), text, ink) for picture, text, ink in cells]
    high = max((picture.height for picture, _, _ in small), default=0)
    strip, pen = blank(WIDTH, STEP + 8 + high + STEP + GAP)
    start = MARGIN + ANCHOR + 2 * GAP
    pen.text((start, 0), name, colour, font(TEXT))
    left = start if indented else MARGIN
    for number, (picture, text, ink) in enumerate(small):
        strip.paste(picture, (left, STEP + 8 + high - picture.height))
        below = (left, STEP + 12 + high)
        pen.text(below, cut(text, TEXT, TILE), ink, font(TEXT))
        left = start if not indented and number == 0 else left + TILE + GAP
    if not small:
        pen.text((start, STEP), "none", SOFT, font(TEXT))
    return strip


def _rule(pen: ImageDraw.ImageDraw) -> None:
    pen.line((MARGIN, 0, WIDTH - MARGIN, 0), LINE, 2)
