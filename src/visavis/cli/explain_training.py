"""`visavis explain curves` and `hardness`: what training did, and what it learned from."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from visavis.cli.common import (
    AsJson,
    CorpusName,
    Data,
    FeaturesPath,
    corpus_name,
    data_root,
    progress_bar,
    run_name,
)
from visavis.cli.explaining import DRAWN, Model, Outputs, Seed, check_endings, deliver
from visavis.errors import RecipeError

USUAL_BATCH = 128  # where no recipe tells the size of the training's batches


def curves(
    runs: Annotated[
        list[str],
        typer.Argument(metavar="RUN...", help="Run folders, or folders of their stages."),
    ],
    output: Outputs = None,
    as_json: AsJson = False,
) -> None:
    """Lay the training curves of runs over each other: loss, rsum and R@1 by epoch.

    Of a run with several stages the last is shown. Files are written as .png or .json.
    """
    from visavis.explain.charts import check_plotting
    from visavis.recipes.curves import curves_grid, curves_values, read_curves, write_curves

    check_endings(output, DRAWN, "curves")
    if any(path.suffix.lower() == ".png" for path in output or ()):
        check_plotting()
    found = read_curves(runs, [run_name(run) for run in runs])
    deliver(
        output,
        partial(write_curves, found),
        curves_grid(found),
        partial(curves_values, found),
        as_json=as_json,
    )


def hardness(
    model: Model,
    negatives: Annotated[
        Path, typer.Option("--negatives", metavar="FILE", help="What `visavis mine` wrote.")
    ],
    batch_sizes: Annotated[
        str, typer.Option("--batch-sizes", metavar="B,B...", help="Of random batches.")
    ] = "64,128,256",
    anchors: Annotated[
        int, typer.Option("--anchors", min=1, help="Pairs, of as many images.")
    ] = 200,
    draws: Annotated[int, typer.Option("--draws", min=1, help="Random batches for each.")] = 20,
    seed: Seed = 0,
    corpus: CorpusName = None,
    split: Annotated[
        list[str] | None,
        typer.Option("--split", metavar="NAME", help="Trained on; default: as the run's recipe."),
    ] = None,
    hold_out: Annotated[
        int | None,
        typer.Option("--hold-out", min=0, metavar="N", help="Default: as the run's recipe."),
    ] = None,
    data: Data = None,
    features: FeaturesPath = None,
    output: Outputs = None,
    as_json: AsJson = False,
) -> None:
    """Measure how hard mined negatives are, and the hardest ones of random batches.

    Ranks are the model's, in its whole training set. Files are written as .png (with examples) or
    .json.
    """
    from visavis.data.negatives import load_negatives
    from visavis.models.pretrained import Pretrained
    from visavis.recipes.assemble import Material, open_material
    from visavis.recipes.beside import recipe_of, trained_on
    from visavis.recipes.hardness import HardnessConfig, measure_hardness
    from visavis.recipes.hardness_report import (
        Origin,
        hardness_grid,
        hardness_values,
        write_hardness,
    )

    check_endings(output, DRAWN, "hardness")
    lists, recipe = load_negatives(negatives), recipe_of(model)
    config = HardnessConfig(
        batch_sizes=_sizes(batch_sizes),
        anchors=anchors,
        draws=draws,
        seed=seed,
        name=run_name(model),
        training_size=USUAL_BATCH if recipe is None else recipe.train.batch_size,
    )
    pretrained = Pretrained.from_pretrained(model)
    material = open_material(corpus_name(corpus, pretrained), data_root(data), features)
    training = trained_on(material.corpus, recipe, split, hold_out)
    part = Material(training, material.features)
    with progress_bar("scoring") as progress:
        found = measure_hardness(
            pretrained, part, (str(negatives), lists), config, progress=progress
        )
    miner = lists.about.get("miner")
    origin = Origin(str(negatives), str(miner["name"]) if isinstance(miner, dict) else "")
    deliver(
        output,
        partial(write_hardness, found, origin),
        hardness_grid(found, origin),
        partial(hardness_values, found, origin),
        as_json=as_json,
    )


def _sizes(text: str) -> tuple[int, ...]:
    try:
        found = tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError as error:
        raise RecipeError(f"--batch-sizes {text!r}: write whole numbers, such as 64,128") from error
    if not found or min(found) < 2:
        raise RecipeError(f"--batch-sizes {text!r}: write numbers of 2 at least, such as 64,128")
    return found
