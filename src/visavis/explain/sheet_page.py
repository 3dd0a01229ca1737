"""The contact sheet as one HTML page, a part at a time."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

from PIL import Image

from visavis.explain.attention import Explanation, content_words
from visavis.explain.draw import (
    LABEL_SIZE,
    PADDING,
    WIDTH,
    Mark,
    PlacedMark,
    fit,
    place,
    sentence_marks,
    word_marks,
)
from visavis.explain.rows import SheetHit, SheetRow, note_of
from visavis.explain.sheet_style import SCRIPT, STYLE
from visavis.explain.words import find_words
from visavis.extract.pictures import load_picture

QUALITY = 82  # of JPEG files
CELL = 288  # pixels, of a picture found: labels keep their size on a card

NOTHING = '<p class="note">nothing found</p>\n'

Groups = Sequence[tuple[str, Sequence[Mark]]]  # a key, and what is drawn when it is lit


def page_parts(title: str, note: str, rows: Sequence[SheetRow]) -> Iterator[str]:
    """The page from its first line to its last; each picture is opened when its turn comes."""
    allowed = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    policy = (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{allowed}'"
    )
    yield (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f"<header>\n<h1>{escape(title)}</h1>\n"
    )
    meaning = note_of(rows)
    if any(map(_lights, rows)):
        meaning += " Point at what is underlined, or press it, to see its own regions."
    for text in filter(None, (note, meaning)):
        yield f'<p class="note">{escape(text)}</p>\n'
    yield "</header>\n<main>\n"
    for number, row in enumerate(rows, start=1):
        heading = f'<span class="number">{number}.</span>'
        yield from _search(row, heading) if isinstance(row.query, str) else _caption(row, heading)
    yield f"</main>\n<script>{SCRIPT}</script>\n</body>\n</html>\n"


def _lights(row: SheetRow) -> bool:
    """Whether parts of the text have regions of their own, and not those seen at first."""
    return row.explained is not None and (
        row.explained.kind != "ablation" or isinstance(row.query, Path)
    )


def _search(row: SheetRow, heading: str) -> Iterator[str]:
    """A sentence and its pictures; the words of the sentence light regions in all of them."""
    words = _words(str(row.query), row.explained if _lights(row) else None, "")
    yield f'<section class="row">\n<h2>{heading}{words}</h2>\n<ol class="pictures" tabindex="0">\n'
    for rank, hit in enumerate(row.hits, start=1):
        path = Path(hit.item)
        groups = [] if hit.explanation is None else _groups(hit.explanation, "")
        frame = _frame(path, f"picture {rank}: {path.name}", groups, CELL)
        yield (
            f'<li class="{hit.verdict}"><figure>{frame}\n'
            f'<figcaption class="facts">{_facts(rank, hit)}'
            f'<span class="name">{escape(path.name)}</span></figcaption></figure></li>\n'
        )
    yield "</ol>\n" + ("" if row.hits else NOTHING) + _missed(row) + "</section>\n"


def _caption(row: SheetRow, heading: str) -> Iterator[str]:
    """A picture and its sentences; the words of each light regions in the one picture."""
    path = Path(row.query)
    groups: list[tuple[str, Sequence[Mark]]] = []
    if row.explained is not None:
        groups.append(("", sentence_marks(row.explained)))
    for rank, hit in enumerate(row.hits, start=1):
        if hit.explanation is not None:
            groups += _groups(hit.explanation, f"{rank}-")[1:]
    frame = _frame(path, f"picture {path.name}", groups, WIDTH)
    yield (
        f'<section class="row">\n<h2>{heading}{escape(path.name)}</h2>\n<div class="answer">\n'
        f"<figure>{frame}</figure>\n"
        '<ol class="sentences">\n'
    )
    for rank, hit in enumerate(row.hits, start=1):
        words = _words(str(hit.item), hit.explanation, f"{rank}-")
        yield (
            f'<li class="{hit.verdict}"><div class="facts">{_facts(rank, hit)}'
            f'<span class="text">{words}</span></div></li>\n'
        )
    yield "</ol>\n" + ("" if row.hits else NOTHING) + "</div>\n" + _missed(row) + "</section>\n"


def _missed(row: SheetRow) -> str:
    """Right answers that come later."""
    lines = "".join(
        f'<li><span class="rank">{miss.rank}</span> {escape(miss.text)}</li>\n'
        for miss in row.missed
    )
    return (
        f'<p class="later">Right, but later:</p>\n<ol class="later">\n{lines}</ol>\n'
        if lines
        else ""
    )


def _facts(rank: int, hit: SheetHit) -> str:
    sign = {"right": "✓ ", "wrong": "✗ "}.get(hit.verdict, "")
    verdict = f'<span class="verdict {hit.verdict}">{sign}{hit.verdict}</span>' if sign else ""
    return f'<span class="rank">{rank}</span>{verdict}<span class="score">{hit.score:.3f}</span>'


def _words(text: str, explanation: Explanation | None, prefix: str) -> str:
    """The text; its content words are buttons that light regions."""
    if explanation is None:
        return escape(text)
    places = find_words(text, explanation.words)
    parts: list[str] = []
    done = 0
    for word in content_words(explanation):
        place_of_word = places[word]
        if place_of_word is None:
            continue
        start, end = place_of_word
        parts.append(escape(text[done:start]))
        parts.append(
            f'<button type="button" class="word" data-key="{prefix}{word}" aria-pressed="false">'
            f"{escape(text[start:end])}</button>"
        )
        done = end
    return "".join(parts) + escape(text[done:])


def _groups(explanation: Explanation, prefix: str) -> Groups:
    """The sentence's regions first, under no key, then those of each content word."""
    words = content_words(explanation)
    return [
        ("", sentence_marks(explanation)),
        *((f"{prefix}{word}", word_marks(explanation, word)) for word in words),
    ]


def _frame(path: Path, alternative: str, groups: Groups, width: int) -> str:
    """A picture with its regions over it; those of the sentence are seen at first."""
    picture = fit(load_picture(path), width, width * 5 // 4)
    drawn = next((marks for key, marks in groups if not key), ())
    if drawn:
        alternative += "; regions: " + ", ".join(mark.label for mark in drawn)
    layers = "".join(
        f'<g class="marks{"" if key else " on"}" data-key="{escape(key)}">'
        + _svg(place(marks, picture.size))
        + "</g>"
        for key, marks in groups
    )
    width, height = picture.size
    over = (
        f'<svg viewBox="0 0 {width} {height}" aria-hidden="true">{layers}</svg>' if layers else ""
    )
    return (
        f'<div class="frame"><img src="{_data_uri(picture)}" width="{width}" height="{height}" '
        f'alt="{escape(alternative)}">{over}</div>'
    )


def _svg(placed: Sequence[PlacedMark]) -> str:
    """Outlines below, labels above, the first mark on top."""
    below = "".join(map(_outline, reversed(placed)))
    return below + "".join(map(_label, reversed(placed)))


def _outline(placed: PlacedMark) -> str:
    x1, y1, x2, y2 = placed.outline
    width, height = max(1.0, x2 - x1 - 5), max(1.0, y2 - y1 - 5)
    box = f'x="{x1 + 2.5:.1f}" y="{y1 + 2.5:.1f}" width="{width:.1f}" height="{height:.1f}"'
    return (
        f'<g opacity="{placed.opacity:.2f}" fill="none">'
        f'<rect {box} stroke="#000" stroke-width="5"/>'
        f'<rect {box} stroke="{placed.mark.colour}" stroke-width="3"/></g>'
    )


def _label(placed: PlacedMark) -> str:
    left, top, right, bottom = placed.label
    inside = right - left - 2 * PADDING
    return (
        f'<rect x="{left:.1f}" y="{top:.1f}" width="{right - left:.1f}" '
        f'height="{bottom - top:.1f}" fill="{placed.mark.colour}" stroke="#000"/>'
        f'<text x="{left + PADDING:.1f}" y="{(top + bottom) / 2:.1f}" font-size="{LABEL_SIZE}" '
        f'dominant-baseline="central" textLength="{inside:.1f}" '
        f'lengthAdjust="spacingAndGlyphs">{escape(placed.mark.label)}</text>'
    )


def _data_uri(picture: Image.Image) -> str:
    held = io.BytesIO()
    picture.save(held, format="JPEG", quality=QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(held.getvalue()).decode()
