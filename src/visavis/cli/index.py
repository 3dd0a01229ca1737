"""`visavis index`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from visavis.cli.common import (
    AsJson,
    CorpusName,
    FeaturesPath,
    Weights,
    Workers,
    counted,
    progress_bar,
    say_skipped,
    show_json,
    workers,
)
from visavis.cli.index_place import IndexOption, default_index, find_index, remember
from visavis.errors import DataError

if TYPE_CHECKING:
    from visavis.search.index import Agreement, Index, Report, Source

app = typer.Typer(no_args_is_help=True, help="Keep pictures ready to be searched.")

Named = Annotated[
    str | None,
    typer.Argument(
        metavar="INDEX",
        help="An index or its folder of pictures; default: that of this folder, or the last built.",
    ),
]
Model = Annotated[
    str | None,
    typer.Option("--model", "-m", metavar="MODEL", help="Where the model lies, if it was moved."),
]


@app.command("build")
def build(
    folder: Annotated[
        Path | None,
        typer.Argument(metavar="FOLDER", help="Pictures, in folders below it too."),
    ] = None,
    model: Annotated[
        str,
        typer.Option(
            "--model", "-m", metavar="MODEL", help="A run or model folder, or a hub name."
        ),
    ] = ...,  # type: ignore[assignment]
    companion: Annotated[
        str | None,
        typer.Option(
            "--companion",
            "-c",
            metavar="MODEL",
            help="A model with one vector for a picture: chooses what the model scores.",
        ),
    ] = None,
    index: IndexOption = None,
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="FOLDER", help="A corpus with stored vectors instead."),
    ] = None,
    features: FeaturesPath = None,
    corpus: CorpusName = None,
    split: Annotated[
        str, typer.Option("--split", metavar="NAME", help="Split of the corpus; `all` for all.")
    ] = "all",
    sentences: Annotated[
        Path | None,
        typer.Option("--sentences", metavar="FILE", help="Sentences to describe pictures with."),
    ] = None,
    weights: Weights = None,
    count: Workers = 0,
    as_json: AsJson = False,
) -> None:
    """Build an index, go on with one that was stopped, or give one a new model."""
    from visavis.search.index import CorpusSource, FolderSource, Index

    if (folder is None) == (data is None):
        raise DataError("give a folder of pictures, or a corpus with --data; one of the two")
    source: Source
    if data is not None:
        source = CorpusSource(_corpus_folder(data, corpus), features, split, corpus)
    else:
        source = FolderSource(folder or Path(), weights, workers(count), sentences)
    uri = index or str(default_index(data or folder or Path()))
    with progress_bar("indexing") as shown:
        made = Index.build(uri, model=model, source=source, companion=companion, progress=shown)
    remember(uri)
    _tell(made, made.built, as_json=as_json)
    made.close()


@app.command("sync")
def sync(
    index: Named = None, model: Model = None, count: Workers = 0, as_json: AsJson = False
) -> None:
    """Take in what is new or changed, and take out what is gone."""
    opened = _open(index, model)
    with progress_bar("indexing") as shown:
        report = opened.sync(workers=workers(count), progress=shown)
    _tell(opened, report, as_json=as_json)


@app.command("add")
def add(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Pictures or folders.")],
    index: IndexOption = None,
    model: Model = None,
    tags: Annotated[
        list[str] | None,
        typer.Option("--tag", metavar="NAME", help="Of these pictures; repeatable."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Add pictures, or whole folders of them."""
    opened = _open(index, model)
    with progress_bar("indexing") as shown:
        report = opened.add(paths, tags=tags or (), progress=shown)
    _tell(opened, report, as_json=as_json)


@app.command("remove")
def remove(
    ids: Annotated[
        list[str] | None, typer.Argument(metavar="ID...", help="As `search --json` tells them.")
    ] = None,
    where: Annotated[
        str | None,
        typer.Option("--where", metavar="FILTER", help="All pictures for which it holds."),
    ] = None,
    index: IndexOption = None,
    model: Model = None,
    as_json: AsJson = False,
) -> None:
    """Take pictures out of the index; files stay where they are."""
    if not ids and where is None:
        raise DataError("give ids, or a filter with --where")
    opened = _open(index, model)
    chosen = [*(ids or ()), *(opened.ids(where) if where is not None else ())]
    removed = opened.remove(chosen)
    if as_json:
        show_json({"removed": removed})
    else:
        typer.echo(f"{counted(removed, 'picture')} removed")


@app.command("info")
def info(index: Named = None, model: Model = None, as_json: AsJson = False) -> None:
    """What an index holds."""
    from visavis.config import plain

    found = plain(_open(index, model).info())
    if as_json:
        show_json(found)
        return
    for name, value in found.items():
        shown = ", ".join(value) if isinstance(value, list) else value
        typer.echo(f"{name.replace('_', ' '):<24}{'' if shown is None else shown}")


@app.command("verify")
def verify(
    index: Named = None,
    sample: Annotated[
        int, typer.Option("--sample", "-s", min=1, metavar="N", help="How many sentences to ask.")
    ] = 200,
    candidates: Annotated[
        list[int] | None,
        typer.Option("--candidates", metavar="N", help="A candidate count; repeatable."),
    ] = None,
    model: Model = None,
    as_json: AsJson = False,
) -> None:
    """Compare two stages with scoring everything; searches then take as many as are needed."""
    from visavis.config import plain
    from visavis.search.index import COUNTS

    opened = _open(index, model)
    with progress_bar("scoring everything") as shown:
        found = opened.verify(sample=sample, candidates=candidates or COUNTS, progress=shown)
    if as_json:
        show_json(plain(found))
    else:
        _curve(found)
    if found.problems:
        raise typer.Exit(1)


@app.command("compact")
def compact(index: Named = None, model: Model = None, as_json: AsJson = False) -> None:
    """Join fragments, drop old versions and what models of before have left."""
    from visavis.config import plain

    report = _open(index, model).compact()
    if as_json:
        show_json(plain(report))
        return
    sizes = [f"{size / 1e6:.1f} MB" for size in (report.bytes_before, report.bytes_after)]
    typer.echo(
        f"{' -> '.join(sizes)}, {report.versions_before} -> {report.versions_after} versions"
    )


def _open(named: str | None, model: str | None) -> Index:
    from visavis.search.index import Index

    return Index.open(find_index(named), model=model)


def _corpus_folder(root: Path, name: str | None) -> Path:
    from visavis.data.open import find_corpus

    return root if name is None else find_corpus(name, root)


def _tell(index: Index, report: Report | None, *, as_json: bool) -> None:
    from visavis.config import plain

    if report is None:
        raise AssertionError("only an index that was opened has no report")
    say_skipped(reason for _, reason in report.skipped)
    about = index.info()
    if as_json:
        show_json({"uri": about.uri, "images": about.images, **plain(report)})
        return
    typer.echo(
        f"{report.added:,} added, {report.changed:,} changed, {report.removed:,} removed, "
        f"{len(report.skipped):,} skipped; {counted(about.images, 'picture')}: {about.uri}"
    )


def _curve(found: Agreement) -> None:
    for problem in found.problems:
        typer.echo(f"problem: {problem}", err=True)
    typer.echo(f"{counted(found.sentences, 'sentence')}, {counted(found.gallery, 'picture')}")
    if not found.points:
        typer.echo("no first stage: every search scores every picture")
        return
    typer.echo("candidates\tsame top 10\toverlap\tsame first")
    for point in found.points:
        shares = (point.same_top10, point.overlap, point.top1)
        typer.echo("\t".join([str(point.candidates), *(f"{100 * s:.1f} %" for s in shares)]))
    if found.recommended is None:
        typer.echo("no count reaches 98 % of sentences with the same ten; use --exact")
    else:
        typer.echo(f"recommended: {found.recommended} candidates; searches use it from now on")
