"""`visavis extract`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from visavis.cli.common import (
    AsJson,
    Device,
    Weights,
    Workers,
    counted,
    device_name,
    say_skipped,
    show_json,
    workers,
)


def extract(
    pictures: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Pictures, in folders below it too.")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="STORE", help="Feature store to write.")
    ],
    extractor: Annotated[
        str, typer.Option("--extractor", "-x", metavar="NAME", help="classic, onnx or hf.")
    ] = "classic",
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="A setting, as in detector.file=yolox_nano.onnx."
        ),
    ] = None,
    weights: Weights = None,
    device: Device = "cpu",
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
    options = settings(overrides or ())
    made = make_extractor(extractor, options, weights, device=device_name(device))
    ids = [path.relative_to(pictures).as_posix() for path in paths]
    report = extract_folder(paths, ids, made, output, workers=workers(count))
    say_skipped(reason for _, reason in report.skipped)
    if as_json:
        show_json({"store": str(output), **plain(report)})
        return
    each = f" ({1000 * report.seconds_per_picture:.0f} ms each)" if report.extracted else ""
    typer.echo(
        f"{counted(report.extracted, 'picture')} extracted{each}, {report.reused:,} there before, "
        f"{len(report.skipped):,} skipped: {output}"
    )
