"""`visavis mine`."""

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
    progress_bar,
    show_json,
)

if TYPE_CHECKING:
    from visavis.data.corpus import Corpus
    from visavis.data.negatives import Negatives


def mine(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="The miner: a run or model folder, or hub name.")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="File of the mined negatives.")
    ],
    corpus: CorpusName = None,
    split: Annotated[
        list[str] | None,
        typer.Option("--split", metavar="NAME", help="Mined in; default: as the run's recipe."),
    ] = None,
    hold_out: Annotated[
        int | None,
        typer.Option(
            "--hold-out", min=0, metavar="N", help="Left out; default: as the run's recipe."
        ),
    ] = None,
    data: Data = None,
    features: FeaturesPath = None,
    h: Annotated[
        int,
        typer.Option("--h", "--range-max", min=1, metavar="N", help="Sentences kept for an image."),
    ] = 300,
    images: Annotated[
        int,
        typer.Option(
            "--images",
            min=0,
            metavar="N",
            help="Images kept for a sentence; 0: h divided by the sentences of an image.",
        ),
    ] = 0,
    first: Annotated[
        str,
        typer.Option(
            "--first",
            metavar="HOW",
            help="Two steps: `pooled`, or a student's or a cheap model's folder.",
        ),
    ] = "",
    candidates: Annotated[
        int,
        typer.Option("--candidates", min=0, metavar="N", help="Of the first step; 0: 4 times h."),
    ] = 0,
    range_min: Annotated[
        int, typer.Option("--range-min", min=0, metavar="N", help="Leave out the hardest N.")
    ] = 0,
    max_score: Annotated[
        float | None, typer.Option("--max-score", metavar="S", help="Negatives score at most S.")
    ] = None,
    absolute_margin: Annotated[
        float | None,
        typer.Option("--absolute-margin", metavar="S", help="And S below the lowest positive."),
    ] = None,
    relative_margin: Annotated[
        float | None,
        typer.Option("--relative-margin", metavar="S", help="And at most (1 - S) times it."),
    ] = None,
    published: Annotated[
        Path | None,
        typer.Option("--published", metavar="FOLDER", help="Also write i2t_*.npy and t2i_*.npy."),
    ] = None,
    suspects: Annotated[
        Path | None,
        typer.Option("--suspects", metavar="FILE", help="Write suspected false negatives as JSON."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Find the hardest wrong sentences of every image and images of every sentence."""
    from visavis.data.negatives import save_negatives
    from visavis.data.offline import DrawConfig, limited
    from visavis.mining.settings import MineConfig
    from visavis.models.pretrained import Pretrained
    from visavis.recipes.assemble import Material, open_material
    from visavis.recipes.beside import recipe_of, trained_on
    from visavis.recipes.mining import negatives_by

    settings = MineConfig(by=model, h=h, images=images, first=first, candidates=candidates)
    limits = DrawConfig(
        range_min=range_min,
        max_score=max_score,
        absolute_margin=absolute_margin,
        relative_margin=relative_margin,
    )
    miner = Pretrained.from_pretrained(model)
    material = open_material(corpus_name(corpus, miner), data_root(data), features)
    training = trained_on(material.corpus, recipe_of(model), split, hold_out)
    with progress_bar("mining") as progress:
        found = negatives_by(
            miner, Material(training, material.features), settings, output, progress
        )
    if range_min or limits.limits:
        found = limited(found, training.pairs, limits)
        save_negatives(found, output)
    _tell(found, training, (published, suspects), output, as_json=as_json)


def _tell(
    found: Negatives,
    corpus: Corpus,
    also: tuple[Path | None, Path | None],
    output: Path,
    *,
    as_json: bool,
) -> None:
    """Write what else was asked for, and say what was found."""
    from visavis.config import plain
    from visavis.data.negatives import save_published
    from visavis.files import write_json
    from visavis.mining.suspects import suspects as find_suspects

    published, suspects = also
    if published is not None:
        save_published(found, published, corpus.name)
    report = find_suspects(found, corpus)
    if suspects is not None:
        write_json(suspects, plain(report))
    if as_json:
        sizes = {"h": found.sentences.shape[1], "images": found.images.shape[1]}
        about = {"file": str(output), **sizes, **found.about}
        show_json({**about, "looked_at": report.looked_at, "suspects": report.counts})
        return
    named = ", ".join(f"{count:,} {why}" for why, count in report.counts.items())
    typer.echo(
        f"{counted(found.sentences.shape[1], 'sentence')} for each of "
        f"{counted(len(found.sentences), 'image')}, {counted(found.images.shape[1], 'image')} for "
        f"each of {counted(len(found.images), 'sentence')}: {output}"
    )
    typer.echo(f"suspected false negatives of {report.looked_at:,} looked at: {named}")
