"""Contact sheets of what a search found, with the regions that made the match."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from visavis.data.corpus import Corpus
from visavis.errors import DataError, RecipeError
from visavis.explain.attention import Explanation, explain
from visavis.explain.rows import SheetHit, SheetRow
from visavis.explain.sheet import Sheet
from visavis.recipes.gallery import Gallery, describe, sentence_batch
from visavis.search.find import Hit
from visavis.types import ImageBatch

EXAMPLES = 6  # sentences on an example sheet, and half as many pictures
ANSWERS = 5
WRITERS = {".html": Sheet.write_html, ".png": Sheet.write_png}


def search_row(
    gallery: Gallery, sentence: str, hits: Sequence[Hit], right: Iterable[int] | None = None
) -> SheetRow:
    """Pictures found for a sentence; `right` are the rows known to be right, if any are known.

    Raises:
        DataError: there are no picture files to show.
    """
    if not any(gallery.pictures[hit.index] for hit in hits):
        raise DataError("no picture files lie with these images, so no contact sheet can be drawn")
    regions = gallery.regions(hits)
    known = None if right is None else set(right)
    reasons: Sequence[Explanation | None] = [None] * len(hits)
    if regions.boxes is not None:
        reasons = reasons_of(gallery, regions, [sentence] * len(hits))
    found = [
        SheetHit(path, hit.score, None if known is None else hit.index in known, reason)
        for hit, reason in zip(hits, reasons, strict=True)
        if (path := gallery.pictures[hit.index]) is not None
    ]
    return SheetRow(sentence, tuple(found))


def caption_row(
    gallery: Gallery, picture: int, texts: Sequence[str], right: Iterable[int]
) -> SheetRow:
    """Sentences found for a picture of the gallery; `right` are those that belong to it."""
    path = gallery.pictures[picture]
    if path is None:
        raise ValueError(f"picture {picture} of the gallery has no file")
    hits = describe(gallery, picture, texts, ANSWERS)
    regions = gallery.features.read(gallery.rows[[picture]])
    reasons = reasons_of(gallery, regions, [texts[hit.index] for hit in hits])
    known = set(right)
    found = [
        SheetHit(texts[hit.index], hit.score, hit.index in known, reason)
        for hit, reason in zip(hits, reasons, strict=True)
    ]
    return SheetRow(path, tuple(found))


def reasons_of(gallery: Gallery, regions: ImageBatch, texts: Sequence[str]) -> list[Explanation]:
    """Why images and sentences match, whatever the model's sentences are read with."""
    pretrained = gallery.pretrained
    return explain(pretrained, regions, texts, encode=lambda part: sentence_batch(pretrained, part))


def example_sheet(gallery: Gallery, corpus: Corpus) -> Sheet:
    """Searches spread evenly over a corpus, whose images are the gallery's, in its order."""
    rows = []
    for pair in _spread(len(corpus.pairs), EXAMPLES):
        sentence = int(corpus.pairs[pair, 1])
        text = corpus.sentence_texts[sentence]
        right = corpus.pairs[corpus.pairs[:, 1] == sentence, 0]
        rows.append(search_row(gallery, text, gallery.search(text, ANSWERS), right.tolist()))
    for picture in _spread(len(corpus.image_ids), EXAMPLES // 2):
        right = corpus.pairs[corpus.pairs[:, 0] == picture, 1]
        rows.append(caption_row(gallery, picture, corpus.sentence_texts, right.tolist()))
    return Sheet(f"What {gallery.pretrained.name} finds in {corpus.name}", tuple(rows))


def _spread(total: int, count: int) -> list[int]:
    places = np.linspace(0, total - 1, min(count, total)).round()
    return sorted({int(place) for place in places})


def write_sheet(sheet: Sheet, path: Path) -> Path:
    """Write a sheet as HTML or PNG, as the ending says.

    Raises:
        RecipeError: another ending.
    """
    WRITERS[sheet_kind(path)](sheet, path)
    return path


def sheet_kind(path: Path) -> str:
    """The ending of a sheet's file: a mistake is said before anything is searched.

    Raises:
        RecipeError: another ending than .html or .png.
    """
    ending = path.suffix.lower()
    if ending not in WRITERS:
        raise RecipeError(f"{path}: a contact sheet is written as .html or .png; name it so")
    return ending
