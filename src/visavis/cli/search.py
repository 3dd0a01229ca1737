"""`visavis search` and `visavis caption`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from visavis.cli.common import AsJson, Data, FeaturesPath, Weights, data_root, show_json, workers
from visavis.errors import DataError

if TYPE_CHECKING:
    from visavis.models.pretrained import Pretrained
    from visavis.recipes.gallery import Gallery

Model = Annotated[str, typer.Option("--model", "-m", help="A run or model folder, or a hub name.")]
Images = Annotated[
    Path | None, typer.Option("--images", "-i", help="A folder of pictures; default: the corpus.")
]
Split = Annotated[str, typer.Option("--split", help="Split of the corpus; `all` for every one.")]
Top = Annotated[int, typer.Option("--top", "-t", help="How many answers.")]


def search(
    sentence: Annotated[str, typer.Argument(help="What the picture shows.")],
    model: Model,
    images: Images = None,
    top: Top = 10,
    data: Data = None,
    split: Split = "all",
    features: FeaturesPath = None,
    weights: Weights = None,
    sheet: Annotated[
        Path | None,
        typer.Option("--sheet", help="Write the pictures found, .html or .png, regions drawn."),
    ] = None,
    filepath_only: Annotated[
        bool, typer.Option("--filepath-only", "-f", help="Print only the files.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Find pictures by a sentence, in a folder or in a corpus."""
    from visavis.models.pretrained import Pretrained

    pretrained = Pretrained.from_pretrained(model)
    if images is not None:
        gallery = _folder(pretrained, images, features, weights)
    else:
        gallery = _corpus(pretrained, data, split, features)
    hits = gallery.search(sentence, top)
    found = [
        {
            "rank": rank + 1,
            "score": round(hit.score, 4),
            "id": gallery.ids[hit.index],
            "picture": str(gallery.pictures[hit.index] or ""),
        }
        for rank, hit in enumerate(hits)
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
        _table("picture", [(entry["score"], entry["picture"] or entry["id"]) for entry in found])


def caption(
    picture: Annotated[Path, typer.Argument(help="A picture.")],
    model: Model,
    sentences: Annotated[
        Path | None,
        typer.Option("--sentences", help="Sentences to choose from, one a line; default: corpus."),
    ] = None,
    top: Top = 5,
    data: Data = None,
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
    texts = _sentences(pretrained, sentences, data, split)
    gallery = picture_gallery(pretrained, picture, weights, features=features)
    hits = describe(gallery, 0, texts, top)
    found = [{"score": round(hit.score, 4), "sentence": texts[hit.index]} for hit in hits]
    if as_json:
        show_json(found)
    else:
        _table("sentence", [(entry["score"], entry["sentence"]) for entry in found])


def _folder(
    pretrained: Pretrained, images: Path, features: Path | None, weights: Path | None
) -> Gallery:
    from visavis.recipes.gallery import folder_gallery

    return folder_gallery(pretrained, images, weights, features=features, workers=workers(0))


def _corpus(
    pretrained: Pretrained, data: Path | None, split: str, features: Path | None
) -> Gallery:
    from visavis.recipes.assemble import open_material
    from visavis.recipes.gallery import corpus_gallery

    name = str(pretrained.details.get("corpus", ""))
    material = open_material(name, data_root(data), features)
    corpus = material.corpus if split == "all" else material.corpus.split(split)
    return corpus_gallery(pretrained, corpus, material.features)


def _sentences(
    pretrained: Pretrained, file: Path | None, data: Path | None, split: str
) -> tuple[str, ...]:
    if file is not None:
        from visavis.data.feature_files import read_lines

        return tuple(dict.fromkeys(line for line in read_lines(file) if line))
    from visavis.data.open import find_corpus, open_corpus

    name = str(pretrained.details.get("corpus", ""))
    corpus = open_corpus(find_corpus(name, data_root(data)), name)
    part = corpus if split == "all" else corpus.split(split)
    return tuple(dict.fromkeys(part.sentence_texts))


def _table(what: str, rows: list[tuple[object, object]]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None)
    table.add_column("score", justify="right")
    table.add_column(what, overflow="fold")
    for score, text in rows:
        table.add_row(f"{score:.3f}", escape(str(text)))
    Console().print(table)
