"""`visavis convert`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from visavis.cli.common import AsJson, show_json


def convert(
    checkpoint: Annotated[
        Path, typer.Argument(metavar="CHECKPOINT", help="A published .pth.tar; nothing in it runs.")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FOLDER", help="Model folder to write.")
    ],
    vocabulary: Annotated[
        Path | None,
        typer.Option("--vocabulary", metavar="FILE", help="Its vocabulary, .json or .pkl."),
    ] = None,
    bert: Annotated[
        str, typer.Option("--bert", metavar="MODEL", help="SAEM: folder or hub name of its BERT.")
    ] = "",
    features: Annotated[
        Path | None,
        typer.Option(
            "--features",
            metavar="PATH",
            help="Region vectors it is to read; without them `visavis evaluate` refuses it.",
        ),
    ] = None,
    family: Annotated[
        str,
        typer.Option(
            "--family", metavar="NAME", help="scan, bfan, vsrn, camp or saem; default: it tells."
        ),
    ] = "",
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="A setting the file does not say, as in heads=8."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a model folder of a published checkpoint of SCAN, BFAN, VSRN, AOQ, CAMP or SAEM."""
    from visavis.config import plain
    from visavis.convert.convert import ConvertConfig, save
    from visavis.convert.convert import convert as run
    from visavis.recipes.recipe import settings

    config = ConvertConfig(
        family=family,
        vocabulary=vocabulary,
        bert=bert,
        features=features,
        settings=settings(overrides or ()),
    )
    pretrained = run(checkpoint, config)
    save(pretrained, output)
    if as_json:
        known = {"folder": str(output), "model": pretrained.name, **plain(pretrained.details)}
        show_json({**known, "settings": plain(pretrained.model.config)})
        return
    typer.echo(f"{pretrained.name}, {pretrained.tokenizer.vocab_size:,} words: {output}")
    if features is None:
        typer.echo(
            "note: without --features `visavis evaluate` refuses this model, as it cannot know "
            "whether vectors are those it was trained on",
            err=True,
        )
