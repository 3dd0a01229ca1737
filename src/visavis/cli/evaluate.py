"""`visavis evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from visavis.cli.common import AsJson, Data, FeaturesPath, data_root, show_json


def evaluate(
    model: Annotated[str, typer.Argument(help="A run or model folder, or a hub name.")],
    corpus: Annotated[
        str | None, typer.Option("--corpus", help="Default: the one it was trained on.")
    ] = None,
    split: Annotated[str, typer.Option("--split", help="Split that is measured.")] = "test",
    protocol: Annotated[
        str, typer.Option("--protocol", help="full, 1k, 5k or 5x1k (five folds of 1,000).")
    ] = "full",
    data: Data = None,
    features: FeaturesPath = None,
    baseline: Annotated[
        bool, typer.Option("--baseline", help="Also fit a bag of words on train and measure it.")
    ] = False,
    compare: Annotated[
        Path | None, typer.Option("--compare", help="Results of another run, for a paired test.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Where results.json is written.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Measure a model: R@K in both directions, with intervals, beside chance."""
    import tempfile

    from rich.console import Console

    from visavis.evaluation.compare import compare as compare_runs
    from visavis.evaluation.report import comparison_grid, evaluation_grid, show, to_json
    from visavis.evaluation.saved import load, save
    from visavis.models.pretrained import Pretrained
    from visavis.recipes.assemble import open_material
    from visavis.recipes.run import measure, measure_baseline

    pretrained = Pretrained.from_pretrained(model)
    name = corpus or str(pretrained.details.get("corpus", ""))
    material = open_material(name, data_root(data), features)
    part = material.corpus.split(split)
    with tempfile.TemporaryDirectory() as scratch:
        found = measure(
            pretrained, material.features, part, protocol, name=model, scratch=Path(scratch)
        )
    results = [found]
    if baseline:
        results.append(measure_baseline(material, part, protocol))
    if output is not None:
        save(found, output)
    if as_json:
        typer.echo(to_json(results))
    else:
        show(evaluation_grid(results), Console())
    if compare is not None:
        comparison = compare_runs(found, load(compare))
        if as_json:
            show_json(to_json(comparison))
        else:
            show(comparison_grid(comparison), Console())
