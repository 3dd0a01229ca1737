"""`visavis train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from visavis.cli.common import AsJson, Data, FeaturesPath, counted, data_root, show_json


def train(
    recipe: Annotated[
        Path, typer.Argument(metavar="RECIPE", help="As in recipes/<model>/<corpus>.yaml.")
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A setting, as in train.epochs=10."),
    ] = None,
    data: Data = None,
    features: FeaturesPath = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FOLDER", help="Run folder; default: runs/<model>-<recipe>."
        ),
    ] = None,
    threads: Annotated[
        int,
        typer.Option(
            "--threads", min=0, metavar="N", help="Processor threads; 0: one for each core."
        ),
    ] = 0,
    as_json: AsJson = False,
) -> None:
    """Train a recipe, or go on with the run that is in the folder, and report the best model."""
    from visavis.recipes.recipe import load_recipe

    loaded = load_recipe(recipe, overrides or ())  # a misspelt key is said before torch's data work
    folder = output or Path("runs") / f"{loaded.model_name}-{recipe.stem}"
    root = data_root(data)

    import torch
    from rich.console import Console

    from visavis.config import plain
    from visavis.evaluation.report import evaluation_grid, show
    from visavis.evaluation.saved import as_json as evaluation_json
    from visavis.recipes.assemble import open_material
    from visavis.recipes.run import train as run

    if threads:
        torch.set_num_threads(threads)
    outcome = run(loaded, open_material(loaded.data.corpus, root, features), folder)
    result = outcome.result
    if as_json:
        about = {"folder": str(folder), "trained": outcome.trained, "training": plain(result)}
        show_json({**about, "evaluation": evaluation_json(outcome.evaluation)})
        return
    show(evaluation_grid([outcome.evaluation]), Console())
    ended = "stopped early" if result.stopped_early else "trained"
    typer.echo(
        f"{ended if outcome.trained else 'finished before, nothing was trained now'}: "
        f"{counted(result.epochs, 'epoch')}, best after {result.best_epoch + 1}; "
        f"model in {folder / 'best'}"
    )
