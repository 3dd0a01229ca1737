"""A trained model measured again with another value of a setting, without training.

Only settings that change no parameter can be swept, such as how many regions a score adds up: the
weights are the same for every value. What a figure would be had the model been trained with the
value, a sweep does not tell.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
import yaml
from PIL import Image
from torch import nn

from visavis.config import build, plain
from visavis.errors import RecipeError
from visavis.evaluation.evaluate import Evaluation
from visavis.evaluation.report import Grid
from visavis.explain.plot import Curve, draw_curves
from visavis.explain.saved import save_figure
from visavis.metrics.recall import RECALLS
from visavis.models import config_class, model_class
from visavis.models.pretrained import Pretrained
from visavis.recipes.assemble import Material
from visavis.recipes.measure import measure

NOT_RETRAINED = "the model was not trained again: every value is measured with the same weights"


@dataclass(frozen=True, kw_only=True)
class SweepConfig:
    """What is swept."""

    setting: str  # of the model, with dots into nested ones
    values: tuple[Any, ...]
    protocol: str = "full"
    name: str = "model"  # as it stands in reports

    def __post_init__(self) -> None:
        if not self.values:
            raise ValueError("no values to sweep; give some, such as 1,5,10")


@dataclass(frozen=True, slots=True, eq=False)
class Sweep:
    """What each value gave."""

    config: SweepConfig
    trained_with: object
    evaluations: tuple[Evaluation, ...]  # one for each value, in order

    @property
    def idle(self) -> bool:
        """Whether the values made no difference at all: the setting plays no part in scoring."""
        return len(self.evaluations) > 1 and all(
            found.metrics == self.evaluations[0].metrics for found in self.evaluations
        )


def parse_values(text: str) -> tuple[Any, ...]:
    """Values between commas, as YAML reads them.

    Raises:
        RecipeError: something that is no plain value.

    >>> parse_values("1, 0.5, true, local")
    (1, 0.5, True, 'local')
    """
    try:
        values = tuple(yaml.safe_load(part) for part in text.split(",") if part.strip())
    except yaml.YAMLError as error:
        raise RecipeError(f"--values {text!r}: not values between commas") from error
    if not values or any(isinstance(value, dict | list) for value in values):
        raise RecipeError(f"--values {text!r}: write plain values between commas, such as 1,5,10")
    return values


def sweep(
    pretrained: Pretrained,
    material: Material,
    config: SweepConfig,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Sweep:
    """Measure a trained model with each value of a setting.

    Args:
        pretrained: as it was trained; it stays as it is.
        material: what it is measured on.
        config: the setting and its values.
        progress: told images done and images in all, over every value.

    Raises:
        RecipeError: an unknown setting, a value that it cannot have, or one that changes
            parameters.
        DataError: features of another identity, or a protocol that the corpus does not fill.
    """
    trained_with = setting_of(pretrained, config.setting)
    changed = [with_setting(pretrained, config.setting, value) for value in config.values]
    found = []
    for number, model in enumerate(changed):

        def told(done: int, total: int, before: int = number) -> None:
            if progress is not None:
                progress(before * total + done, len(changed) * total)

        found.append(
            measure(
                model,
                material,
                config.protocol,
                name=f"{config.setting}={_shown(config.values[number])}",
                progress=told,
            )
        )
    return Sweep(config, trained_with, tuple(found))


def setting_of(pretrained: Pretrained, setting: str) -> object:
    """The value that a model was trained with.

    Raises:
        RecipeError: an unknown setting.
    """
    value: Any = plain(_settings(pretrained.model))
    for key in setting.split("."):
        if not isinstance(value, Mapping) or key not in value:
            # The one who builds settings names the nearest known one.
            build(config_class(pretrained.name), _changed(pretrained, setting, None), "model")
            raise RecipeError(f"model.{setting}: no such setting")
        value = value[key]
    return value


def with_setting(pretrained: Pretrained, setting: str, value: object) -> Pretrained:
    """The same weights in a model with another value of a setting.

    Raises:
        RecipeError: an unknown setting, a value that it cannot have, or one that changes
            parameters.
    """
    config = build(config_class(pretrained.name), _changed(pretrained, setting, value), "model")
    with torch.random.fork_rng(devices=[]):
        model: nn.Module = model_class(pretrained.name)(config)
    weights = pretrained.model.state_dict()
    ours = {key: tensor.shape for key, tensor in model.state_dict().items()}
    if ours != {key: tensor.shape for key, tensor in weights.items()}:
        raise RecipeError(
            f"model.{setting}: {value!r} changes the parameters of the model, so it has to be "
            f"trained again: visavis train RECIPE --set model.{setting}={_shown(value)}"
        )
    model.load_state_dict(weights)
    model.to(next(pretrained.model.parameters()).device).eval()
    return replace(pretrained, model=model)


def _settings(model: nn.Module) -> object:
    return model.config


def _changed(pretrained: Pretrained, setting: str, value: object) -> dict[str, Any]:
    values: dict[str, Any] = plain(_settings(pretrained.model))
    *outer, last = setting.split(".")
    inner = values
    for key in outer:
        if not isinstance(inner.get(key), dict):
            raise RecipeError(f"model.{setting}: {key!r} has no settings of its own")
        inner = inner[key]
    inner[last] = value
    return values


def sum_r1(evaluation: Evaluation) -> float:
    """R@1 of both directions together."""
    return evaluation.metrics["i2t_r1"] + evaluation.metrics["t2i_r1"]


def sweep_grid(found: Sweep) -> Grid:
    """A row for each value."""
    config, first = found.config, found.evaluations[0]
    ways = (("i2t", "I→T"), ("t2i", "T→I"))
    header = (config.setting, *(f"{sign} R@{k}" for _, sign in ways for k in (1, 5, 10)))
    rows = tuple(
        (
            _shown(value) + (" (trained)" if value == found.trained_with else ""),
            *(f"{evaluation.metrics[key]:.1f}" for key in RECALLS),
            f"{sum_r1(evaluation):.1f}",
            _rsum(evaluation),
        )
        for value, evaluation in zip(config.values, found.evaluations, strict=True)
    )
    notes = [NOT_RETRAINED, f"trained with {config.setting} = {_shown(found.trained_with)}"]
    if found.idle:
        notes.append(f"{config.setting} makes no difference: it plays no part in scoring")
    if "rsum" in first.intervals:
        level = f"{100 * first.resampling.level:g} %"
        notes.append(f"in brackets: {level} interval, bootstrap over images")
    return Grid(_title(found), (*header, "R@1 sum", "rsum"), rows, tuple(notes))


def _shown(value: object) -> str:
    """A value as it is written on the command line."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _title(found: Sweep) -> str:
    subject = found.evaluations[0].subject
    where = f"{subject.corpus} {'+'.join(subject.splits)}, protocol {found.config.protocol}"
    return f"{found.config.name}: {found.config.setting} on {where}"


def _rsum(evaluation: Evaluation) -> str:
    interval = evaluation.intervals.get("rsum")
    shown = f"{evaluation.metrics['rsum']:.1f}"
    return shown if interval is None else f"{shown} [{interval.low:.1f}, {interval.high:.1f}]"


def sweep_values(found: Sweep) -> dict[str, object]:
    """A sweep as JSON values."""
    subject = found.evaluations[0].subject
    points = []
    for value, evaluation in zip(found.config.values, found.evaluations, strict=True):
        interval = evaluation.intervals.get("rsum")
        points.append(
            {
                "value": value,
                "metrics": evaluation.metrics,
                "r1_sum": sum_r1(evaluation),
                "rsum_interval": None if interval is None else [interval.low, interval.high],
            }
        )
    return {
        "format": "visavis-sweep",
        "version": 1,
        "model": found.config.name,
        "setting": found.config.setting,
        "trained_with": found.trained_with,
        "retrained": False,
        "protocol": found.config.protocol,
        "subject": plain(subject),
        "points": points,
    }


def write_sweep(found: Sweep, path: Path) -> None:
    """Write as PNG or JSON, as the ending says.

    Raises:
        StorageError: the file cannot be written.
    """
    save_figure(path, partial(sweep_values, found), partial(draw_sweep, found))


def draw_sweep(found: Sweep) -> Image.Image:
    """The rsum on the left axis, the sum of both R@1 on the right one, over the values."""
    note = (
        f"{NOT_RETRAINED[0].upper()}{NOT_RETRAINED[1:]}; trained with {_shown(found.trained_with)}."
    )
    evaluations = found.evaluations
    curves = (
        Curve("rsum", tuple(evaluation.metrics["rsum"] for evaluation in evaluations)),
        Curve("R@1, both directions added", tuple(map(sum_r1, evaluations))),
    )
    names = [_shown(value) for value in found.config.values]
    return draw_curves(_title(found), (note,), names, curves, found.config.setting)
