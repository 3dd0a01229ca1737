"""Learning rates by hand, and what the optimisers are given."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from visavis.training.config import ObjectiveConfig, ScheduleConfig, TrainConfig
from visavis.training.optimisation import factor, make_optimizer, make_schedule


def factors(steps: list[int], per_epoch: int = 4, total: int = 40, **settings: Any) -> list[float]:
    at = factor(ScheduleConfig(**settings), per_epoch, total)
    return [at(step) for step in steps]


def test_constant() -> None:
    assert factors([0, 7, 39], name="constant") == [1, 1, 1]


def test_steps_drop_after_every_so_many_epochs() -> None:
    found = factors([0, 7, 8, 15, 16, 24], name="step", step_epochs=2, gamma=0.1)
    assert found == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.001])


def test_cosine_goes_from_one_to_the_floor() -> None:
    half = 0.5 * (1 + math.cos(math.pi / 4))
    found = factors([0, 10, 20, 40, 50], name="cosine", total=40)
    assert found == pytest.approx([1, half, 0.5, 0, 0])
    found = factors([0, 20, 40], name="cosine", total=40, floor=0.2)
    assert found == pytest.approx([1, 0.6, 0.2])


def test_warm_up_rises_by_equal_parts_and_the_cosine_begins_after_it() -> None:
    found = factors([0, 1, 3, 4, 22, 40], name="cosine", warmup_steps=4, total=40)
    assert found == pytest.approx([0.25, 0.5, 1, 1, 0.5, 0])


def test_warm_up_longer_than_the_run_never_divides_by_zero() -> None:
    assert factors([0, 4, 5], name="cosine", warmup_steps=5, total=3) == pytest.approx([0.2, 1, 1])


def test_warm_restarts_begin_again_in_longer_and_longer_cycles() -> None:
    settings = {"name": "warm_restarts", "restart_epochs": 1, "restart_growth": 2}
    # Cycles of 4, 8 and 16 steps begin at 0, 4 and 12.
    late = 0.5 * (1 + math.cos(0.75 * math.pi))
    found = factors([0, 2, 3, 4, 8, 10, 12, 20, 28], **settings)
    assert found == pytest.approx([1, 0.5, late, 1, 0.5, late, 1, 0.5, 1])


def test_warm_restarts_of_equal_length_with_a_floor_after_a_warm_up() -> None:
    found = factors(
        [0, 1, 2, 6, 10],
        name="warm_restarts",
        restart_epochs=2,
        restart_growth=1,
        warmup_steps=2,
        floor=0.5,
    )
    assert found == pytest.approx([0.5, 1, 1, 0.75, 1])


def test_the_schedule_moves_the_optimisers_rate() -> None:
    weight = nn.Parameter(torch.ones(1))
    schedule = ScheduleConfig(name="step", step_epochs=1, gamma=0.5, warmup_steps=2)
    config = TrainConfig(epochs=3, lr=0.2, schedule=schedule)
    optimizer = make_optimizer(config, [weight])
    schedules = make_schedule(config, optimizer, steps_per_epoch=2)
    rates = []
    for _ in range(6):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedules.step()
    assert rates == pytest.approx([0.1, 0.2, 0.1, 0.1, 0.05, 0.05])


def test_frozen_parameters_are_not_trained() -> None:
    free, frozen = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1), requires_grad=False)
    optimizer = make_optimizer(TrainConfig(), [free, frozen])
    assert [group["params"] for group in optimizer.param_groups] == [[free]]


@pytest.mark.parametrize(("name", "expected"), [("adam", 1.0 - 0.1), ("adamw", 1.0 - 0.1 * 0.5)])
def test_weight_decay_is_in_the_gradient_of_adam_and_beside_it_in_adamw(
    name: Any, expected: float
) -> None:
    # With no gradient but the decay, Adam's first step has length lr; AdamW shrinks by lr * decay.
    weight = nn.Parameter(torch.ones(1))
    config = TrainConfig(optimizer=name, lr=0.1, weight_decay=0.5)
    optimizer = make_optimizer(config, [weight])
    weight.grad = torch.zeros(1)
    optimizer.step()
    assert weight.item() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(("nesterov", "expected"), [(False, [0.9, 0.75]), (True, [0.85, 0.675])])
def test_sgd_with_momentum_by_hand(nesterov: bool, expected: list[float]) -> None:
    # A gradient of 1 and a momentum of 0.5: the velocity is 1, then 1.5; Nesterov's step is the
    # gradient and half the velocity, 1.5, then 1.75.
    weight = nn.Parameter(torch.ones(1))
    config = TrainConfig(optimizer="sgd", lr=0.1, momentum=0.5, nesterov=nesterov)
    optimizer = make_optimizer(config, [weight])
    found = []
    for _ in range(2):
        weight.grad = torch.ones(1)
        optimizer.step()
        found.append(weight.item())
    assert found == pytest.approx(expected)


def test_weight_decay_of_sgd_is_in_the_gradient() -> None:
    weight = nn.Parameter(torch.full((1,), 2.0))
    optimizer = make_optimizer(TrainConfig(optimizer="sgd", lr=0.1, weight_decay=0.5), [weight])
    weight.grad = torch.ones(1)
    optimizer.step()
    assert weight.item() == pytest.approx(2.0 - 0.1 * (1 + 0.5 * 2))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"momentum": 0.9}, "momentum is of sgd; leave it out with adam"),
        ({"optimizer": "sgd", "nesterov": True}, "nesterov needs a momentum above 0"),
        ({"optimizer": "sgd", "momentum": 1.0}, r"momentum must be in \[0, 1\), got 1.0"),
        ({"average": 1.0}, r"average must be in \[0, 1\), got 1.0"),
        ({"average": -0.5}, r"average must be in \[0, 1\), got -0.5"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(settings: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        TrainConfig(**settings)


@pytest.mark.parametrize(
    ("config", "key", "value"),
    [
        (TrainConfig, "epochs", 0),
        (TrainConfig, "batch_size", 0),
        (TrainConfig, "accumulate", 0),
        (TrainConfig, "log_steps", 0),
        (TrainConfig, "checkpoint_steps", 0),
        (TrainConfig, "keep_states", 0),
        (TrainConfig, "lr", 0.0),
        (TrainConfig, "weight_decay", -0.1),
        (TrainConfig, "clip_norm", -1.0),
        (TrainConfig, "patience", -1),
        (TrainConfig, "seed", -1),
        (ScheduleConfig, "warmup_steps", -1),
        (ScheduleConfig, "step_epochs", 0),
        (ScheduleConfig, "gamma", -0.1),
        (ScheduleConfig, "restart_epochs", 0),
        (ScheduleConfig, "restart_growth", 0),
        (ScheduleConfig, "floor", -0.1),
        (ObjectiveConfig, "margin", -0.1),
        (ObjectiveConfig, "warmup_epochs", -1),
    ],
)
def test_a_setting_without_a_meaning_is_refused(config: Any, key: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"^{key} must be .*, got {value}$"):
        config(**{key: value})
