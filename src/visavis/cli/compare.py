"""`visavis compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from visavis.cli.common import AsJson, show_json


def compare(
    methods: Annotated[
        list[str],
        typer.Argument(
            metavar="METHOD...",
            help="Saved results: FILE, or NAME=FILE,FILE,... for runs with several seeds.",
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Write the comparison as JSON, too."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Set saved results beside the first of them: means over seeds, paired tests over images."""
    from rich.console import Console

    from visavis.evaluation.compare import as_json as comparison_json
    from visavis.evaluation.report import differences_grid, methods_grid, show
    from visavis.evaluation.seeds import read_method
    from visavis.files import write_json

    read = [read_method(text) for text in methods]
    if output is not None or as_json:
        values = comparison_json(read)
        if output is not None:
            write_json(output, values)
        if as_json:
            show_json(values)
            return
    show(methods_grid(read), Console())
    if len(read) > 1:
        typer.echo()
        show(differences_grid(read), Console())
