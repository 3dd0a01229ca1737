"""`visavis extract`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from visavis.cli.common import AsJson, Weights, Workers, show_json, workers


def extract(
    pictures: Annotated[Path, typer.Argument(help="A folder of pictures.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Feature store to write.")],
    extractor: Annotated[
        str, typer.Option("--extractor", "-x", help="classic, onnx or hf.")
    ] = "classic",
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="A setting, as in detector=yolox_nano.onnx.")
    ] = None,
    weights: Weights = None,
    count: Workers = 0,
    as_json: AsJson = False,
) -> None:
    """Find regions in every picture of a folder; called again, it does what is missing."""
    from visavis.config import plain
    from visavis.extract.pictures import list_pictures
    from visavis.extract.run import extract_folder
    from visavis.extract.table import make_extractor
    from visavis.recipes.recipe import settings

    paths = list_pictures(pictures)
    made = make_extractor(extractor, settings(overrides or ()), weights)
    ids = [path.relative_to(pictures).as_posix() for path in paths]
    report = extract_folder(paths, ids, made, output, workers=workers(count))
    if as_json:
        show_json(plain(report))
        return
    for name, reason in report.skipped:
        typer.echo(f"skipped {name}: {reason}", err=True)
    typer.echo(
        f"{report.extracted} pictures extracted, {report.reused} were there, "
        f"{len(report.skipped)} skipped; "
        f"{1000 * report.seconds_per_picture:.0f} ms a picture; {output}"
    )
