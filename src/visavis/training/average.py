"""An exponential moving average of the weights (Polyak and Juditsky 1992), for validation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Average:
    """Averages of a model's parameters and buffers; training goes on with the model's own."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        """Begin with the weights as they are; `decay` is how much of the average each step keeps.

        Early on it keeps less, so that untrained weights are soon forgotten: the decay at step n
        is min(decay, (1 + n) / (10 + n)), steps counted from 1.
        """
        self.decay = decay
        self.values = _copied(model.state_dict())

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Take in the weights after an optimiser step; what is not a float is copied."""
        new = 1 - min(self.decay, (1 + step) / (10 + step))
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                self.values[name].lerp_(value, new)
            else:
                self.values[name].copy_(value)

    @contextmanager
    def applied(self, model: nn.Module) -> Iterator[None]:
        """Let a model have the averages while the block lasts."""
        own = _copied(model.state_dict())
        model.load_state_dict(self.values)
        try:
            yield
        finally:
            model.load_state_dict(own)

    @torch.no_grad()
    def load(self, values: Mapping[str, Tensor]) -> None:
        """Go on with averages that were kept; KeyError when some are missing."""
        for name, value in self.values.items():
            value.copy_(values[name])


def _copied(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in values.items()}
