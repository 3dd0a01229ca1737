"""What the commands of `visavis explain` share: options, the corpus, and how figures are told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from visavis.cli.common import corpus_name, data_root, show_json
from visavis.errors import RecipeError

if TYPE_CHECKING:
    from visavis.evaluation.report import Grid
    from visavis.models.pretrained import Pretrained
    from visavis.recipes.assemble import Material

Model = Annotated[
    str, typer.Argument(metavar="MODEL", help="A run or model folder, or a hub name.")
]
Split = Annotated[
    str, typer.Option("--split", metavar="NAME", help="Split of the corpus; `all` for every one.")
]
Outputs = Annotated[
    list[Path] | None,
    typer.Option("--output", "-o", metavar="FILE", help="Where it is written; may stand often."),
]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Decides what is drawn at random.")]
DRAWN = (".png", ".json")  # endings of a figure


def open_named(
    pretrained: Pretrained,
    data: Path | None,
    corpus: str | None,
    features: Path | None,
    instead: str = "",
) -> Material:
    """A corpus that is named, or the one the model was trained on, linked to its features."""
    from visavis.recipes.assemble import open_material

    root = data_root(data, instead)
    return open_material(corpus_name(corpus, pretrained), root, features)


def check_endings(output: list[Path] | None, known: tuple[str, ...], what: str) -> None:
    """Refuse a file that cannot be written: a mistake is said before the work."""
    for path in output or ():
        if path.suffix.lower() not in known:
            raise RecipeError(f"{path}: {what} is written as {' or '.join(known)}; name it so")


def tell(grid: Grid, values: dict[str, object] | None) -> None:
    """A table on the output stream, or JSON where there are values."""
    from rich.console import Console

    from visavis.evaluation.report import show

    if values is not None:
        show_json(values)
    else:
        show(grid, Console())


def open_part(
    pretrained: Pretrained,
    data: Path | None,
    corpus: str | None,
    features: Path | None,
    split: str,
) -> Material:
    """One split of what `open_named` opens."""
    from visavis.recipes.assemble import Material, part_of

    material = open_named(pretrained, data, corpus, features)
    return Material(part_of(material.corpus, split), material.features)


def deliver(
    output: list[Path] | None,
    write: Callable[[Path], None],
    grid: Grid,
    values: Callable[[], dict[str, object]],
    *,
    as_json: bool,
) -> None:
    """Write a figure to its files and tell it on the output stream."""
    for path in output or ():
        write(path)
        typer.echo(f"wrote {path}", err=as_json)
    tell(grid, values() if as_json else None)
