"""`visavis`: one program, short verbs. Commands translate and call the library, nothing more."""

from __future__ import annotations

import logging
from typing import Any

import typer
from typer.core import TyperGroup

from visavis import __version__
from visavis.cli import (
    compare,
    convert,
    data,
    demo,
    distill,
    doctor,
    evaluate,
    explain,
    extract,
    index,
    mine,
    search,
    serve,
    train,
)
from visavis.errors import VisavisError

_GO_ON = ("demo", "extract", "index", "mine", "train")  # verbs that keep what is done


class _Verbs(TyperGroup):
    """Says in one line what went wrong, whatever the verb, and never shows a traceback for it."""

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401  (the context class is not public)
        """Run a verb; an error of ours is one line on the error stream and exit code 1."""
        try:
            return super().invoke(ctx)
        except VisavisError as error:
            raise _failed(str(error)) from error
        except KeyboardInterrupt as error:
            more = ctx.invoked_subcommand in _GO_ON
            said = "stopped; the same command goes on from what is kept" if more else "stopped"
            raise _failed(said, code=130) from error
        except OSError as error:
            if error.filename is None:  # a closed pipe, which is no one's fault
                raise
            raise _failed(f"{error.filename}: {error.strerror}") from error


def _failed(reason: str, *, code: int = 1) -> typer.Exit:
    typer.echo(f"visavis: {' '.join(reason.splitlines())}", err=True)
    return typer.Exit(code)


app = typer.Typer(
    name="visavis",
    cls=_Verbs,
    help="Match images and sentences: train, compare, search, explain.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("train")(train.train)
app.command("evaluate")(evaluate.evaluate)
app.command("compare")(compare.compare)
app.add_typer(index.app, name="index")
app.command("search")(search.search)
app.command("caption")(search.caption)
app.add_typer(explain.app, name="explain")
app.command("mine")(mine.mine)
app.command("distill")(distill.distill)
app.command("extract")(extract.extract)
app.command("convert")(convert.convert)
app.add_typer(data.app, name="data")
app.command("demo")(demo.demo)
app.command("serve")(serve.serve)
app.command("doctor")(doctor.doctor)


class _ErrorStream(logging.Handler):
    """Messages of the library, a line each."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one where the error stream is now."""
        typer.echo(f"{record.levelname.lower()}: {record.getMessage()}", err=True)


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
    # Ours alone: libraries that warn have handlers of their own and would be heard twice.
    logger = logging.getLogger("visavis")
    logger.setLevel(logging.INFO if verbose else logging.WARNING)
    logger.handlers[:] = [_ErrorStream()]


def main() -> None:
    """Run what the command line says."""
    app()


if __name__ == "__main__":
    main()
