"""Losses: score matrix and positives to one number. The table names them; training looks here."""

from __future__ import annotations

import importlib
from collections.abc import Callable

from torch import Tensor

from visavis.config import nearest
from visavis.errors import RecipeError

Loss = Callable[[Tensor, Tensor, float], Tensor]  # scores (N, M), positives (N, M), margin

LOSSES = {
    "sum_hinge": "visavis.losses.hinge:sum_hinge",
    "hardest_hinge": "visavis.losses.hinge:hardest_hinge",
}


def loss_function(name: str) -> Loss:
    """A loss by name.

    Raises:
        RecipeError: no loss of that name.
    """
    if name not in LOSSES:
        raise RecipeError(f"objective.loss: no loss {name!r}; {nearest(name, LOSSES)}")
    module, _, attribute = LOSSES[name].partition(":")
    found: Loss = getattr(importlib.import_module(module), attribute)
    return found
