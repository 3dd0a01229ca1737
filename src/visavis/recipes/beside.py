"""What lies in the folder of a run beside its model: recipe and logs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from visavis.data.corpus import Corpus
from visavis.errors import DataError
from visavis.recipes.assemble import hold_out as held_out
from visavis.recipes.recipe import Recipe, load_recipe

LOG = "metrics.jsonl"


def recipe_of(model: str) -> Recipe | None:
    """What a run was trained by, of several stages the last one; None where no recipe lies.

    Args:
        model: a run folder, that of one of its stages, the `best` of either, or anything else.

    Raises:
        RecipeError: the recipe cannot be read.
    """
    folder = Path(model).resolve()
    run = folder.parent if folder.name == "best" else folder
    stage = run.name if run.parent.name == "stages" else ""
    path = (run.parents[1] if stage else run) / "recipe.yaml"
    if not path.is_file():
        return None
    recipe = load_recipe(path)
    if not recipe.stages:
        return recipe
    names = [config.name for config in recipe.stages]
    name = stage.partition("-")[2]
    return recipe.of_stage(names.index(name) if name in names else len(names) - 1)


def trained_on(
    corpus: Corpus, recipe: Recipe | None, split: Sequence[str] | None, hold_out: int | None
) -> Corpus:
    """The part of a corpus that is meant: as named, else as a recipe trains on it.

    Args:
        corpus: all splits.
        recipe: of the model; None where none lies beside it.
        split: names; none: those of the recipe, without one `train`.
        hold_out: images that are left out; None: as many as in the recipe where its splits are
            meant, else none.
    """
    usual = ["train"] if recipe is None else list(recipe.data.train)
    names, count = split or usual, hold_out
    if count is None:
        count = recipe.data.hold_out if recipe is not None and set(names) == set(usual) else 0
    part = corpus.split(*names)
    return held_out(part, count)[0] if count else part


def log_of(run: str) -> Path:
    """The log of a run, that of its last stage where it has several.

    Args:
        run: a run folder, or the folder of one of its stages.

    Raises:
        DataError: no log lies there.
    """
    folder = Path(run)
    if (folder / LOG).is_file():
        return folder / LOG
    stages = sorted(
        folder.glob(f"stages/*/{LOG}"),
        key=lambda path: int(path.parent.name.partition("-")[0]),
    )
    if not stages:
        raise DataError(f"{run}: no {LOG} there; name the folder of a run, or of one of its stages")
    return stages[-1]
