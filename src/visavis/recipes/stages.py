"""The trainings of a recipe, one after the other: where, from which weights, of which parts.

Most recipes have one, in the run folder itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn

from visavis.config import build, plain
from visavis.data.negatives import load_negatives
from visavis.data.offline import OfflineSource
from visavis.errors import RecipeError
from visavis.files import read_json, write_json
from visavis.metrics.ranks import ranks
from visavis.metrics.recall import recall_metrics
from visavis.models.pretrained import Pretrained
from visavis.recipes.assemble import Assembly, Material, restarted
from visavis.recipes.engine import scorer_of
from visavis.recipes.mining import check_by, negatives_by
from visavis.recipes.recipe import Recipe, StageConfig
from visavis.training.freeze import freeze
from visavis.training.loop import Hooks, Source, Trainer, batches_per_epoch
from visavis.training.position import Result
from visavis.training.progress import counting

MINED = "negatives.safetensors"  # of a stage: what was mined before it
RESULT = "result.json"  # of a stage: written when it is done


@dataclass(frozen=True, slots=True)
class Stage:
    """One training: its settings and its places."""

    recipe: Recipe  # with the stage's own settings
    folder: Path  # of its states and its log
    best: Path  # the folder of its best model
    config: StageConfig | None = None  # None: the recipe has no stages
    place: str = ""  # in the recipe, for messages

    @property
    def continues(self) -> bool:
        """Whether it takes the weights of the stage before."""
        return self.config is not None and self.config.start == "previous"

    @property
    def done(self) -> bool:
        """Whether it was trained to its end."""
        return self.config is not None and (self.folder / RESULT).is_file() and self.best.is_dir()


def stages_of(recipe: Recipe, folder: Path) -> list[Stage]:
    """The stages of a recipe in a run folder; the last one's best model is the run's."""
    if not recipe.stages:
        return [Stage(recipe, folder, folder / "best")]
    found = []
    for number, config in enumerate(recipe.stages):
        own = folder / "stages" / f"{number + 1}-{config.name}"
        last = number + 1 == len(recipe.stages)
        best = (folder if last else own) / "best"
        found.append(Stage(recipe.of_stage(number), own, best, config, f"stages[{number}]"))
    return found


def check_stages(stages: Sequence[Stage], assembly: Assembly) -> None:
    """Refuse what would only fail when earlier stages are done.

    Raises:
        RecipeError: weights that do not fit the stage before, frozen parts that do not exist.
        DataError: too few pairs for a batch.
    """
    before: dict[str, tuple[int, ...]] = {}
    for number, stage in enumerate(stages):
        batches_per_epoch(assembly.source, stage.recipe.train)
        if stage.config is None:
            continue
        model = restarted(assembly, stage.recipe).pretrained.model
        shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
        if number and stage.continues:
            _same_shapes(before, shapes, stage.place)
        if stage.config.mine is not None and not stage.done:
            training = assembly.source.corpus
            check_by(stage.config.mine, training, assembly.material.features, stage.place)
        _freeze(model, stage)
        before = shapes


def _same_shapes(
    before: Mapping[str, tuple[int, ...]], now: Mapping[str, tuple[int, ...]], place: str
) -> None:
    for name in {**now, **before}:
        if now.get(name) != before.get(name):
            raise RecipeError(
                f"{place}.model: {name} has shape {now.get(name)} here and {before.get(name)} in "
                "the stage before; leave settings that change weights alone, or start from scratch"
            )


def _freeze(model: nn.Module, stage: Stage) -> None:
    config = stage.config
    if config is not None and config.only:
        freeze(model, config.only, f"{stage.place}.only", others=True)
    elif config is not None:
        freeze(model, config.freeze, f"{stage.place}.freeze")


def run_stages(
    stages: Sequence[Stage], assembly: Assembly, *, show_progress: bool | None = None
) -> list[Result]:
    """Train what is not trained yet; how each stage ended."""
    results = []
    for number, stage in enumerate(stages):
        if not stage.done:
            before = stages[number - 1] if number else None
            source = _source(stage, assembly, before, show_progress=show_progress)
            ready = _ready(stage, assembly, before)
            trainer = Trainer(
                ready.pretrained.model,
                source,
                stage.recipe.train,
                stage.recipe.objective,
                _hooks(stage, ready),
                stage.folder,
            )
            result = trainer.run(show_progress=show_progress)
            if stage.config is not None:
                write_json(stage.folder / RESULT, plain(result))
        else:
            result = build(Result, read_json(stage.folder / RESULT), RESULT)
        results.append(result)
    return results


def _ready(stage: Stage, assembly: Assembly, before: Stage | None) -> Assembly:
    """The data with the model as the stage begins. The generators then stand as its seed says."""
    weights = None
    if before is not None and stage.continues:
        weights = Pretrained.from_pretrained(before.best, device="cpu").model.state_dict()
    ready = restarted(assembly, stage.recipe)
    if weights is not None:
        ready.pretrained.model.load_state_dict(weights)
    _freeze(ready.pretrained.model, stage)
    return ready


def _source(
    stage: Stage, assembly: Assembly, before: Stage | None, *, show_progress: bool | None
) -> Source:
    """The training pairs as the stage reads them, with negatives that are mined when it asks."""
    source = assembly.source.grouped(stage.recipe.train.sentences_per_image)
    if stage.config is None or stage.config.mine is None:
        return source
    mine = stage.config.mine
    if mine.kind == "file":
        found = load_negatives(Path(mine.by))
    else:
        miner = before.best if mine.kind == "previous" and before is not None else mine.by
        material = Material(assembly.source.corpus, assembly.material.features)
        with counting(f"{stage.config.name}, mining", show=show_progress) as progress:
            found = negatives_by(
                Pretrained.from_pretrained(miner), material, mine, stage.folder / MINED, progress
            )
    objective = stage.recipe.objective
    derived, since = objective.offline.reads_derived, objective.warmup_epochs
    return OfflineSource(source, found, mine.draw, derived=derived, since=since)


def _hooks(stage: Stage, assembly: Assembly) -> Hooks:
    recipe, name = stage.recipe, "" if stage.config is None else stage.config.name
    scorer = scorer_of(assembly.pretrained, assembly.material.features)

    def validate(model: nn.Module) -> Mapping[str, float]:
        corpus = assembly.selection
        return recall_metrics(ranks(scorer(corpus), corpus.pairs))

    def save_best(model: nn.Module, metrics: Mapping[str, float]) -> None:
        details = {
            "recipe": recipe.source,
            "corpus": recipe.data.corpus,
            "fingerprint": assembly.source.corpus.fingerprint(),
            "seed": recipe.train.seed,
            "metrics": dict(metrics),
            **({"stage": name} if name else {}),
        }
        replace(assembly.pretrained, model=model, details=details).save_pretrained(stage.best)

    return Hooks(validate=validate, save_best=save_best, stage=name)
