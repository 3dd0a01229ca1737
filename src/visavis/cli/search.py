"""`visavis search` and `visavis caption`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from visavis.cli.common import (
    AsJson,
    CorpusName,
    Data,
    FeaturesPath,
    Weights,
    corpus_name,
    data_root,
    show_json,
)
from visavis.cli.index_place import IndexOption, find_index
from visavis.cli.search_ways import Asked, Found, in_corpus, in_folder, in_index
from visavis.errors import DataError, IndexError_

Model = Annotated[
    str,
    typer.Option("--model", "-m", metavar="MODEL", help="A run or model folder, or a hub name."),
]
MaybeModel = Annotated[
    str | None,
    typer.Option(
        "--model", "-m", metavar="MODEL", help="A run or model folder; default: the index's own."
    ),
]
Images = Annotated[
    Path | None,
    typer.Option(
        "--images", "-i", metavar="FOLDER", help="Pictures to search in; they are indexed first."
    ),
]
Split = Annotated[
    str,
    typer.Option("--split", metavar="NAME", help="Split of the corpus; `all` for every one."),
]
Top = Annotated[int, typer.Option("--top", "-t", min=1, metavar="N", help="How many answers.")]


def search(
    sentence: Annotated[str, typer.Argument(metavar="SENTENCE", help="What the picture shows.")],
    model: MaybeModel = None,
    images: Images = None,
    index: IndexOption = None,
    top: Top = 10,
    where: Annotated[
        str | None,
        typer.Option(
            "--where", metavar="FILTER", help="As in \"width > 800 AND path LIKE 'a/%'\"."
        ),
    ] = None,
    candidates: Annotated[
        int | None,
        typer.Option("--candidates", min=1, metavar="N", help="How many pictures are scored."),
    ] = None,
    exact: Annotated[bool, typer.Option("--exact", help="Score every picture.")] = False,
    rerank: Annotated[
        str | None, typer.Option("--rerank", metavar="HOW", help="reciprocal: ask pictures back.")
    ] = None,
    no_indexing: Annotated[
        bool, typer.Option("--no-indexing", "-n", help="Do not look for new pictures first.")
    ] = False,
    data: Data = None,
    corpus: CorpusName = None,
    split: Split = "all",
    features: FeaturesPath = None,
    weights: Weights = None,
    sheet: Annotated[
        Path | None,
        typer.Option(
            "--sheet", metavar="FILE", help="Draw what was found, with regions, as .html or .png."
        ),
    ] = None,
    filepath_only: Annotated[
        bool, typer.Option("--filepath-only", "-f", help="Print only the files.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Find pictures by a sentence, in an index, in a folder or in a corpus."""
    if sheet is not None:
        from visavis.recipes.sheets import sheet_kind

        sheet_kind(sheet)  # a mistake is said before the work
    asked = Asked(
        sentence=sentence,
        model=model,
        top=top,
        where=where,
        candidates=candidates,
        exact=exact,
        rerank=rerank,
        sync=not no_indexing,
        features=features,
        weights=weights,
        sheet=sheet,
    )
    if index is not None or (images is None and data is None):
        found = in_index(asked, _meant(index, model))
    elif images is not None:
        found = in_folder(asked, images)
    else:
        found = in_corpus(asked, data_root(data), corpus, split)
    _show(found, filepath_only=filepath_only, as_json=as_json)


def caption(
    picture: Annotated[Path, typer.Argument(metavar="PICTURE", help="A picture's file.")],
    model: MaybeModel = None,
    sentences: Annotated[
        Path | None,
        typer.Option(
            "--sentences",
            metavar="FILE",
            help="Sentences to choose from, one a line; default: those of the corpus or index.",
        ),
    ] = None,
    index: IndexOption = None,
    top: Top = 5,
    data: Data = None,
    corpus: CorpusName = None,
    split: Split = "all",
    features: FeaturesPath = None,
    weights: Weights = None,
    as_json: AsJson = False,
) -> None:
    """Find the sentences that fit a picture best, among those of a corpus, a file or an index."""
    if not picture.is_file():
        raise DataError(f"{picture}: no such picture")
    if index is not None or model is None:
        from visavis.search.index import Index

        opened = Index.open(find_index(index), model=model)
        given = None if sentences is None else _lines(sentences)
        answer = opened.captions(picture, k=top, sentences=given)
        hits = [(hit.score, hit.text) for hit in answer.hits]
    else:
        hits = _described(picture, model, sentences, top, (data, corpus, split, features, weights))
    if as_json:
        ranked = enumerate(hits, start=1)
        show_json([{"rank": n, "score": round(s, 4), "sentence": t} for n, (s, t) in ranked])
    else:
        _table("sentence", hits)


_Corpus = tuple[Path | None, str | None, str, Path | None, Path | None]


def _described(
    picture: Path, model: str, sentences: Path | None, top: int, where: _Corpus
) -> list[tuple[float, str]]:
    """Without an index."""
    from visavis.models.pretrained import Pretrained
    from visavis.recipes.gallery import describe, picture_gallery

    data, corpus, split, features, weights = where
    pretrained = Pretrained.from_pretrained(model)
    if sentences is not None:
        texts = _lines(sentences)
    else:
        root = data_root(data, ", or pass --sentences FILE")
        texts = _sentences(corpus_name(corpus, pretrained), root, split)
    gallery = picture_gallery(pretrained, picture, weights, features=features)
    return [(hit.score, texts[hit.index]) for hit in describe(gallery, 0, texts, top)]


def _meant(index: str | None, model: str | None) -> str:
    try:
        return find_index(index)
    except IndexError_ as error:
        if index is not None or model is None:
            raise
        raise DataError(
            "which pictures? pass --data FOLDER or set VISAVIS_DATA for those of a corpus, pass "
            "--images FOLDER, or build an index with `visavis index build`"
        ) from error


def _lines(file: Path) -> tuple[str, ...]:
    from visavis.data.feature_files import read_lines

    texts = tuple(dict.fromkeys(line for line in read_lines(file) if line))
    if not texts:
        raise DataError(f"{file}: holds no sentence; write one a line")
    return texts


def _sentences(name: str, root: Path, split: str) -> tuple[str, ...]:
    from visavis.data.open import find_corpus, open_corpus
    from visavis.recipes.assemble import part_of

    part = part_of(open_corpus(find_corpus(name, root), name), split)
    return tuple(dict.fromkeys(part.sentence_texts))


def _show(found: Found, *, filepath_only: bool, as_json: bool) -> None:
    if as_json:
        show_json(found.plain())
    elif filepath_only:
        for hit in found.hits:
            typer.echo(hit.picture or hit.id)
    else:
        if found.matches_well is False:
            typer.echo("note: nothing here matches well", err=True)
        _table("picture", [(hit.score, hit.picture or hit.id) for hit in found.hits])


def _table(what: str, rows: list[tuple[float, str]]) -> None:
    """A table on a terminal; in a file or a pipe lines that no width folds."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    if not console.is_terminal:
        for score, text in rows:
            typer.echo(f"{score:.3f}\t{text}")
        return
    table = Table(box=None)
    table.add_column("score", justify="right")
    table.add_column(what, overflow="fold")
    for score, text in rows:
        table.add_row(f"{score:.3f}", Text(text))
    console.print(table)
