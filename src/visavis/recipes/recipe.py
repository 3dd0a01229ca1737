"""What a recipe says, and reading one."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import yaml

from visavis.config import build, nearest, plain
from visavis.data.vocabulary import VocabularyKind
from visavis.errors import RecipeError
from visavis.files import write_text
from visavis.losses import loss_function
from visavis.metrics.recall import METRICS
from visavis.mining.settings import PREVIOUS, MineConfig
from visavis.models import config_class
from visavis.training.config import ObjectiveConfig, TrainConfig


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which images and sentences. Where the files lie is `--data` or VISAVIS_DATA, never here."""

    corpus: str  # its name: flickr8k, flickr30k, coco, scenes, ...
    train: tuple[str, ...] = ("train",)  # splits that are trained on
    select: str = "val"  # split that the best epoch is chosen on
    hold_out: int = 0  # or so many training images, left out of training for that
    report: str = "test"  # split that figures are made on
    protocol: Literal["full", "1k", "5k", "5x1k"] = "full"

    def __post_init__(self) -> None:
        if self.hold_out < 0:
            raise ValueError(f"hold_out must be at least 0, got {self.hold_out}")
        used = {"report": self.report} | ({} if self.hold_out else {"select": self.select})
        for key, split in used.items():
            if split in self.train:
                raise ValueError(f"{key}: {split!r} is trained on; figures need unseen images")


@dataclass(frozen=True, kw_only=True)
class TokenizerConfig:
    """How sentences become tokens."""

    kind: Literal["word", "wordpiece"] = "word"
    vocabulary: VocabularyKind = "treebank"  # word; mtfn: no punctuation, no start and end marks
    threshold: int = 4  # word: a word counts when it occurs so often in training
    max_words: int = 0  # longer sentences are cut; 0: never
    bert: str = ""  # wordpiece: folder or hub name of the language model; its states are cached


@dataclass(frozen=True, kw_only=True)
class StageConfig:
    """One of several trainings that follow each other; what it leaves out is as in the recipe."""

    name: str  # of its folder, in the log and for `--set stages.NAME.train.epochs=3`
    start: Literal["previous", "scratch"] = "previous"
    # previous: from the best weights of the stage before; scratch: from the seed, as the first one
    freeze: tuple[str, ...] = ()  # beginnings of names of parameters that are not trained
    only: tuple[str, ...] = ()  # or of those that are, and no others
    mine: MineConfig | None = None  # hard negatives, mined before the stage begins
    model: Mapping[str, Any] = field(default_factory=dict)  # settings that are not the recipe's
    objective: Mapping[str, Any] = field(default_factory=dict)
    train: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", self.name):
            raise ValueError(f"name must be letters, digits, _ and -, got {self.name!r}")
        if self.freeze and self.only:
            raise ValueError("freeze and only exclude each other; give one of them")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One experiment."""

    source: str  # the paper's table and row, or what the recipe is for
    model: Mapping[str, Any]  # `name` and the model's settings
    data: DataConfig
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    stages: tuple[StageConfig, ...] = ()  # trainings that follow each other; none: one of the above
    expected: Mapping[str, float | None] = field(default_factory=dict)  # published figures

    @property
    def model_name(self) -> str:
        """The name in the table of models."""
        return str(self.model["name"])

    def model_config(self, *, region_dim: int, vocab_size: int, place: str = "model") -> Any:  # noqa: ANN401
        """The model's settings, with the sizes that the data decides; `place` is for messages.

        Raises:
            RecipeError: an unknown setting, or a size that the data decides.
        """
        settings = {key: value for key, value in self.model.items() if key != "name"}
        for key in ("region_dim", "vocab_size"):
            if key in settings:
                raise RecipeError(f"{place}.{key}: decided by the data; remove it from the recipe")
        sizes = {"region_dim": region_dim, "vocab_size": vocab_size}
        return build(config_class(self.model_name), {**settings, **sizes}, place)

    def of_stage(self, number: int) -> Recipe:
        """What a stage, counted from 0, trains by: this recipe with the stage's own settings.

        Raises:
            RecipeError: a setting that cannot be used, or another model.
        """
        stage, place = self.stages[number], f"stages[{number}]"
        if "name" in stage.model:
            raise RecipeError(f"{place}.model.name: all stages train one model; remove the key")
        objective = merged(plain(self.objective), stage.objective)
        training = merged(plain(self.train), stage.train)
        found = replace(
            self,
            model=merged(self.model, stage.model),
            objective=build(ObjectiveConfig, objective, f"{place}.objective"),
            train=build(TrainConfig, training, f"{place}.train"),
            stages=(),
        )
        _check(found, f"{place}.")
        return found


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe; `overrides` are `a.b=value` with values in YAML.

    Raises:
        RecipeError: no such file, not YAML, an unknown key (the nearest known one is named), a
            value of the wrong type.
    """
    try:
        values = _yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RecipeError(f"{path}: no such recipe") from error
    except OSError as error:
        raise RecipeError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise RecipeError(f"{path}: not YAML ({' '.join(str(error).split())})") from error
    if not isinstance(values, dict):
        raise RecipeError(
            f"{path}: expected keys and values at the top, got {type(values).__name__}"
        )
    for override in overrides:
        _set(values, override)
    try:
        return parse_recipe(values)
    except RecipeError as error:
        raise RecipeError(f"{path}: {error}") from error


def parse_recipe(values: Mapping[str, Any]) -> Recipe:
    """A recipe from plain values, with the model's settings checked too."""
    recipe = build(Recipe, values)
    if "name" not in recipe.model:
        raise RecipeError("model.name: missing; say which model")
    _check(recipe)
    for key in recipe.expected:
        if key not in METRICS:
            raise RecipeError(f"expected.{key}: no metric; {nearest(key, METRICS)}")
    names = [stage.name for stage in recipe.stages]
    for number, name in enumerate(names):
        if name in names[:number]:
            raise RecipeError(f"stages[{number}].name: {name!r} is the name of two stages")
        _check_mine(recipe.of_stage(number).objective, recipe.stages[number].mine, number)
    if not recipe.stages and recipe.objective.offline.used:
        raise RecipeError("objective.offline: needs mined negatives; write stages, one with a mine")
    return recipe


def _check_mine(objective: ObjectiveConfig, mine: MineConfig | None, number: int) -> None:
    """Mined negatives and a loss that reads them belong together."""
    place = f"stages[{number}]"
    if objective.offline.used and mine is None:
        raise RecipeError(f"{place}.mine: missing; objective.offline.loss reads mined negatives")
    if mine is None:
        return
    if not objective.offline.used:
        raise RecipeError(f"{place}.objective.offline.loss: missing; nothing reads what is mined")
    if mine.by == PREVIOUS and not number:
        raise RecipeError(f"{place}.mine.by: no stage before; name a model or a mined file")


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Nested values with some of them replaced; lists are replaced whole."""
    found = dict(base)
    for key, value in changes.items():
        old = found.get(key)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            found[key] = merged(old, value)
        else:
            found[key] = value
    return found


def _check(recipe: Recipe, place: str = "") -> None:
    """What the tables of losses and models say of a recipe, or of one of its stages."""
    try:
        loss_function(recipe.objective.loss)
        loss_function(recipe.objective.warmup, key="objective.warmup")
    except RecipeError as error:
        raise RecipeError(f"{place}{error}") from error
    recipe.model_config(region_dim=1, vocab_size=4, place=f"{place}model")


def save_recipe(recipe: Recipe, path: Path) -> None:
    """Write a recipe with every value spelt out."""
    write_text(path, yaml.safe_dump(plain(recipe), sort_keys=False, allow_unicode=True))


def settings(overrides: Sequence[str]) -> dict[str, Any]:
    """`a.b=value` options as nested values, read as YAML.

    Raises:
        RecipeError: no `=`, a value that is not YAML, a key below a value.
    """
    values: dict[str, Any] = {}
    for override in overrides:
        _set(values, override)
    return values


class _Loader(yaml.SafeLoader):
    """Plain values only, and no key twice: YAML would take the last one without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002
        keys = [
            self.construct_object(key, deep=True)
            for key, _ in node.value
            if key.tag != "tag:yaml.org,2002:merge"
        ]
        for number, key in enumerate(keys):
            if key in keys[:number]:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} stands twice", node.start_mark
                )
        return super().construct_mapping(node, deep)


def _yaml(text: str) -> Any:  # noqa: ANN401
    return yaml.load(text, _Loader)  # a safe loader


def _set(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise RecipeError(f"--set {override}: expected key.sub=value, as in train.epochs=10")
    try:
        value = _yaml(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise RecipeError(f"--set {override}: the value is not YAML") from error
    *parents, last = key.split(".")
    place: Any = values
    for parent in parents:
        place = place.setdefault(parent, {}) if isinstance(place, dict) else _named(place, parent)
        if not isinstance(place, dict | list):
            raise RecipeError(f"--set {override}: {parent} is a value, it has no keys")
    if not isinstance(place, dict):
        raise RecipeError(f"--set {override}: {parents[-1]} is a list; name one of its entries")
    place[last] = value


def _named(entries: list[Any], name: str) -> Any:  # noqa: ANN401
    """The entry of a list, as that of stages, that has a name."""
    named = {str(e["name"]): e for e in entries if isinstance(e, dict) and "name" in e}
    if name not in named:
        raise RecipeError(f"--set: the list has nothing named {name!r}; {nearest(name, named)}")
    return named[name]
