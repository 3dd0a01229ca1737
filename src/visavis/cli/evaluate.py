"""`visavis evaluate`."""

from __future__ import annotations

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
    show_json,
)


def evaluate(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A run or model folder, or a hub name.")
    ],
    corpus: CorpusName = None,
    split: Annotated[
        str,
        typer.Option(
            "--split", metavar="NAME", help="Split that is measured; `all` for every one."
        ),
    ] = "test",
    protocol: Annotated[
        str,
        typer.Option(
            "--protocol", metavar="NAME", help="full, 1k, 5k or 5x1k (five folds of 1,000)."
        ),
    ] = "full",
    data: Data = None,
    features: FeaturesPath = None,
    baseline: Annotated[
        bool, typer.Option("--baseline", help="Also fit a bag of words on train and measure it.")
    ] = False,
    compare: Annotated[
        Path | None,
        typer.Option(
            "--compare", metavar="RESULTS.JSON", help="Results of another run, for a paired test."
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Write the results as JSON, too."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Measure a model: R@K in both directions, with intervals, beside chance."""
    import tempfile

    from rich.console import Console

    from visavis.config import plain
    from visavis.evaluation.compare import compare as compare_runs
    from visavis.evaluation.report import comparison_grid, evaluation_grid, show
    from visavis.evaluation.saved import as_json as evaluation_json
    from visavis.evaluation.saved import load, save
    from visavis.models.pretrained import Pretrained
    from visavis.recipes.assemble import Material, open_material, part_of
    from visavis.recipes.run import measure, measure_baseline

    other = None if compare is None else load(compare)  # a mistake is said before the work
    pretrained = Pretrained.from_pretrained(model)
    material = open_material(corpus_name(corpus, pretrained), data_root(data), features)
    part = Material(part_of(material.corpus, split), material.features)
    with tempfile.TemporaryDirectory() as scratch, progress_bar("scoring") as progress:
        found = measure(
            pretrained,
            part,
            protocol,
            name=run_name(model),
            scratch=Path(scratch),
            progress=progress,
        )
    comparison = None if other is None else compare_runs(found, other)
    results = [found]
    if baseline:
        results.append(measure_baseline(material, part.corpus, protocol))
    if output is not None:
        save(found, output)
    if as_json:
        values = {"evaluations": [evaluation_json(result) for result in results]}
        show_json(values if comparison is None else {**values, "comparison": plain(comparison)})
        return
    show(evaluation_grid(results), Console())
    if comparison is not None:
        show(comparison_grid(comparison), Console())
