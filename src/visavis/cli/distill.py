"""`visavis distill`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from visavis.cli.common import (
    AsJson,
    CorpusName,
    Data,
    FeaturesPath,
    corpus_name,
    counted,
    data_root,
    show_json,
    steps_bar,
)
from visavis.errors import DataError

if TYPE_CHECKING:
    from visavis.search.student import Student


def distill(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A run or model folder, or a hub name.")
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FOLDER", help="Of the student; default: MODEL/student."
        ),
    ] = None,
    data: Data = None,
    features: FeaturesPath = None,
    corpus: CorpusName = None,
    split: Annotated[
        list[str] | None,
        typer.Option("--split", metavar="NAME", help="Split to learn from; default: as trained."),
    ] = None,
    dim: Annotated[
        int, typer.Option("--dim", min=1, metavar="N", help="Width of its vectors.")
    ] = 512,
    batches: Annotated[
        int,
        typer.Option("--batches", min=1, metavar="N", help="Batches that the model scores."),
    ] = 400,
    epochs: Annotated[
        int, typer.Option("--epochs", min=1, metavar="N", help="Passes over these.")
    ] = 3,
    seed: Annotated[int, typer.Option("--seed", min=0, metavar="N")] = 0,
    as_json: AsJson = False,
) -> None:
    """Distill a first stage for searches from a model's own scores.

    `visavis index build --companion FOLDER` then takes it. Stopped, it begins anew.
    """
    from visavis.recipes.assemble import open_material
    from visavis.recipes.beside import recipe_of, trained_on
    from visavis.search.distill import DistillConfig
    from visavis.search.distill import distill as distilled
    from visavis.search.encoder import Encoder

    if output is None and not Path(model).exists():
        raise DataError(f"{model}: not a folder here; say with --output where the student goes")
    target = output or Path(model) / "student"
    encoder = Encoder(model)
    if encoder.pools:
        typer.echo(
            f"{encoder.place.name} has vectors of whole pictures, which an index takes by itself; "
            "a student pays where it finds more of what the model ranks first",
            err=True,
        )
    material = open_material(corpus_name(corpus, encoder.pretrained), data_root(data), features)
    training = trained_on(material.corpus, recipe_of(model), split, hold_out=0)
    config = DistillConfig(dim=dim, batches=batches, epochs=epochs, seed=seed)
    with steps_bar() as progress:
        student = distilled(encoder, training, material.features, config, progress)
    student.save(target)
    _tell(student, target, as_json=as_json)


def _tell(student: Student, folder: Path, *, as_json: bool) -> None:
    from visavis.config import plain

    found = student.details
    if as_json:
        show_json({"student": str(folder), "teacher": plain(student.teacher), **plain(found)})
        return
    typer.echo(
        f"{student.teacher.name} {student.teacher.digest[:12]} distilled from "
        f"{counted(found['images'], 'picture')} and {counted(found['sentences'], 'sentence')}: "
        f"{folder}"
    )
    shares = [f"{100 * found['student']:.1f} % are among twice as many of the student's"]
    named = {"own": "of the model's own vectors", "mean": "of the mean of its tokens"}
    shares += [f"{100 * found[key]:.1f} % {what}" for key, what in named.items() if key in found]
    typer.echo(
        f"of the model's first among {counted(found['held_out'], 'picture')} kept back, "
        f"{', '.join(shares)}"
    )
