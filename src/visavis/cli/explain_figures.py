"""`visavis explain sweep` and `visavis explain pointing`: analyses that give figures."""

from __future__ import annotations

from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Annotated

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
from visavis.cli.explaining import (
    DRAWN,
    Model,
    Outputs,
    Split,
    check_endings,
    deliver,
    open_part,
)

if TYPE_CHECKING:
    from visavis.recipes.explained import Pointing


class By(StrEnum):
    """Kinds of explanation."""

    ATTENTION = "attention"
    INTERACTION = "interaction"
    ABLATION = "ablation"


class Rule(StrEnum):
    """What makes a region the right one."""

    CENTRE = "centre"
    OVERLAP = "overlap"


def sweep(
    model: Model,
    setting: Annotated[
        str, typer.Option("--setting", metavar="NAME", help="Of the model, such as `top_k`.")
    ],
    values: Annotated[
        str, typer.Option("--values", metavar="A,B,...", help="Its values, between commas.")
    ],
    protocol: Annotated[
        str, typer.Option("--protocol", metavar="NAME", help="full, 1k, 5k or 5x1k.")
    ] = "full",
    data: Data = None,
    corpus: CorpusName = None,
    split: Split = "test",
    features: FeaturesPath = None,
    output: Outputs = None,
    as_json: AsJson = False,
) -> None:
    """Measure a trained model with other values of a setting, without training it again.

    Only settings that change no parameter. Files are written as .png (a plot) or .json.
    """
    from visavis.models.pretrained import Pretrained
    from visavis.recipes.sweep import (
        SweepConfig,
        parse_values,
        sweep_grid,
        sweep_values,
        write_sweep,
    )
    from visavis.recipes.sweep import sweep as measure_sweep

    check_endings(output, DRAWN, "a sweep")
    chosen = parse_values(values)
    pretrained = Pretrained.from_pretrained(model)
    part = open_part(pretrained, data, corpus, features, split)
    config = SweepConfig(setting=setting, values=chosen, protocol=protocol, name=run_name(model))
    with progress_bar("scoring") as progress:
        found = measure_sweep(pretrained, part, config, progress=progress)
    deliver(
        output,
        partial(write_sweep, found),
        sweep_grid(found),
        lambda: sweep_values(found),
        as_json=as_json,
    )


def pointing(
    model: Model,
    by: Annotated[
        By | None,
        typer.Option("--by", help="attention or interaction; default: attention if there is some."),
    ] = None,
    sentences: Annotated[
        int, typer.Option("--sentences", min=1, help="How many are looked at, evenly spread.")
    ] = 300,
    rule: Annotated[
        Rule, typer.Option("--rule", help="A region is right by its centre or by its overlap.")
    ] = Rule.CENTRE,
    data: Data = None,
    corpus: CorpusName = None,
    split: Split = "test",
    features: FeaturesPath = None,
    output: Outputs = None,
    as_json: AsJson = False,
) -> None:
    """Measure on drawn scenes how often a word points at what it stands for, beside chance."""
    from visavis.data.open import find_corpus
    from visavis.files import write_json
    from visavis.models.pretrained import Pretrained
    from visavis.recipes.explained import PointingConfig, measure_pointing, pointing_values

    check_endings(output, (".json",), "pointing")
    pretrained = Pretrained.from_pretrained(model)
    name = corpus_name(corpus, pretrained)
    part = open_part(pretrained, data, corpus, features, split)
    config = PointingConfig(
        sentences=sentences, kind=None if by is None else by.value, rule=rule.value
    )
    with progress_bar("explaining") as progress:
        found = measure_pointing(
            pretrained, part, find_corpus(name, data_root(data)), config, progress=progress
        )
    told = pointing_values(found, run_name(model), part.corpus)
    for path in output or ():
        write_json(path, told)
    if as_json:
        show_json(told)
    else:
        _print_pointing(found, run_name(model))


def _print_pointing(found: Pointing, name: str) -> None:
    from rich.console import Console

    from visavis.evaluation.report import Grid, show

    rows = [(group, part) for group, part in found.groups.items()] + [("all", found.all)]
    cells = tuple(
        (group, f"{100 * part.attended:.1f}", f"{100 * part.chance:.1f}", f"{part.words:,}")
        for group, part in rows
    )
    title = f"{name}: words that point at what they stand for, by {found.kind}"
    notes = (
        f"{found.sentences:,} sentences with their own pictures; a region is right by its "
        f"{found.rule}; chance is a region drawn at random",
    )
    show(Grid(title, ("words", "right %", "chance %", "how many"), cells, notes), Console())
