"""The ways in which `visavis search` can look: an index, a folder with or without one, a corpus."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from visavis.cli.common import corpus_name, progress_bar, say_skipped, workers
from visavis.cli.index_place import default_index, has_index
from visavis.config import plain
from visavis.errors import DataError, MissingExtraError, StorageError, VisavisError

if TYPE_CHECKING:
    from visavis.models.pretrained import Pretrained
    from visavis.recipes.gallery import Gallery
    from visavis.search.index import Index, Stage


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What the user wants."""

    sentence: str
    model: str | None
    top: int
    where: str | None
    candidates: int | None
    exact: bool
    rerank: str | None
    sync: bool  # look for new pictures first
    features: Path | None
    weights: Path | None
    sheet: Path | None


@dataclass(frozen=True, kw_only=True)
class Shown:
    """One picture that was found."""

    rank: int
    score: float
    id: str
    picture: str | None
    taken: str | None = None
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Found:
    """What was found, whichever way."""

    query: str
    hits: tuple[Shown, ...]
    gallery: int
    candidates: int  # pictures that the model scored
    exact: bool = True  # all of them
    matches_well: bool | None = None
    stages: tuple[Stage, ...] = field(default_factory=tuple)

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        values: dict[str, Any] = plain(self)
        for hit in values["hits"]:
            hit["score"] = round(hit["score"], 4)
        for stage in values["stages"]:
            stage["seconds"] = round(stage["seconds"], 5)
        return values


def in_index(asked: Asked, uri: str) -> Found:
    """Search an index.

    Raises:
        DataError: a sheet is wanted.
    """
    from visavis.search.index import Index

    if asked.sheet is not None:
        raise DataError(
            "--sheet goes with --images or --data; an index is shown by `visavis serve`"
        )
    return _ask(Index.open(uri, model=asked.model), asked)


def in_folder(asked: Asked, folder: Path) -> Found:
    """Search a folder of pictures, by its index where it can have one."""
    index = None if asked.features or asked.sheet else _index_of(asked, folder)
    if index is not None:
        return _ask(index, asked)
    _refuse_index_options(asked)
    from visavis.recipes.gallery import folder_gallery

    pretrained = _pretrained(asked)
    gallery = folder_gallery(
        pretrained, folder, asked.weights, features=asked.features, workers=workers(0)
    )
    say_skipped(gallery.skipped)
    return _scored(gallery, asked)


def in_corpus(asked: Asked, root: Path, name: str | None, split: str) -> Found:
    """Score every image of a corpus."""
    from visavis.recipes.assemble import open_material, part_of
    from visavis.recipes.gallery import corpus_gallery

    _refuse_index_options(asked)
    pretrained = _pretrained(asked)
    material = open_material(corpus_name(name, pretrained), root, asked.features)
    gallery = corpus_gallery(pretrained, part_of(material.corpus, split), material.features)
    return _scored(gallery, asked)


def _index_of(asked: Asked, folder: Path) -> Index | None:
    """The index of a folder, brought up to date; None where it has none and can have none."""
    from visavis.search.index import Index

    uri = str(default_index(folder))
    known = has_index(folder)
    if not asked.sync:
        return Index.open(uri, model=asked.model) if known else None
    try:
        if known and asked.model is None:
            return _synced(Index.open(uri))
        return _built(asked, folder, uri, known=known)
    except (MissingExtraError, StorageError) as error:
        typer.echo(f"note: no index is kept ({error})", err=True)
        return None


def _built(asked: Asked, folder: Path, uri: str, *, known: bool) -> Index | None:
    from visavis.errors import IndexError_
    from visavis.search.index import FolderSource, Index

    if known:
        try:
            return _synced(Index.open(uri, model=asked.model))
        except IndexError_ as error:
            typer.echo(f"note: {error}", err=True)
    pretrained = _pretrained(asked)
    if pretrained.features.extractor == "precomputed":
        return None  # nothing here could add a picture to it
    source = FolderSource(folder, asked.weights, workers(0))
    with progress_bar("indexing") as shown:
        made = Index.build(uri, model=asked.model or "", source=source, progress=shown)
    if made.built is not None:
        say_skipped(reason for _, reason in made.built.skipped)
    return made


def _synced(index: Index) -> Index:
    with progress_bar("indexing") as shown:
        report = index.sync(workers=workers(0), progress=shown)
    say_skipped(reason for _, reason in report.skipped)
    return index


def _ask(index: Index, asked: Asked) -> Found:
    _say_unknown(index.unknown_words(asked.sentence))
    answer = index.search(
        asked.sentence,
        k=asked.top,
        where=asked.where,
        candidates=asked.candidates,
        exact=asked.exact,
        rerank=asked.rerank,
    )
    shown = []
    for hit in answer.hits:
        try:
            picture: str | None = str(index.picture(hit.id))
        except VisavisError:  # gone since, or on another machine
            picture = None
        shown.append(
            Shown(
                rank=hit.rank,
                score=hit.score,
                id=hit.id,
                picture=picture,
                taken=hit.taken,
                tags=hit.tags,
            )
        )
    return Found(
        query=asked.sentence,
        hits=tuple(shown),
        gallery=answer.gallery,
        candidates=answer.candidates,
        exact=answer.exact,
        matches_well=answer.matches_well,
        stages=answer.stages,
    )


def _scored(gallery: Gallery, asked: Asked) -> Found:
    """Every picture of a gallery by the model."""
    from visavis.recipes.gallery import unknown_words

    _say_unknown(unknown_words(gallery.pretrained, asked.sentence))
    hits = gallery.search(asked.sentence, asked.top)
    if asked.sheet is not None:
        from visavis.explain.sheet import Sheet
        from visavis.recipes.sheets import search_row, write_sheet

        row = search_row(gallery, asked.sentence, hits)
        write_sheet(Sheet("visavis search", (row,)), asked.sheet)
    shown = []
    for rank, hit in enumerate(hits, start=1):
        path = gallery.pictures[hit.index]
        picture = None if path is None else str(path)
        name = gallery.ids[hit.index]
        shown.append(Shown(rank=rank, score=hit.score, id=name, picture=picture))
    count = len(gallery.ids)
    return Found(query=asked.sentence, hits=tuple(shown), gallery=count, candidates=count)


def _pretrained(asked: Asked) -> Pretrained:
    from visavis.models.pretrained import Pretrained

    if asked.model is None:
        raise DataError("which model? pass --model MODEL, a run or model folder")
    return Pretrained.from_pretrained(asked.model)


def _refuse_index_options(asked: Asked) -> None:
    given = {"--where": asked.where, "--candidates": asked.candidates, "--rerank": asked.rerank}
    for name, value in given.items():
        if value is not None:
            raise DataError(f"{name} needs an index; make one with `visavis index build`")


def _say_unknown(words: list[str]) -> None:
    if words:
        told = ", ".join(dict.fromkeys(words))
        typer.echo(f"note: the model was trained without the words: {told}", err=True)
