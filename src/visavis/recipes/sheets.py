"""Contact sheets of what a search found, with the regions that made the match."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from visavis.data.corpus import Corpus
from visavis.errors import DataError, RecipeError
from visavis.explain.attention import Explanation, explain
from visavis.explain.explanation import Kind
from visavis.explain.rows import SheetHit, SheetMiss, SheetRow
from visavis.explain.sheet import Sheet
from visavis.recipes.gallery import Gallery, encode_texts, sentence_batch
from visavis.search.find import Hit, find_sentences
from visavis.types import Encoded, ImageBatch, SentenceBatch

WRITERS = {".html": Sheet.write_html, ".png": Sheet.write_png}


@dataclass(frozen=True, kw_only=True)
class Examples:
    """What stands on an example sheet."""

    sentences: int = 6  # that ask for pictures
    images: int = 3  # that ask for sentences
    answers: int = 5
    regions: bool = True  # draw what each match rests on

    def __post_init__(self) -> None:
        if min(self.sentences, self.images) < 0 or self.answers < 1:
            raise ValueError(
                f"{self.sentences} sentences, {self.images} images, {self.answers} answers: "
                "must be 0, 0 and 1 at least"
            )
        if self.sentences + self.images == 0:
            raise ValueError("neither sentences nor images ask; ask for at least one")


def search_row(
    gallery: Gallery,
    sentence: str,
    hits: Sequence[Hit],
    right: Iterable[int] | None = None,
    *,
    regions: bool = True,
) -> SheetRow:
    """Pictures found for a sentence.

    Args:
        gallery: what was searched.
        sentence: the query.
        hits: what was found.
        right: the rows known to be right, if any are known.
        regions: draw what each match rests on, where there are boxes.

    Raises:
        DataError: there are no picture files to show.
    """
    if not any(gallery.pictures[hit.index] for hit in hits):
        raise DataError("no picture files lie with these images, so no contact sheet can be drawn")
    known = None if right is None else set(right)
    reasons = _reasons(gallery, hits, sentence) if regions else [None] * len(hits)
    found = [
        SheetHit(path, hit.score, None if known is None else hit.index in known, reason)
        for hit, reason in zip(hits, reasons, strict=True)
        if (path := gallery.pictures[hit.index]) is not None
    ]
    return SheetRow(sentence, tuple(found))


def _reasons(gallery: Gallery, hits: Sequence[Hit], text: str) -> Sequence[Explanation | None]:
    regions = gallery.regions(hits)
    if regions.boxes is None:
        return [None] * len(hits)
    return reasons_of(gallery, regions, [text] * len(hits))


def reasons_of(
    gallery: Gallery, regions: ImageBatch, texts: Sequence[str], kind: Kind | None = None
) -> list[Explanation]:
    """Why images and sentences match, whatever the model's sentences are read with."""
    pretrained = gallery.pretrained

    def encode(part: Sequence[str]) -> SentenceBatch:
        return sentence_batch(pretrained, part)

    return explain(pretrained, regions, texts, encode=encode, kind=kind)


def example_sheet(gallery: Gallery, corpus: Corpus, examples: Examples | None = None) -> Sheet:
    """Queries spread evenly over a corpus, whose images are the gallery's, in its order.

    Nothing is picked by how well it went: sentences and images stand at even distances. Right
    answers that are not among the first are listed with their ranks, as in Fig. 7 of DCPA.

    Raises:
        DataError: a corpus without pictures.
    """
    examples = examples or Examples()
    rows = []
    for pair in _spread(len(corpus.pairs), examples.sentences):
        rows.append(_search_example(gallery, corpus, int(corpus.pairs[pair, 1]), examples))
    images = _spread(len(corpus.image_ids), examples.images)
    if images:
        encoded = encode_texts(gallery.pretrained, corpus.sentence_texts)
        rows += [_caption_example(gallery, corpus, image, encoded, examples) for image in images]
    counts = f"{len(corpus.image_ids):,} images, {len(corpus.sentence_texts):,} sentences"
    note = f"{counts}; the queries lie at even distances in the corpus, none is picked."
    return Sheet(f"What {gallery.pretrained.name} finds in {corpus.name}", tuple(rows), note)


def _search_example(
    gallery: Gallery, corpus: Corpus, sentence: int, examples: Examples
) -> SheetRow:
    text = corpus.sentence_texts[sentence]
    right = {int(image) for image, owner in corpus.pairs if owner == sentence}
    hits = gallery.search(text, len(corpus.image_ids))
    first = hits[: examples.answers]
    row = search_row(gallery, text, first, right, regions=examples.regions)
    missed = tuple(
        SheetMiss(path, rank)
        for rank, index in _later(hits, right, examples.answers)
        if (path := gallery.pictures[index]) is not None
    )
    return replace(row, missed=missed)


def _caption_example(
    gallery: Gallery, corpus: Corpus, image: int, encoded: Encoded, examples: Examples
) -> SheetRow:
    path = gallery.pictures[image]
    if path is None:
        raise DataError(f"{corpus.image_ids[image]}: has no picture file, so none can be shown")
    texts = corpus.sentence_texts
    right = {int(sentence) for owner, sentence in corpus.pairs if owner == image}
    query = gallery.encoded.select(slice(image, image + 1))
    hits = find_sentences(gallery.matcher, query, encoded, len(texts))
    first = hits[: examples.answers]
    reasons: Sequence[Explanation | None] = [None] * len(first)
    regions = gallery.features.read(gallery.rows[[image]])
    if examples.regions and regions.boxes is not None:
        reasons = reasons_of(gallery, regions, [texts[hit.index] for hit in first])
    found = [
        SheetHit(texts[hit.index], hit.score, hit.index in right, reason)
        for hit, reason in zip(first, reasons, strict=True)
    ]
    later = _later(hits, right, examples.answers)
    missed = tuple(SheetMiss(texts[index], rank) for rank, index in later)
    return SheetRow(path, tuple(found), missed)


def _later(hits: Sequence[Hit], right: set[int], shown: int) -> list[tuple[int, int]]:
    """Rank from 1 and index of right answers that are not shown."""
    ranked = enumerate(hits, start=1)
    return [(rank, hit.index) for rank, hit in ranked if rank > shown and hit.index in right]


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
