"""`visavis demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from visavis.cli.common import AsJson, progress_bar, show_json, workers


def demo(
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="FOLDER", help="Where everything is written."),
    ] = Path("demo-output"),
    as_json: AsJson = False,
) -> None:
    """Watch a matcher being trained, measured and used, on pictures drawn for the purpose."""
    from rich.console import Console

    from visavis.config import plain
    from visavis.evaluation.report import evaluation_grid, show
    from visavis.evaluation.saved import as_json as evaluation_json
    from visavis.recipes.demo import run_demo

    done = run_demo(
        output, workers=workers(0), say=lambda text: typer.echo(text, err=True), bar=progress_bar
    )
    results = [done.evaluation, done.baseline]
    if as_json:
        show_json(
            {
                "evaluations": [evaluation_json(result) for result in results],
                "pointing": plain(done.pointing),
                "seconds": done.seconds,
                "sheets": [str(path) for path in done.sheets],
            }
        )
        return
    console = Console()
    show(evaluation_grid(results), console)
    console.print(
        f"attention: a word's most attended region shows what it names "
        f"{done.pointing.attended:.0%} of the time, {done.pointing.chance:.0%} by chance",
        highlight=False,
        soft_wrap=True,
    )
    for path in done.sheets:
        typer.echo(f"look at {path}")
    typer.echo(
        f'try: visavis search "a red circle left of a blue square" '
        f"--model {output / 'run'} --images {output / 'scenes' / 'images'}"
    )
