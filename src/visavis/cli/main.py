"""`visavis`: one program, short verbs. Commands translate and call the library, nothing more."""

from __future__ import annotations

import logging
import sys

import typer

from visavis import __version__
from visavis.cli import data, demo, doctor, evaluate, extract, search, train
from visavis.errors import VisavisError

app = typer.Typer(
    name="visavis",
    help="Match images and sentences: train, compare, search, explain.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(data.app, name="data")
app.command("extract")(extract.extract)
app.command("train")(train.train)
app.command("evaluate")(evaluate.evaluate)
app.command("search")(search.search)
app.command("caption")(search.caption)
app.command("demo")(demo.demo)
app.command("doctor")(doctor.doctor)


def _version(shown: bool) -> None:
    if shown:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def options(
    version: bool = typer.Option(
        False, "--version", help="Print the version.", callback=_version, is_eager=True
    ),
    verbose: bool = typer.Option(False, "--verbose", "-v", help="Say more on the error stream."),
) -> None:
    """Options that stand before the verb."""
    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING, format="%(levelname)s %(message)s"
    )


def main() -> None:
    """Run; an error of ours is one line on the error stream and exit code 1."""
    try:
        app()
    except VisavisError as error:
        typer.echo(f"visavis: {error}", err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        typer.echo("visavis: stopped; the same command goes on where it was", err=True)
        sys.exit(130)
