"""Training a recipe in a folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from visavis.config import build, plain
from visavis.errors import RecipeError
from visavis.evaluation.evaluate import Evaluation
from visavis.evaluation.protocols import make_protocol
from visavis.evaluation.report import PUBLISHED
from visavis.evaluation.saved import load, save
from visavis.files import owned, read_json, write_json
from visavis.models.pretrained import Pretrained
from visavis.recipes.assemble import Assembly, Material, assemble
from visavis.recipes.measure import environment, measure
from visavis.recipes.recipe import Recipe, save_recipe
from visavis.recipes.stages import Stage, check_stages, run_stages, stages_of
from visavis.training.checkpoint import states
from visavis.training.loop import make_accelerator
from visavis.training.position import Result

RESULTS = "results.json"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a training run gave."""

    result: Result  # of the last stage
    evaluation: Evaluation
    folder: Path
    trained: bool  # False: the run had been finished before, nothing was left to do


def train(
    recipe: Recipe, material: Material, folder: Path, *, show_progress: bool | None = None
) -> Outcome:
    """Train a recipe in a run folder, or go on with the run that is there, and report.

    A run that is finished is reported as it was.

    Raises:
        RecipeError: the folder holds a run of another recipe or of other data, or a stage cannot
            follow the one before.
        DataError: too few images for a batch or for the protocol.
        StorageError: another process trains in the folder.
    """
    stages = stages_of(recipe, folder)
    assembly = assemble(stages[0].recipe, material)
    # What cannot work is refused now, not after hours of training.
    make_protocol(recipe.data.protocol, assembly.report)
    check_stages(stages, assembly)
    # Processes of one training share the folder; the first one owns it.
    with owned(folder, "trains") if make_accelerator().is_main_process else nullcontext():
        return _train(recipe, assembly, stages, folder, show_progress=show_progress)


def _train(
    recipe: Recipe,
    assembly: Assembly,
    stages: Sequence[Stage],
    folder: Path,
    *,
    show_progress: bool | None,
) -> Outcome:
    _claim(folder, recipe, assembly)
    finished = _finished(folder)
    if finished is not None:
        return finished
    results = run_stages(stages, assembly, show_progress=show_progress)
    best = Pretrained.from_pretrained(folder / "best")
    reported = Material(assembly.report, assembly.material.features)
    evaluation = measure(best, reported, recipe.data.protocol, name=folder.resolve().name)
    training: dict[str, object] = {"training": plain(results[-1])}
    if recipe.stages:
        names = [stage.name for stage in recipe.stages]
        training["stages"] = {n: plain(r) for n, r in zip(names, results, strict=True)}
    published = {PUBLISHED: plain(recipe.expected)} if recipe.expected else {}
    evaluation = replace(evaluation, details={**evaluation.details, **training, **published})
    save(evaluation, folder / RESULTS)
    return Outcome(results[-1], evaluation, folder, trained=True)


def _finished(folder: Path) -> Outcome | None:
    """What a run gave that was trained to its end: only such a one has results of its own."""
    if not (folder / RESULTS).is_file() or not (folder / "best").is_dir():
        return None
    evaluation = load(folder / RESULTS)
    if "training" not in evaluation.details:  # another evaluation was written over them
        return None
    result = build(Result, evaluation.details["training"], "training")
    return Outcome(result, evaluation, folder, trained=False)


def _claim(folder: Path, recipe: Recipe, assembly: Assembly) -> None:
    """Make a folder this run's own, or see that it is."""
    identity = {
        "recipe": plain(replace(recipe, source="", expected={})),  # they change no figure
        "training data": assembly.source.corpus.fingerprint(),
        "features": assembly.pretrained.features.digest,
        "tokenizer": assembly.pretrained.tokenizer.digest,
    }
    stamp = folder / "run.json"
    if stamp.exists():
        changed = _differences(read_json(stamp), identity)
        if changed and _begun(folder):
            shown = [key.removeprefix("recipe.") or "stamp" for key in changed[:3]]
            raise RecipeError(
                f"{folder}: holds another run (it differs in {', '.join(shown)}); "
                "give another --output, or remove the folder"
            )
        if not changed:
            return
    save_recipe(recipe, folder / "recipe.yaml")
    write_json(folder / "env.json", environment())
    write_json(stamp, identity)


def _begun(folder: Path) -> bool:
    """Whether a run left anything to lose; one that failed before its first state did not."""
    places = [folder, *folder.glob("stages/*")]
    return any(states(place / "states") or (place / "best").exists() for place in places)


def _differences(found: object, wanted: object) -> list[str]:
    """Where two nested mappings differ, as dotted keys; what only one of them has differs too."""
    ours, theirs = _flat(wanted), _flat(found)
    return [
        key
        for key in {**ours, **theirs}
        if (key in ours, ours.get(key)) != (key in theirs, theirs.get(key))
    ]


def _flat(value: object, path: str = "") -> dict[str, object]:
    if not isinstance(value, Mapping):
        return {path: value}
    inner = [_flat(item, f"{path}.{key}" if path else str(key)) for key, item in value.items()]
    return {key: item for part in inner for key, item in part.items()}
