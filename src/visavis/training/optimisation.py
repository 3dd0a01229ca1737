"""Optimisers and learning-rate schedules."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from visavis.training.config import ScheduleConfig, TrainConfig


def make_optimizer(
    config: TrainConfig, parameters: Iterable[nn.Parameter]
) -> torch.optim.Optimizer:
    """Adam, AdamW or SGD over the parameters that are trained, each listed once."""
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    if config.optimizer == "sgd":
        return torch.optim.SGD(
            trained,
            lr=config.lr,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
            nesterov=config.nesterov,
        )
    kind = torch.optim.Adam if config.optimizer == "adam" else torch.optim.AdamW
    return kind(trained, lr=config.lr, weight_decay=config.weight_decay)


def make_schedule(
    config: TrainConfig, optimizer: torch.optim.Optimizer, steps_per_epoch: int
) -> LambdaLR:
    """The learning rate's factor at each optimiser step."""
    total = config.epochs * steps_per_epoch
    return LambdaLR(optimizer, factor(config.schedule, steps_per_epoch, total))


@contextmanager
def fast_denormals() -> Iterator[None]:
    """Numbers too small for full precision count as 0 while the block lasts.

    Adam's averages of words that do not occur shrink to such numbers, on which processors crawl.
    """
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


def factor(config: ScheduleConfig, steps_per_epoch: int, total: int) -> Callable[[int], float]:
    """The factor as a function of the step, counted from 0."""
    shape = {"constant": _constant, "step": _step, "cosine": _cosine, "warm_restarts": _restarts}[
        config.name
    ]

    def at(step: int) -> float:
        if step < config.warmup_steps:
            return (step + 1) / config.warmup_steps
        return shape(config, step, steps_per_epoch, total)

    return at


def _constant(config: ScheduleConfig, step: int, per_epoch: int, total: int) -> float:
    return 1.0


def _step(config: ScheduleConfig, step: int, per_epoch: int, total: int) -> float:
    return float(config.gamma ** (step // per_epoch // config.step_epochs))


def _cosine(config: ScheduleConfig, step: int, per_epoch: int, total: int) -> float:
    done = (step - config.warmup_steps) / max(1, total - config.warmup_steps)
    return _half_cosine(min(1.0, done), config.floor)


def _restarts(config: ScheduleConfig, step: int, per_epoch: int, total: int) -> float:
    """Cosine cycles, each `restart_growth` times as long as the last (Loshchilov, Hutter 2017)."""
    length = config.restart_epochs * per_epoch
    position = step - config.warmup_steps
    while position >= length:
        position -= length
        length *= config.restart_growth
    return _half_cosine(position / length, config.floor)


def _half_cosine(done: float, floor: float) -> float:
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * done))
