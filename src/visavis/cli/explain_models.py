"""`visavis explain embedding`, `gates` and `cross-rank`: what models make of pairs."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from visavis.cli.common import AsJson, CorpusName, Data, FeaturesPath, progress_bar, run_name
from visavis.cli.explaining import (
    DRAWN,
    Model,
    Outputs,
    Seed,
    Split,
    check_endings,
    deliver,
    open_part,
)
from visavis.errors import RecipeError

if TYPE_CHECKING:
    from visavis.models.pretrained import Pretrained

Models = Annotated[
    list[str], typer.Argument(metavar="MODEL...", help="Run or model folders, or hub names.")
]


def embedding(
    models: Annotated[
        list[str],
        typer.Argument(metavar="MODEL [MODEL2]", help="One or two run or model folders."),
    ],
    pairs: Annotated[
        int, typer.Option("--pairs", min=10, help="True pairs; as many false ones are made.")
    ] = 1000,
    folds: Annotated[int, typer.Option("--folds", min=2, help="Of the accuracies.")] = 5,
    perplexity: Annotated[float, typer.Option("--perplexity", min=1.0, help="Of t-SNE.")] = 30.0,
    seed: Seed = 0,
    data: Data = None,
    corpus: CorpusName = None,
    split: Split = "test",
    features: FeaturesPath = None,
    output: Outputs = None,
    as_json: AsJson = False,
) -> None:
    """Lay out the fused vectors of true and false pairs, with the accuracy of a linear SVM.

    Models that fuse a pair to a vector, such as mtfn and camp. Files are written as .png or .json.
    """
    from visavis.recipes.beside import recipe_of
    from visavis.recipes.embedding import (
        EmbeddingConfig,
        Named,
        embedding_grid,
        embedding_values,
        measure_embedding,
        write_embedding,
    )

    check_endings(output, DRAWN, "an embedding")
    if len(models) > 2:
        raise RecipeError(f"{len(models)} models; at most two are laid out side by side")
    config = EmbeddingConfig(pairs=pairs, folds=folds, perplexity=perplexity, seed=seed)
    named = []
    for name, pretrained, model in _opened(models):
        recipe = recipe_of(model)
        named.append(Named(name, pretrained, "" if recipe is None else recipe.objective.loss))
    part = open_part(named[0].pretrained, data, corpus, features, split)
    with progress_bar("fusing") as progress:
        found = measure_embedding(named, part, config, progress=progress)
    deliver(
        output,
        partial(write_embedding, found),
        embedding_grid(found),
        partial(embedding_values, found),
        as_json=as_json,
    )


def gates(
    model: Model,
    image: Annotated[
        str,
        typer.Option(
            "--image", "-i", metavar="NAME", help="Id, file or row; default: the split's first."
        ),
    ] = "",
    sentence: Annotated[
        str, typer.Option("--sentence", "-s", metavar="TEXT", help="Default: the image's first.")
    ] = "",
    pairs: Annotated[
        int, typer.Option("--pairs", min=1, help="True pairs of the means, and as many false ones.")
    ] = 1000,
    seed: Seed = 0,
    data: Data = None,
    corpus: CorpusName = None,
    split: Split = "test",
    features: FeaturesPath = None,
    output: Outputs = None,
    as_json: AsJson = False,
) -> None:
    """Show the gates of a pair, and the mean gate of pairs that belong together and of others.

    Models with gates, such as camp. Files are written as .png or .json.
    """
    from visavis.models.pretrained import Pretrained
    from visavis.recipes.gates import (
        GatesConfig,
        gates_grid,
        gates_values,
        measure_gates,
        write_gates,
    )

    check_endings(output, DRAWN, "gates")
    config = GatesConfig(
        image=image, sentence=sentence, pairs=pairs, seed=seed, name=run_name(model)
    )
    pretrained = Pretrained.from_pretrained(model)
    part = open_part(pretrained, data, corpus, features, split)
    with progress_bar("gates") as progress:
        found = measure_gates(pretrained, part, config, progress=progress)
    deliver(
        output,
        partial(write_gates, found),
        gates_grid(found),
        partial(gates_values, found),
        as_json=as_json,
    )


def cross_rank(
    models: Models,
    data: Data = None,
    corpus: CorpusName = None,
    split: Split = "test",
    features: FeaturesPath = None,
    output: Outputs = None,
    as_json: AsJson = False,
) -> None:
    """Show where pairs stand among the wrong pairs with their image and with their sentence.

    Files are written as .png or .json.
    """
    import tempfile

    from visavis.explain.charts import check_plotting
    from visavis.recipes.cross_rank import (
        cross_rank_grid,
        cross_rank_values,
        measure_cross_ranks,
        write_cross_ranks,
    )

    check_endings(output, DRAWN, "cross-retrieval ranks")
    if any(path.suffix.lower() == ".png" for path in output or ()):
        check_plotting()
    named = [(name, pretrained) for name, pretrained, _ in _opened(models)]
    part = open_part(named[0][1], data, corpus, features, split)
    with tempfile.TemporaryDirectory() as scratch, progress_bar("scoring") as progress:
        found = measure_cross_ranks(named, part, scratch=Path(scratch), progress=progress)
    deliver(
        output,
        partial(write_cross_ranks, found),
        cross_rank_grid(found),
        partial(cross_rank_values, found),
        as_json=as_json,
    )


def _opened(models: list[str]) -> list[tuple[str, Pretrained, str]]:
    """Name, model and folder of each; equal names get numbers."""
    from visavis.models.pretrained import Pretrained

    names = [run_name(model) for model in models]
    found = []
    for number, (name, model) in enumerate(zip(names, models, strict=True)):
        twice = f" ({names[: number + 1].count(name)})" if names.count(name) > 1 else ""
        found.append((name + twice, Pretrained.from_pretrained(model), model))
    return found
