"""`visavis explain sweep` and `visavis explain pointing`: analyses that give figures."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
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
from visavis.errors import RecipeError

if TYPE_CHECKING:
    from visavis.evaluation.report import Grid
    from visavis.models.pretrained import Pretrained
    from visavis.recipes.assemble import Material
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
    from rich.console import Console

    from visavis.evaluation.report import show
    from visavis.files import atomic_path, write_json
    from visavis.models.pretrained import Pretrained
    from visavis.recipes.assemble import Material, part_of
    from visavis.recipes.sweep import (
        SweepConfig,
        draw_sweep,
        parse_values,
        sweep_grid,
        sweep_values,
    )
    from visavis.recipes.sweep import sweep as measure_sweep

    check_endings(output, DRAWN, "a sweep")
    chosen = parse_values(values)
    pretrained = Pretrained.from_pretrained(model)
    material = open_named(pretrained, data, corpus, features)
    part = Material(part_of(material.corpus, split), material.features)
    config = SweepConfig(setting=setting, values=chosen, protocol=protocol, name=run_name(model))
    with progress_bar("scoring") as progress:
        found = measure_sweep(pretrained, part, config, progress=progress)
    for path in output or ():
        if path.suffix.lower() == ".json":
            write_json(path, sweep_values(found))
        else:
            with atomic_path(path) as temporary:
                draw_sweep(found).save(temporary, format="PNG")
    if as_json:
        show_json(sweep_values(found))
    else:
        show(sweep_grid(found), Console())


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
    from visavis.recipes.assemble import Material, part_of
    from visavis.recipes.explained import PointingConfig, measure_pointing, pointing_values

    check_endings(output, (".json",), "pointing")
    pretrained = Pretrained.from_pretrained(model)
    name = corpus_name(corpus, pretrained)
    material = open_named(pretrained, data, corpus, features)
    config = PointingConfig(
        sentences=sentences, kind=None if by is None else by.value, rule=rule.value
    )
    part = Material(part_of(material.corpus, split), material.features)
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
