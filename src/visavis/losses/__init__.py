"""Losses: scores and positives to one number. The table names them; training looks here."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import partial

from torch import Tensor

from visavis.config import nearest
from visavis.errors import RecipeError
from visavis.types import Scores

# Scores (N, N) with the pairs on the diagonal, positives (N, N), margin.
Loss = Callable[[Scores, Tensor, float], Tensor]

LOSSES = {
    "sum_hinge": "visavis.losses.hinge:sum_hinge",
    "hardest_hinge": "visavis.losses.hinge:hardest_hinge",
    "contrastive": "visavis.losses.contrastive:contrastive",
    "sum_hinge_probability": "visavis.losses.bce:sum_hinge_probability",
    "hardest_hinge_probability": "visavis.losses.bce:hardest_hinge_probability",
    "hardest_bce": "visavis.losses.bce:hardest_bce",
    "bce": "visavis.losses.bce:bce",
    "hardest_bce_clamped": "visavis.losses.bce:hardest_bce_clamped",
    "bce_clamped": "visavis.losses.bce:bce_clamped",
}
SMOOTH = frozenset({"contrastive"})  # those with a temperature


def loss_function(name: str, temperature: float = 0.05, *, key: str = "objective.loss") -> Loss:
    """A loss by name.

    Args:
        name: a key of `LOSSES`.
        temperature: of those in `SMOOTH`; others have none.
        key: where the name stands, for the error.

    Raises:
        RecipeError: no loss of that name.
    """
    if name not in LOSSES:
        raise RecipeError(f"{key}: no loss {name!r}; {nearest(name, LOSSES)}")
    module, _, attribute = LOSSES[name].partition(":")
    function: Callable[..., Tensor] = getattr(importlib.import_module(module), attribute)
    return partial(function, temperature=temperature) if name in SMOOTH else function
