"""`visavis search` and `visavis caption`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from visavis.cli.common import (
    AsJson,
    CorpusName,
    Data,
    FeaturesPath,
    Weights,
    corpus_name,
    data_root,
    say_skipped,
    show_json,
    workers,
)
from visavis.errors import DataError

if TYPE_CHECKING:
    from visavis.models.pretrained import Pretrained
    from visavis.recipes.gallery import Gallery

Model = Annotated[
    str,
    typer.Option("--model", "-m", metavar="MODEL", help="A run or model folder, or a hub name."),
]
Images = Annotated[
    Path | None,
    typer.Option(
        "--images", "-i", metavar="FOLDER", help="Pictures to search in; default: the corpus."
    ),
]
Split = Annotated[
    str,
    typer.Option("--split", metavar="NAME", help="Split of the corpus; `all` for every one."),
]
Top = Annotated[int, typer.Option("--top", "-t", min=1, metavar="N", help="How many answers.")]


def search(
    sentence: Annotated[str, typer.Argument(metavar="SENTENCE", help="What the picture shows.")],
    model: Model,
    images: Images = None,
    top: Top = 10,
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
    """Find pictures by a sentence, in a folder or in a corpus."""
    from visavis.models.pretrained import Pretrained
    from visavis.recipes.sheets import sheet_kind

    if sheet is not None:
        sheet_kind(sheet)  # a mistake is said before the work
    pretrained = Pretrained.from_pretrained(model)
    if images is not None:
        gallery = _folder(pretrained, images, features, weights)
    else:
        root = data_root(data, ", or pass --images FOLDER")
        gallery = _corpus(pretrained, corpus_name(corpus, pretrained), root, split, features)
    _say_unknown(pretrained, sentence)
    hits = gallery.search(sentence, top)
    found = [
        {
            "rank": rank,
            "score": round(hit.score, 4),
            "id": gallery.ids[hit.index],
            "picture": None if (path := gallery.pictures[hit.index]) is None else str(path),
        }
        for rank, hit in enumerate(hits, start=1)
    ]
    if sheet is not None:
        from visavis.explain.sheet import Sheet
        from visavis.recipes.sheets import search_row, write_sheet

        write_sheet(Sheet("visavis search", (search_row(gallery, sentence, hits),)), sheet)
    if as_json:
        show_json(found)
    elif filepath_only:
        for entry in found:
            typer.echo(entry["picture"] or entry["id"])
    else:
        _table("picture", [(hit.score, _shown(gallery, hit.index)) for hit in hits])


def caption(
    picture: Annotated[Path, typer.Argument(metavar="PICTURE", help="A picture's file.")],
    model: Model,
    sentences: Annotated[
        Path | None,
        typer.Option(
            "--sentences",
            metavar="FILE",
            help="Sentences to choose from, one a line; default: those of the corpus.",
        ),
    ] = None,
    top: Top = 5,
    data: Data = None,
    corpus: CorpusName = None,
    split: Split = "all",
    features: FeaturesPath = None,
    weights: Weights = None,
    as_json: AsJson = False,
) -> None:
    """Find the sentences that fit a picture best, among those of a corpus or of a file."""
    from visavis.models.pretrained import Pretrained
    from visavis.recipes.gallery import describe, picture_gallery

    if not picture.is_file():
        raise DataError(f"{picture}: no such picture")
    pretrained = Pretrained.from_pretrained(model)
    if sentences is not None:
        texts = _lines(sentences)
    else:
        root = data_root(data, ", or pass --sentences FILE")
        texts = _sentences(corpus_name(corpus, pretrained), root, split)
    gallery = picture_gallery(pretrained, picture, weights, features=features)
    hits = describe(gallery, 0, texts, top)
    if as_json:
        ranked = enumerate(hits, start=1)
        show_json(
            [
                {"rank": rank, "score": round(hit.score, 4), "sentence": texts[hit.index]}
                for rank, hit in ranked
            ]
        )
    else:
        _table("sentence", [(hit.score, texts[hit.index]) for hit in hits])


def _folder(
    pretrained: Pretrained, images: Path, features: Path | None, weights: Path | None
) -> Gallery:
    from visavis.recipes.gallery import folder_gallery

    gallery = folder_gallery(pretrained, images, weights, features=features, workers=workers(0))
    say_skipped(gallery.skipped)
    return gallery


def _corpus(
    pretrained: Pretrained, name: str, root: Path, split: str, features: Path | None
) -> Gallery:
    from visavis.recipes.assemble import open_material, part_of
    from visavis.recipes.gallery import corpus_gallery

    material = open_material(name, root, features)
    return corpus_gallery(pretrained, part_of(material.corpus, split), material.features)


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


def _say_unknown(pretrained: Pretrained, sentence: str) -> None:
    from visavis.recipes.gallery import unknown_words

    words = ", ".join(dict.fromkeys(unknown_words(pretrained, sentence)))
    if words:
        typer.echo(f"note: the model was trained without the words: {words}", err=True)


def _shown(gallery: Gallery, row: int) -> str:
    return str(gallery.pictures[row] or gallery.ids[row])


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
