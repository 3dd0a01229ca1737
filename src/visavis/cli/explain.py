"""`visavis explain`: why a pair matches, example sheets, and the analyses of the papers."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from visavis.cli.common import (
    AsJson,
    CorpusName,
    Data,
    FeaturesPath,
    Weights,
    run_name,
    show_json,
)
from visavis.cli.explain_figures import By, pointing, sweep
from visavis.cli.explain_models import cross_rank, embedding, gates
from visavis.cli.explain_training import curves, hardness
from visavis.cli.explaining import Model, Outputs, Split, open_named, open_part
from visavis.errors import DataError

if TYPE_CHECKING:
    from visavis.explain.pair import Pair
    from visavis.models.pretrained import Pretrained
    from visavis.recipes.assemble import Material
    from visavis.recipes.gallery import Gallery


class _Explain(TyperGroup):
    """A word that is no verb of the group is a model: `explain MODEL` is `explain pair MODEL`."""

    default = "pair"

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401  (not public)
        """Put the default verb before what begins with a model or an option of it."""
        if args and args[0] not in (*self.commands, *ctx.help_option_names):
            args = [self.default, *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_Explain,
    no_args_is_help=True,
    help="Show why images and sentences match. `explain MODEL` is short for `explain pair MODEL`.",
)


class What(StrEnum):
    """What an explanation of a pair shows."""

    WORDS = "words"
    REGIONS = "regions"
    RELATIONS = "relations"
    SELECTED = "selected"


@app.command(_Explain.default)
def pair(
    model: Model,
    image: Annotated[
        str,
        typer.Option(
            "--image",
            "-i",
            metavar="PICTURE",
            help="A picture's file, or an id or row of the corpus.",
        ),
    ],
    sentence: Annotated[
        str | None,
        typer.Option(
            "--sentence", "-s", metavar="TEXT", help="Default: the first of the corpus's image."
        ),
    ] = None,
    what: Annotated[What, typer.Option("--what", help="What is shown.")] = What.WORDS,
    by: Annotated[
        By | None,
        typer.Option("--by", help="Kind of explanation; default: attention where there is some."),
    ] = None,
    top: Annotated[int, typer.Option("--top", "-t", min=1, help="Regions that are named.")] = 10,
    data: Data = None,
    corpus: CorpusName = None,
    split: Split = "all",
    features: FeaturesPath = None,
    weights: Weights = None,
    output: Outputs = None,
    as_json: AsJson = False,
) -> None:
    """Explain a picture with a sentence: words, regions, relations or chosen regions.

    Files are written as .png, .json or .html. Without one, words and their regions are printed.
    """
    from visavis.explain.pair import pair_values
    from visavis.models.pretrained import Pretrained
    from visavis.recipes.explained import Asked, check_output, explain_picture, write_explained

    for path in output or ():
        check_output(path)  # a mistake is said before the work
    pretrained = Pretrained.from_pretrained(model)
    if Path(image).is_file():
        from visavis.recipes.gallery import picture_gallery

        gallery = picture_gallery(pretrained, Path(image), weights, features=features)
        own: list[str] = []
    else:
        material = open_named(
            pretrained, data, corpus, features, ", or give --image a picture's file"
        )
        gallery, own = _image(pretrained, material, split, image)
    text = sentence or next(iter(own), None)
    if text is None:
        raise DataError("which sentence? pass --sentence TEXT")
    _say_unknown(pretrained, text)
    asked = Asked(text, what.value, None if by is None else by.value)
    found = explain_picture(gallery, 0, asked, run_name(model))
    for path in output or ():
        write_explained(found, what.value, path, top)
        typer.echo(f"wrote {path}", err=as_json)
    if as_json:
        show_json(pair_values(found))
    elif not output:
        _print_pair(found)


app.command("sweep")(sweep)
app.command("pointing")(pointing)
app.command("embedding")(embedding)
app.command("gates")(gates)
app.command("cross-rank")(cross_rank)
app.command("curves")(curves)
app.command("hardness")(hardness)


@app.command("sheet")
def sheet(
    model: Model,
    output: Annotated[
        list[Path],
        typer.Option("--output", "-o", metavar="FILE", help="As .html or .png, or both."),
    ],
    sentences: Annotated[
        int, typer.Option("--sentences", min=0, help="How many sentences ask for pictures.")
    ] = 6,
    images: Annotated[
        int, typer.Option("--images", min=0, help="How many pictures ask for sentences.")
    ] = 3,
    top: Annotated[int, typer.Option("--top", "-t", min=1, help="Answers to each.")] = 5,
    regions: Annotated[
        bool, typer.Option("--regions/--no-regions", help="Draw what each match rests on.")
    ] = True,
    data: Data = None,
    corpus: CorpusName = None,
    split: Split = "test",
    features: FeaturesPath = None,
) -> None:
    """Draw what a model finds: right and wrong answers, and the ranks of the missed ones."""
    from visavis.config import build
    from visavis.models.pretrained import Pretrained
    from visavis.recipes.gallery import corpus_gallery
    from visavis.recipes.sheets import Examples, example_sheet, sheet_kind, write_sheet

    for path in output:
        sheet_kind(path)  # a mistake is said before the work
    values = {"sentences": sentences, "images": images, "answers": top, "regions": regions}
    examples = build(Examples, values, "sheet")
    pretrained = Pretrained.from_pretrained(model)
    part = open_part(pretrained, data, corpus, features, split)
    gallery = corpus_gallery(pretrained, part.corpus, part.features)
    drawn = example_sheet(gallery, part.corpus, examples)
    for path in output:
        write_sheet(drawn, path)
        typer.echo(f"wrote {path}")


def _image(
    pretrained: Pretrained, material: Material, split: str, image: str
) -> tuple[Gallery, list[str]]:
    """One image of a corpus, and its own sentences."""
    from visavis.recipes.assemble import part_of
    from visavis.recipes.explained import find_image, sentences_of
    from visavis.recipes.gallery import corpus_gallery

    part = part_of(material.corpus, split)
    row = find_image(part, image)
    gallery = corpus_gallery(pretrained, part.select([row]), material.features)
    return gallery, sentences_of(part, row)


def _say_unknown(pretrained: Pretrained, sentence: str) -> None:
    from visavis.recipes.gallery import unknown_words

    words = ", ".join(dict.fromkeys(unknown_words(pretrained, sentence)))
    if words:
        typer.echo(f"note: the model was trained without the words: {words}", err=True)


def _print_pair(found: Pair) -> None:
    """Each content word with its strongest regions, a line each."""
    from visavis.explain.attention import content_words, top_regions

    why = found.explanation
    typer.echo(f"{found.sentence}\nscore {why.score:.3f}, by {why.kind}")
    form = ".0%" if why.kind == "attention" else "+.2g"
    for word in content_words(why):
        best = [
            f"box {region} ({', '.join(f'{edge:.2f}' for edge in why.boxes[region])}) "
            + format(float(why.weights[word, region]), form)
            for region in top_regions(why, word, 3)
            if why.weights[word, region] > 0
        ]
        typer.echo("\t".join([why.words[word], *best]))
