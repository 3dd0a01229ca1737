"""Options and output that several verbs share."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from visavis.errors import DataError, RecipeError

if TYPE_CHECKING:
    from rich.progress import TaskID

    from visavis.models.pretrained import Pretrained

Data = Annotated[
    Path | None,
    typer.Option(
        "--data", metavar="FOLDER", envvar="VISAVIS_DATA", help="A corpus, or a folder of several."
    ),
]
FeaturesPath = Annotated[
    Path | None,
    typer.Option(
        "--features",
        metavar="PATH",
        help="Region vectors; default: those that lie with the pictures.",
    ),
]
Weights = Annotated[
    Path | None,
    typer.Option(
        "--weights",
        metavar="FOLDER",
        envvar="VISAVIS_WEIGHTS",
        help="Weights of the onnx and hf extractors.",
    ),
]
CorpusName = Annotated[
    str | None,
    typer.Option(
        "--corpus", metavar="NAME", help="Its name; default: the one the model was trained on."
    ),
]
Device = Annotated[
    str,
    typer.Option("--device", metavar="DEVICE", help="Where networks run: cpu, cuda or cuda:N."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Workers = Annotated[
    int,
    typer.Option("--workers", min=0, metavar="N", help="Pictures at once; 0: one for each core."),
]


def data_root(given: Path | None, instead: str = "") -> Path:
    """The folder that was given or that VISAVIS_DATA names; `instead` is what else would do.

    Raises:
        DataError: neither is there.
    """
    if given is None:
        raise DataError(f"which corpus? pass --data FOLDER or set VISAVIS_DATA{instead}")
    return given


def corpus_name(given: str | None, pretrained: Pretrained) -> str:
    """The corpus that was named, or the one a model was trained on.

    Raises:
        DataError: the model does not say it.
    """
    name = given or str(pretrained.details.get("corpus") or "")
    if not name:
        raise DataError("the model does not say which corpus it was trained on; pass --corpus NAME")
    return name


def run_name(model: str) -> str:
    """What a model is called in reports: its run's folder, or its name on the hub."""
    path = Path(model)
    if not path.exists():
        return model
    path = path.resolve()
    return path.parent.name if path.name == "best" else path.name


def device_name(given: str) -> str:
    """A device that was named, and is there.

    Raises:
        RecipeError: no name of a processor or a CUDA device, or this machine has no such device.
    """
    import re

    import torch

    if not (found := re.fullmatch(r"cpu|cuda(?::(\d+))?", given)):
        raise RecipeError(f"device {given!r} is unknown; give cpu, cuda or cuda:N")
    there = torch.cuda.device_count()
    if given != "cpu" and int(found[1] or 0) >= there:
        raise RecipeError(f"device {given!r}: PyTorch finds {there} CUDA devices here; give cpu")
    return given


def workers(given: int) -> int:
    """A number of workers: as given, or one for each core."""
    return given if given > 0 else os.cpu_count() or 1


def show_json(value: object) -> None:
    """A value on the output stream, as JSON."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


def say_skipped(reasons: Iterable[str]) -> None:
    """Name what was left out, on the error stream."""
    for reason in reasons:
        typer.echo(f"skipped {reason}", err=True)


def counted(count: int, what: str) -> str:
    """A number with its word.

    >>> counted(1, "problem"), counted(2000, "problem")
    ('1 problem', '2,000 problems')
    """
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"


@contextmanager
def progress_bar(title: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on the error stream that is told how much is done, of how much; terminals only."""
    import sys

    from rich.console import Console
    from rich.progress import Progress

    shown = sys.stderr.isatty()
    with Progress(console=Console(stderr=True), disable=not shown, transient=True) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def steps_bar() -> Iterator[Callable[[str, int, int], None]]:
    """As `progress_bar`, told also what is done: a new bar for each."""
    import sys

    from rich.console import Console
    from rich.progress import Progress

    tasks: dict[str, TaskID] = {}
    shown = sys.stderr.isatty()
    with Progress(console=Console(stderr=True), disable=not shown, transient=True) as bar:

        def tell(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total)
            bar.update(tasks[what], completed=done, total=total)

        yield tell
