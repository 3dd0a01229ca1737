"""The contact sheet as one picture, drawn without a browser."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw

from visavis.explain.canvas import (
    GAP,
    INK,
    LINE,
    MARGIN,
    QUERY,
    SMALL,
    SOFT,
    TEXT,
    blank,
    cut,
    heading,
    stack,
    wrap,
)
from visavis.explain.draw import fit, font, paint, sentence_marks
from visavis.explain.rows import SheetHit, SheetRow, note_of
from visavis.extract.pictures import load_picture

COLUMNS = 5
CELL = 280  # pixels, of a picture
QUERY_CELL = 320
WIDTH = 2 * MARGIN + COLUMNS * CELL + (COLUMNS - 1) * GAP
INSIDE = WIDTH - 2 * MARGIN
VERDICTS = {"right": "#116329", "wrong": "#a40e26"}
LATER = "#7d4e00"  # golden: right answers that were not found among the first
RANK_ROOM = 72  # pixels, of a rank of four digits
BORDER = 5  # around a picture that is known to be right or wrong


def draw_sheet(title: str, note: str, rows: Sequence[SheetRow]) -> Image.Image:
    """All rows, one below the other."""
    strips = [heading(title, (note, note_of(rows)), WIDTH)]
    for number, row in enumerate(rows, start=1):
        draw = _search if isinstance(row.query, str) else _caption
        strips.append(draw(row, f"{number}. "))
        if row.missed:
            strips.append(_missed(row))
    return stack(strips)


def _missed(row: SheetRow) -> Image.Image:
    """Right answers that come later, with their ranks."""
    left = MARGIN if isinstance(row.query, str) else MARGIN + QUERY_CELL + 2 * GAP
    room = WIDTH - MARGIN - left - RANK_ROOM
    texts = [(miss.rank, wrap(miss.text, TEXT, room)) for miss in row.missed]
    height = TEXT + 8
    strip, pen = blank(WIDTH, (1 + sum(len(lines) for _, lines in texts)) * height + GAP)
    pen.text((left, 0), "right, but later:", LATER, font(TEXT))
    top = height
    for rank, lines in texts:
        pen.text((left + RANK_ROOM - 16, top), str(rank), LATER, font(TEXT), anchor="ra")
        for line in lines:
            pen.text((left + RANK_ROOM, top), line, LATER, font(TEXT))
            top += height
    return strip


def _query(row: SheetRow, number: str, height: int) -> tuple[Image.Image, ImageDraw.ImageDraw, int]:
    """A strip with the query on top and room below, and where the room begins."""
    text = row.query if isinstance(row.query, str) else row.query.name
    lines = wrap(number + text, QUERY, INSIDE)
    room = GAP + len(lines) * (QUERY + 10) + 10
    strip, pen = blank(WIDTH, room + height)
    pen.line((MARGIN, 0, WIDTH - MARGIN, 0), LINE, 2)
    for place, line in enumerate(lines):
        pen.text((MARGIN, GAP + place * (QUERY + 10)), line, INK, font(QUERY))
    return strip, pen, room


def _search(row: SheetRow, number: str) -> Image.Image:
    pictures = []
    for hit in row.hits:
        marks = [] if hit.explanation is None else sentence_marks(hit.explanation)
        pictures.append(paint(fit(load_picture(Path(hit.item)), CELL, CELL * 5 // 4), marks))
    lines = range(0, len(pictures), COLUMNS)
    facts = TEXT + SMALL + 3 * 8
    heights = [max(p.height for p in pictures[start : start + COLUMNS]) for start in lines]
    room = sum(height + facts + GAP for height in heights) or TEXT + 2 * GAP
    strip, pen, top = _query(row, number, room)
    if not row.hits:
        pen.text((MARGIN, top), "nothing found", SOFT, font(TEXT))
    for start, height in zip(lines, heights, strict=True):
        for column, picture in enumerate(pictures[start : start + COLUMNS]):
            left = MARGIN + column * (CELL + GAP)
            hit = row.hits[start + column]
            corner = left + (CELL - picture.width) // 2, top + height - picture.height
            strip.paste(picture, corner)
            if hit.verdict:
                _border(pen, corner, picture.size, VERDICTS[hit.verdict])
            _facts(pen, (left, top + height + 10), CELL, (start + column + 1, hit))
            name = cut(Path(hit.item).name, SMALL, CELL)
            pen.text((left, top + height + 10 + TEXT + 8), name, SOFT, font(SMALL))
        top += height + facts + GAP
    return strip


def _border(
    pen: ImageDraw.ImageDraw, corner: tuple[int, int], size: tuple[int, int], colour: str
) -> None:
    (left, top), (width, height) = corner, size
    around = left - BORDER, top - BORDER, left + width + BORDER - 1, top + height + BORDER - 1
    pen.rectangle(around, outline=colour, width=BORDER)


def _caption(row: SheetRow, number: str) -> Image.Image:
    marks = [] if row.explained is None else sentence_marks(row.explained)
    picture = paint(fit(load_picture(Path(row.query)), QUERY_CELL, QUERY_CELL * 5 // 4), marks)
    left = MARGIN + QUERY_CELL + 2 * GAP
    room = WIDTH - MARGIN - left
    texts = [wrap(str(hit.item), TEXT, room) for hit in row.hits]
    heights = [(len(lines) + 1) * (TEXT + 8) + 14 for lines in texts]
    strip, pen, top = _query(row, number, max(picture.height, sum(heights)) + GAP)
    strip.paste(picture, (MARGIN, top))
    for rank, (hit, lines, height) in enumerate(
        zip(row.hits, texts, heights, strict=True), start=1
    ):
        _facts(pen, (left, top), room, (rank, hit))
        for place, line in enumerate(lines, start=1):
            ink = VERDICTS["right"] if hit.right else INK
            pen.text((left, top + place * (TEXT + 8)), line, ink, font(TEXT))
        top += height
    return strip


def _facts(
    pen: ImageDraw.ImageDraw, corner: tuple[int, int], width: int, hit: tuple[int, SheetHit]
) -> None:
    """Rank, a sign and a word for right or wrong, and the score at the right end."""
    (left, top), (rank, found) = corner, hit
    pen.text((left, top), str(rank), INK, font(TEXT))
    pen.text((left + width, top), f"{found.score:.3f}", INK, font(TEXT), anchor="ra")
    if found.verdict:
        colour = VERDICTS[found.verdict]
        left += 36
        _sign(pen, (left, top + 5), colour, right=bool(found.right))
        pen.text((left + 24, top), found.verdict, colour, font(TEXT))


def _sign(pen: ImageDraw.ImageDraw, corner: tuple[int, int], colour: str, *, right: bool) -> None:
    """A tick or a cross: the built-in font has neither."""
    x, y = corner
    if right:
        pen.line(((x, y + 8), (x + 6, y + 14), (x + 16, y)), colour, 3, joint="curve")
    else:
        pen.line(((x + 1, y), (x + 15, y + 14)), colour, 3)
        pen.line(((x + 15, y), (x + 1, y + 14)), colour, 3)
