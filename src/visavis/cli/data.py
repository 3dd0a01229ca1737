"""`visavis data check` and `visavis data info`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from visavis.cli.common import AsJson, counted, progress_bar, show_json

app = typer.Typer(help="Look at a corpus.", no_args_is_help=True)
CorpusPath = Annotated[Path, typer.Argument(metavar="PATH", help="Its folder, or its JSON file.")]


@app.command()
def check(path: CorpusPath, as_json: AsJson = False) -> None:
    """Find what is wrong with a corpus; exit code 1 when something is."""
    from visavis.config import plain
    from visavis.data import check as checking

    with progress_bar("checking") as progress:
        report = checking.check(path, progress=progress)
    if as_json:
        show_json({"sound": report.sound, **plain(report)})
    else:
        _print(report)
        for problem in report.problems:
            typer.echo(f"problem: {problem}")
        typer.echo("sound" if report.sound else counted(len(report.problems), "problem"))
    if not report.sound:
        raise typer.Exit(1)


@app.command()
def info(path: CorpusPath, as_json: AsJson = False) -> None:
    """Counts of a corpus."""
    from visavis.config import plain
    from visavis.data import check as checking

    with progress_bar("reading") as progress:
        report = checking.check(path, progress=progress)
    values = plain(report)
    if as_json:
        show_json({key: values[key] for key in values if key not in ("problems", "notes")})
    else:
        _print(report)
    if not report.sound:
        found = counted(len(report.problems), "problem")
        typer.echo(f"note: {found}; `visavis data check {path}` names them", err=True)


def _print(report: object) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from visavis.data.check import Report

    if not isinstance(report, Report):
        raise TypeError(type(report))
    table = Table(title=Text(f"{report.name} ({report.format})"))
    for column in ("split", "images", "sentences"):
        table.add_column(column, justify="left" if column == "split" else "right")
    for split, count in report.splits.items():
        table.add_row(split, f"{count.images:,}", f"{count.sentences:,}")
    console = Console()
    console.print(table)
    per_image = ", ".join(
        f"{number}: {images:,} images" for number, images in report.sentences_per_image.items()
    )
    lengths = report.lengths
    console.print(f"sentences per image  {per_image}")
    console.print(
        f"words per sentence   {lengths.shortest} to {lengths.longest}, mean {lengths.mean:.1f}"
    )
    console.print(f"different words      {report.vocabulary:,}")
    for note in report.notes:
        console.print(f"note: {note}", highlight=False, markup=False, soft_wrap=True)
