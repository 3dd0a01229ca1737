"""What a recipe says, and reading one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from visavis.config import build, plain
from visavis.errors import RecipeError
from visavis.files import write_text
from visavis.losses import loss_function
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
    threshold: int = 4  # word: a word counts when it occurs so often in training
    max_words: int = 0  # longer sentences are cut; 0: never
    bert: str = ""  # wordpiece: folder or hub name of the language model; its states are cached


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One experiment."""

    source: str  # the paper's table and row, or what the recipe is for
    model: Mapping[str, Any]  # `name` and the model's settings
    data: DataConfig
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    expected: Mapping[str, float | None] = field(default_factory=dict)  # published figures

    @property
    def model_name(self) -> str:
        """The name in the table of models."""
        return str(self.model["name"])

    def model_config(self, *, region_dim: int, vocab_size: int) -> Any:  # noqa: ANN401
        """The model's settings, with the sizes that the data decides.

        Raises:
            RecipeError: an unknown setting, or a size that the data decides.
        """
        settings = {key: value for key, value in self.model.items() if key != "name"}
        for key in ("region_dim", "vocab_size"):
            if key in settings:
                raise RecipeError(f"model.{key}: decided by the data; remove it from the recipe")
        sizes = {"region_dim": region_dim, "vocab_size": vocab_size}
        return build(config_class(self.model_name), {**settings, **sizes}, "model")


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
    return parse_recipe(values)


def parse_recipe(values: Mapping[str, Any]) -> Recipe:
    """A recipe from plain values, with the model's settings checked too."""
    recipe = build(Recipe, values)
    if "name" not in recipe.model:
        raise RecipeError("model.name: missing; say which model")
    loss_function(recipe.objective.loss)
    recipe.model_config(region_dim=1, vocab_size=4)
    return recipe


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
    place = values
    for parent in parents:
        place = place.setdefault(parent, {})
        if not isinstance(place, dict):
            raise RecipeError(f"--set {override}: {parent} is a value, it has no keys")
    place[last] = value
