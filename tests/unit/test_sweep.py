"""A setting changed after training: the same weights, other figures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.tiny_corpus import tiny_material, tiny_recipe
from visavis.errors import RecipeError
from visavis.models.pretrained import Pretrained
from visavis.recipes.assemble import Material, assemble
from visavis.recipes.measure import measure
from visavis.recipes.sweep import (
    NOT_RETRAINED,
    SweepConfig,
    draw_sweep,
    parse_values,
    setting_of,
    sweep,
    sweep_grid,
    sweep_values,
    with_setting,
)


@pytest.fixture(scope="module")
def material() -> Material:
    return tiny_material()


@pytest.fixture(scope="module")
def model(material: Material) -> Pretrained:
    return assemble(tiny_recipe(), material).pretrained


def config(setting: str, *values: object) -> SweepConfig:
    return SweepConfig(setting=setting, values=values, name="run")


def test_each_value_is_measured_as_a_model_made_with_it(
    model: Pretrained, material: Material
) -> None:
    part = Material(material.corpus.split("test"), material.features)
    found = sweep(model, part, config("lambda_softmax", 0.1, 9.0, 50))
    assert found.trained_with == 9.0
    for value, evaluation in zip((0.1, 9.0, 50.0), found.evaluations, strict=True):
        alone = measure(with_setting(model, "lambda_softmax", value), part, "full", name="one")
        assert evaluation.metrics == alone.metrics
    unchanged = measure(model, part, "full", name="one")
    assert found.evaluations[1].metrics == unchanged.metrics
    assert not found.idle


def test_the_swept_model_has_the_same_weights_and_the_old_one_stays(model: Pretrained) -> None:
    before = {key: value.clone() for key, value in model.model.state_dict().items()}
    changed = with_setting(model, "aggregation", "Mean")
    assert setting_of(changed, "aggregation") == "Mean"
    assert setting_of(model, "aggregation") == "LogSumExp"
    for key, value in changed.model.state_dict().items():
        assert torch.equal(value, before[key])
        assert torch.equal(model.model.state_dict()[key], before[key])
    assert not changed.model.training


def test_making_models_draws_no_random_numbers(model: Pretrained) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    with_setting(model, "aggregation", "Mean")
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize(
    ("setting", "value"),
    [("dim", 16), ("text.bidirectional", False), ("standardise_regions", True)],
)
def test_a_setting_that_changes_parameters_is_refused(
    model: Pretrained, setting: str, value: object
) -> None:
    if setting == "text.bidirectional":
        value = not setting_of(model, setting)
    with pytest.raises(RecipeError, match=f"model.{setting}: .* trained again"):
        with_setting(model, setting, value)


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("lamda_softmax", 4, "did you mean 'lambda_softmax'"),
        ("lambda_softmax", "high", "model.lambda_softmax: expected float"),
        ("aggregation", "Median", "'Median' is not a choice"),
        ("text.word_dims", 4, "did you mean 'word_dim'"),
        ("lambda_softmax.more", 4, "has no settings of its own"),
    ],
)
def test_an_unknown_setting_or_value_is_refused(
    model: Pretrained, material: Material, setting: str, value: object, message: str
) -> None:
    with pytest.raises(RecipeError, match=message):
        sweep(model, material, config(setting, value))


def test_every_value_is_checked_before_the_first_is_measured(
    model: Pretrained, material: Material
) -> None:
    told: list[int] = []
    with pytest.raises(RecipeError, match="expected float"):
        sweep(
            model,
            material,
            config("lambda_softmax", 1, "high"),
            progress=lambda done, _: told.append(done),
        )
    assert told == []


def test_progress_counts_every_value(model: Pretrained, material: Material) -> None:
    part = Material(material.corpus.split("test"), material.features)
    told: list[tuple[int, int]] = []
    sweep(
        model,
        part,
        config("lambda_lse", 1, 6),
        progress=lambda done, total: told.append((done, total)),
    )
    assert told[-1] == (12, 12)
    assert told == sorted(told)


def test_a_setting_of_training_alone_is_found_out(model: Pretrained, material: Material) -> None:
    part = Material(material.corpus.split("test"), material.features)
    found = sweep(model, part, config("region_dropout", 0.0, 0.5))
    assert found.idle
    assert any("plays no part in scoring" in note for note in sweep_grid(found).notes)


def test_a_sweep_says_that_nothing_was_trained(
    model: Pretrained, material: Material, tmp_path: Path
) -> None:
    part = Material(material.corpus.split("test"), material.features)
    found = sweep(model, part, config("lambda_softmax", 1, 9.0))
    grid = sweep_grid(found)
    assert grid.notes[0] == NOT_RETRAINED
    assert [row[0] for row in grid.rows] == ["1", "9.0 (trained)"]
    values = sweep_values(found)
    assert (values["retrained"], values["trained_with"]) == (False, 9.0)
    points = values["points"]
    assert isinstance(points, list)
    metrics = points[0]["metrics"]
    assert points[0]["r1_sum"] == metrics["i2t_r1"] + metrics["t2i_r1"]
    drawn = draw_sweep(found)
    assert drawn.width == 960
    assert np.asarray(drawn).std() > 1


@pytest.mark.parametrize("text", ["", " , ", "[1", "{a: 1}", "1,{b: 2}"])
def test_values_that_cannot_be_read_are_refused(text: str) -> None:
    with pytest.raises(RecipeError, match="values between commas"):
        parse_values(text)
