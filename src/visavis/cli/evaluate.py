"""`visavis evaluate`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

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
    from visavis.evaluation.evaluate import Evaluation
    from visavis.evaluation.variants import EnsembleConfig, RerankConfig
    from visavis.scoring.precision import Precision

T = TypeVar("T", int, float)
_OF_RERANK = "Re-ranking: "
_OF_ENSEMBLE = "Mean: "


def evaluate(
    models: Annotated[
        list[str], typer.Argument(metavar="MODEL...", help="Run or model folders, or hub names.")
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
    ensemble: Annotated[
        str, typer.Option("--ensemble", metavar="HOW", help="mean: also the mean of their scores.")
    ] = "",
    normalise: Annotated[
        str,
        typer.Option(
            "--normalise", metavar="HOW", help=_OF_ENSEMBLE + "none, min_max, z or rank first."
        ),
    ] = "",
    weights: Annotated[
        str, typer.Option("--weights", metavar="W,W...", help=_OF_ENSEMBLE + "one for each model.")
    ] = "",
    rerank: Annotated[
        str, typer.Option("--rerank", metavar="HOW", help="reciprocal: also each row re-ranked.")
    ] = "",
    k: Annotated[
        str,
        typer.Option(
            "--k",
            metavar="K,K...",
            help=_OF_RERANK + "candidates, a row for each K; default: 15, on COCO 7.",
        ),
    ] = "",
    neighbours: Annotated[
        str,
        typer.Option(
            "--neighbours",
            metavar="KIND",
            help=_OF_RERANK + "none or learned; oracle uses ground truth, as a diagnostic.",
        ),
    ] = "",
    group: Annotated[
        int,
        typer.Option("--group", min=1, metavar="N", help=_OF_RERANK + "sentences of a group."),
    ] = 5,
    plot: Annotated[
        Path | None,
        typer.Option("--plot", metavar="FILE.PNG", help=_OF_RERANK + "R@1 and rsum against K."),
    ] = None,
    precision: Annotated[
        str,
        typer.Option(
            "--precision", metavar="KIND", help="fp32, or bf16: matrix products on half the bits."
        ),
    ] = "fp32",
    rank_changes: Annotated[
        bool,
        typer.Option("--rank-changes", help="Also score in fp32; say what --precision changes."),
    ] = False,
    compare: Annotated[
        Path | None,
        typer.Option(
            "--compare",
            metavar="RESULTS.JSON",
            help="Results of another run, for a paired test with the last row.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help="Write the results as JSON, too; see the docs."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Measure models: R@K in both directions, with intervals, beside chance."""
    import shutil
    import tempfile

    from visavis.evaluation.compare import compare as compare_runs
    from visavis.evaluation.saved import load
    from visavis.models.pretrained import Pretrained
    from visavis.recipes.assemble import Material, open_material, part_of
    from visavis.recipes.measure import measure_baseline
    from visavis.recipes.variants import Variants, Work, measure_variants
    from visavis.scoring.matrix import Block

    # A mistake is said before the work.
    other = None if compare is None else load(compare)
    block = Block(precision=_precision(precision))
    averaging = _ensemble(ensemble, normalise, weights, len(models))
    ks = _numbers(k, int, "--k") if k else ()
    reranking = _rerank(rerank, ks, neighbours, group)  # K is as yet empty where none is given
    _check_plot(plot, reranking)
    named = [(run_name(model), Pretrained.from_pretrained(model)) for model in models]
    name = corpus_name(corpus, named[0][1])
    if reranking is not None and not ks:
        reranking = _with_usual_k(reranking, name)
    material = open_material(name, data_root(data), features)
    part = Material(part_of(material.corpus, split), material.features)
    variants = Variants(ensemble=averaging, rerank=reranking)
    with tempfile.TemporaryDirectory() as scratch, progress_bar("scoring") as progress:
        work = Work(
            scratch=Path(scratch),
            block=block,
            ledgers=None if output is None else _ledgers(output),
            rank_changes=rank_changes,
            progress=progress,
        )
        found = measure_variants(named, part, protocol, variants, work)
    if output is not None:  # all is scored: nothing is left to go on with
        shutil.rmtree(_ledgers(output), ignore_errors=True)
    comparison = None if other is None else compare_runs(found[-1], other)
    if plot is not None:
        from visavis.recipes.rerank_curves import draw_rerank_curves

        draw_rerank_curves(found, plot)
    if output is not None:
        _save(found, output)
    results = [*found, *([measure_baseline(material, part.corpus, protocol)] if baseline else [])]
    _tell(results, comparison, as_json=as_json)


def _ledgers(output: Path) -> Path:
    """Where an evaluation that is killed goes on."""
    return output.with_name(f"{output.name}.partial")


def _precision(name: str) -> Precision:
    from visavis.scoring.precision import PRECISIONS

    _known(name, PRECISIONS, "--precision")
    return name  # type: ignore[return-value]


def _tell(results: Sequence[Evaluation], comparison: object, *, as_json: bool) -> None:
    """Print tables, or one JSON value."""
    from rich.console import Console

    from visavis.config import plain
    from visavis.evaluation.compare import Comparison
    from visavis.evaluation.report import comparison_grid, evaluation_grid, show
    from visavis.evaluation.saved import as_json as evaluation_json

    compared = comparison if isinstance(comparison, Comparison) else None
    if as_json:
        values: dict[str, object] = {"evaluations": [evaluation_json(result) for result in results]}
        show_json(values if compared is None else {**values, "comparison": plain(compared)})
        return
    # Whoever asks for oracle neighbours by name gets them; the rows and a note say what they are.
    show(evaluation_grid(results, diagnostics=True), Console())
    for result in results:
        changes = result.details.get("rank_changes")
        if isinstance(changes, dict):
            typer.echo(_changes(result.name, changes))
    if compared is not None:
        show(comparison_grid(compared), Console())


def _changes(name: str, changes: Mapping[str, Any]) -> str:
    """What the precision changed, in a line."""
    first, ten = (
        f"{changes['i2t_' + k]:.2%} / {changes['t2i_' + k]:.2%}" for k in ("top1", "top10")
    )
    return (
        f"{name}, against fp32: scores differ by at most {changes['max_error']:.2g}; another best "
        f"answer for {first} of the images / sentences, others among the best ten for {ten}; "
        f"rsum {changes['recall']['rsum']:+.2f}"
    )


def _save(found: Sequence[Evaluation], output: Path) -> None:
    """The first row in the file itself, the others beside it under their names."""
    import re

    from visavis.evaluation.saved import save

    save(found[0], output)
    for result in found[1:]:
        name = re.sub(r"[^\w.]+", "-", result.name).strip("-").lower()
        save(result, output.with_name(f"{output.stem}-{name}{output.suffix}"))


def _ensemble(how: str, normalise: str, weights: str, models: int) -> EnsembleConfig | None:
    from visavis.evaluation.variants import EnsembleConfig
    from visavis.rerank.ensemble import NORMALISATIONS, check_weights

    if not how:
        if normalise or weights:
            raise RecipeError("--normalise and --weights belong to --ensemble mean; add it")
        return None
    _known(how, ("mean",), "--ensemble")
    _known(normalise or "none", NORMALISATIONS, "--normalise")
    if models < 2:
        raise RecipeError("--ensemble mean of one model; name two or more")
    shares = _numbers(weights, float, "--weights") if weights else ()
    if shares:
        check_weights(shares)
        if len(shares) != models:
            raise RecipeError(f"{len(shares)} weights for {models} models; give one for each")
    return EnsembleConfig(normalise=normalise or "none", weights=shares)  # type: ignore[arg-type]


def _rerank(how: str, k: tuple[int, ...], neighbours: str, group: int) -> RerankConfig | None:
    from visavis.evaluation.variants import RerankConfig
    from visavis.rerank.groups import KINDS

    if not how:
        if k or neighbours:
            raise RecipeError("--k and --neighbours belong to --rerank reciprocal; add it")
        return None
    _known(how, ("reciprocal",), "--rerank")
    _known(neighbours or "none", KINDS, "--neighbours")
    if any(number < 1 for number in k):
        raise RecipeError(f"--k {min(k)}; give numbers from 1 on")
    return RerankConfig(
        k=tuple(sorted(set(k))),
        neighbours=neighbours or "none",  # type: ignore[arg-type]
        group=group,
    )


def _with_usual_k(settings: RerankConfig, corpus: str) -> RerankConfig:
    """The paper's K: another one for COCO."""
    from dataclasses import replace

    from visavis.rerank.reciprocal import K_COCO, K

    return replace(settings, k=(K_COCO if "coco" in corpus.lower() else K,))


def _check_plot(plot: Path | None, reranking: RerankConfig | None) -> None:
    from visavis.explain.charts import check_plotting

    if plot is None:
        return
    if reranking is None:
        raise RecipeError("--plot draws figures against K; add --rerank reciprocal --k 5,10,15,20")
    if plot.suffix.lower() != ".png":
        raise RecipeError(f"--plot {plot.name}; the name of a picture ends in .png")
    check_plotting()


def _known(value: str, known: Sequence[str], option: str) -> None:
    from visavis.config import nearest

    if value not in known:
        raise RecipeError(f"{option} {value!r} is not known; {nearest(value, known)}")


def _numbers(text: str, kind: Callable[[str], T], option: str) -> tuple[T, ...]:
    try:
        return tuple(kind(part) for part in text.split(","))
    except ValueError as error:
        raise RecipeError(f"{option} {text!r}; give numbers with commas between them") from error
