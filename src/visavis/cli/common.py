"""Options and output that several verbs share."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from visavis.errors import DataError

Data = Annotated[
    Path | None,
    typer.Option("--data", help="Folder of the corpus, or of several. [env: VISAVIS_DATA]"),
]
FeaturesPath = Annotated[
    Path | None,
    typer.Option("--features", help="Region vectors; default: those that lie with the corpus."),
]
Weights = Annotated[
    Path | None,
    typer.Option("--weights", help="Folder of an extractor's weights. [env: VISAVIS_WEIGHTS]"),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Workers = Annotated[int, typer.Option("--workers", help="Pictures at once; 0: one a core.")]


def data_root(given: Path | None) -> Path:
    """`--data`, or VISAVIS_DATA.

    Raises:
        DataError: neither is given.
    """
    root = given or (Path(os.environ["VISAVIS_DATA"]) if "VISAVIS_DATA" in os.environ else None)
    if root is None:
        raise DataError("no corpus folder is known; pass --data FOLDER or set VISAVIS_DATA")
    return root


def workers(given: int) -> int:
    """A number of workers: as given, or one for each core."""
    return given if given > 0 else os.cpu_count() or 1


def show_json(value: object) -> None:
    """A value on the output stream, as JSON."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


@contextmanager
def progress_bar(title: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on the error stream that is told how much is done, of how much; terminals only."""
    import sys

    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
