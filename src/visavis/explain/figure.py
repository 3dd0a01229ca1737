"""Figures of one picture with one sentence, in the manner of the papers.

`words`: a picture for each content word, with the heat of its weights (DCPA, Fig. 5). `selected`:
all boxes beside those that each part of a model chose (DCPA, Fig. 6). `relations`: numbered regions
beside matrices of what looks at what (MMCA, Fig. 1).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from visavis.explain.canvas import (
    GAP,
    INK,
    MARGIN,
    SOFT,
    TEXT,
    blank,
    cut,
    grid,
    heading,
    stack,
    tiles,
)
from visavis.explain.draw import COLOURS, Mark, fit, font, paint, sentence_marks
from visavis.explain.explanation import (
    Array,
    Explanation,
    Kind,
    content_words,
    region_relevance,
    top_regions,
)
from visavis.explain.heat import CELL, SMALLEST, Matrix, draw_matrix, heat_map, overlay
from visavis.explain.pair import Pair
from visavis.explain.parts import RELATIONS, TOGETHER
from visavis.extract.pictures import load_picture

What = Literal["words", "regions", "relations", "selected"]

TILE = 320  # pixels, of a picture
COLUMNS = 4
SHOWN = 10  # regions of which a figure speaks, unless it is told otherwise
NAMED = 6  # boxes that are named after words in one picture: more cannot be read

# Where each relation stands beside the picture: as in one matrix of regions and words together.
LAYOUT = (("regions_regions", "regions_words"), ("words_regions", "words_words"), (TOGETHER,))

NOTES: dict[Kind, str] = {
    "attention": (
        "Heat is the attention of the word named in the corner: at each point the largest weight "
        "of the boxes there, each picture on its own scale. The largest of all is outlined."
    ),
    "interaction": (
        "Heat is what the word in the corner and a region bring to the score together, beyond what "
        "each brings without the other (region and word are left out one by one and together), "
        "each picture on its own scale. The largest is outlined."
    ),
    "ablation": (
        "Heat is how much the score falls when a region is left out, at each point the most of the "
        "boxes there."
    ),
}
REGION_NOTES: dict[Kind, str] = {
    "attention": "Heat is the largest attention of any content word; boxes are named after words.",
    "interaction": (
        "Heat is the most that a region brings to the score together with any content word; boxes "
        "are named after words."
    ),
    "ablation": NOTES["ablation"],
}


def draw_figure(pair: Pair, what: What, top: int = SHOWN) -> Image.Image:
    """The figure of some name.

    Raises:
        ValueError: a pair without a picture.
        DataError: the picture cannot be decoded.
    """
    if pair.picture is None:
        raise ValueError(f"image {pair.image} has no picture file")
    picture = load_picture(pair.picture)
    draw = {"words": _words, "regions": _regions, "relations": _relations, "selected": _selected}
    body, note = draw[what](pair, picture, top)
    score = f"{pair.model} scores this pair {pair.explanation.score:.3f}."
    width = max(body.width, 2 * MARGIN + 2 * TILE + GAP)
    return stack([heading(pair.sentence, (score, note), width), body])


def _words(pair: Pair, picture: Image.Image, top: int) -> tuple[Image.Image, str]:
    """The picture, then a heat map for each content word."""
    found = pair.explanation
    small = fit(picture, TILE, TILE * 5 // 4)
    shown = [_captioned(small, "the picture")]
    for word in content_words(found):
        weights = found.weights[word]
        best = int(top_regions(found, word, 1)[0])
        hot = overlay(small, heat_map(found.boxes, weights, small.size))
        if weights[best] > 0:
            hot = _outlined(hot, found.boxes[[best]], ("#ffffff",))
        name = "the whole sentence" if found.kind == "ablation" else found.words[word]
        shown.append(_captioned(_corner(hot, name), _largest(found, word, best)))
    return tiles(shown, min(COLUMNS, len(shown))), NOTES[found.kind]


def _largest(found: Explanation, word: int, best: int) -> str:
    """What the strongest box of a word has."""
    weight = float(found.weights[word, best])
    if weight <= 0:
        return "no box above 0"
    shown = f"{weight:.0%}" if found.kind == "attention" else f"{weight:+.2g}"
    return f"box {best}: {shown}"


def _regions(pair: Pair, picture: Image.Image, top: int) -> tuple[Image.Image, str]:
    """Every box, the heat of the whole sentence, and its boxes with their words."""
    found = pair.explanation
    small = fit(picture, TILE * 5 // 4, TILE * 3 // 2)
    hot = overlay(small, heat_map(found.boxes, region_relevance(found), small.size))
    marks = sentence_marks(found, min(top, NAMED))
    shown = [
        _all_boxes(small, found.boxes),
        _captioned(hot, "the whole sentence"),
        _captioned(paint(small, marks), f"the {len(marks)} that matter most"),
    ]
    return tiles(shown, len(shown)), REGION_NOTES[found.kind]


def _selected(pair: Pair, picture: Image.Image, top: int) -> tuple[Image.Image, str]:
    """Every box, and those that each part of the model chose."""
    note = "Numbers are the places of boxes, counted from 0; a box has one colour everywhere."
    return _boxes(pair, picture, pair.selected), note


def _boxes(
    pair: Pair, picture: Image.Image, chosen: Mapping[str, NDArray[np.int64]]
) -> Image.Image:
    boxes = pair.explanation.boxes
    small = fit(picture, TILE * 5 // 4, TILE * 3 // 2)
    shown = [_all_boxes(small, boxes)]
    for name, regions in chosen.items():
        drawn = paint(small, [_mark(boxes, int(region)) for region in regions])
        shown.append(_captioned(drawn, f"{name}: {len(regions)} boxes"))
    return tiles(shown, min(COLUMNS - 1, len(shown)))


def _all_boxes(picture: Image.Image, boxes: Array) -> Image.Image:
    drawn = _outlined(picture, boxes, [_colour(region) for region in range(len(boxes))])
    return _captioned(drawn, f"all {len(boxes)} boxes")


def _relations(pair: Pair, picture: Image.Image, top: int) -> tuple[Image.Image, str]:
    """Numbered regions, and a matrix for each relation."""
    boxes = pair.explanation.boxes
    regions = relevant_regions(pair.relations, len(boxes), top)
    drawn = paint(fit(picture, TILE * 5 // 4, TILE * 2), [_mark(boxes, int(r)) for r in regions])
    matrices = {name: _matrix(pair, name, regions) for name in RELATIONS if name in pair.relations}
    longest = max(max(matrix.values.shape) for matrix in matrices.values())
    cell = max(SMALLEST, min(CELL, 480 // longest))
    lines = [
        [draw_matrix(matrices[name], cell) for name in line if name in matrices] for line in LAYOUT
    ]
    beside = grid([line for line in lines if line])
    body, _ = blank(MARGIN + drawn.width + beside.width, max(drawn.height, beside.height))
    body.paste(drawn, (MARGIN, 0))
    body.paste(beside, (MARGIN + drawn.width, 0))
    meaning = (
        "A cell is what a word and a region bring to the score together, beyond each alone."
        if TOGETHER in pair.relations
        else "Rows look at columns."
    )
    note = (
        f"{meaning} Numbers are the places of boxes, counted from 0: "
        f"the {len(regions)} of {len(boxes)} with the largest weights."
    )
    return body, note


def relevant_regions(relations: Mapping[str, Array], count: int, top: int) -> NDArray[np.int64]:
    """The regions of largest mean weight, by words where there are such, in order."""
    names = ("words_regions", TOGETHER, "regions_regions")
    looks = [name for name in names if name in relations]
    relevance = relations[looks[0]].mean(axis=0) if looks else np.zeros(count)  # (R,)
    return np.sort(np.argsort(-relevance, kind="stable")[:top])


def _matrix(pair: Pair, name: str, regions: NDArray[np.int64]) -> Matrix:
    """A relation, of the regions that are shown and of every word."""
    values = pair.relations[name]
    names: list[tuple[str, ...]] = []
    for axis, side in enumerate(RELATIONS[name]):
        if side == "regions":
            values = values.take(regions, axis=axis)
            names.append(tuple(str(region) for region in regions))
        else:
            names.append(pair.explanation.words)
    rows, columns = RELATIONS[name]
    verb = "with" if name == TOGETHER else "look at"
    return Matrix(f"{rows} {verb} {columns}", names[0], names[1], values)


def _mark(boxes: Array, region: int) -> Mark:
    x1, y1, x2, y2 = (float(edge) for edge in boxes[region])
    return Mark((x1, y1, x2, y2), str(region), 1.0, _colour(region))


def _colour(region: int) -> str:
    return COLOURS[region % len(COLOURS)]


def _outlined(picture: Image.Image, boxes: Array, colours: Sequence[str]) -> Image.Image:
    """Boxes without names, thin enough for many of them."""
    canvas = picture.copy()
    pen = ImageDraw.Draw(canvas)
    width, height = canvas.size
    for (x1, y1, x2, y2), colour in zip(boxes, colours, strict=True):
        corners = (
            round(float(x1) * (width - 1)),
            round(float(y1) * (height - 1)),
            round(float(x2) * (width - 1)),
            round(float(y2) * (height - 1)),
        )
        pen.rectangle(corners, outline=colour, width=2)
    return canvas


def _corner(picture: Image.Image, word: str) -> Image.Image:
    """The picture with a word in its upper left corner."""
    canvas = picture.copy()
    pen = ImageDraw.Draw(canvas)
    shown = cut(word, TEXT, picture.width - 12)
    wide = font(TEXT).getlength(shown) + 12
    pen.rectangle((0, 0, wide, TEXT + 10), fill="#ffffff")
    pen.text((6, (TEXT + 10) / 2), shown, INK, font(TEXT), anchor="lm")
    return canvas


def _captioned(picture: Image.Image, text: str) -> Image.Image:
    """The picture with a line of text below."""
    canvas, pen = blank(picture.width, picture.height + TEXT + 12)
    canvas.paste(picture, (0, 0))
    line = cut(text, TEXT, picture.width)
    pen.text((0, picture.height + 6), line, SOFT, font(TEXT))
    return canvas
