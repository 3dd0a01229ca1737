"""Training a part of a model: the rest keeps its weights and has no dropout."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from visavis.config import nearest
from visavis.errors import RecipeError


def freeze(model: nn.Module, prefixes: Sequence[str], place: str, *, others: bool = False) -> None:
    """Take parameters out of training by the beginnings of their dotted names.

    Args:
        model: its parameters are changed in place.
        prefixes: whole parts of names: `text` stands for `text.embedding.weight`.
        place: of the setting, for messages.
        others: freeze what the prefixes do not name instead.

    Raises:
        RecipeError: a prefix that names nothing, or nothing is left to train.
    """
    names = [name for name, _ in model.named_parameters()]
    for prefix in prefixes:
        if not any(_begins(name, prefix) for name in names):
            known = sorted({beginning for name in names for beginning in _beginnings(name)})
            raise RecipeError(
                f"{place}: no parameters begin with {prefix!r}; {nearest(prefix, known)}"
            )
    for name, parameter in model.named_parameters():
        if any(_begins(name, prefix) for prefix in prefixes) is not others:
            parameter.requires_grad = False
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise RecipeError(f"{place}: nothing is left to train; name fewer parts")


def still(model: nn.Module) -> None:
    """Put what is wholly frozen in evaluation mode, so that dropout does not blur it."""
    for module in model.modules():
        parameters = list(module.parameters())
        if parameters and not any(parameter.requires_grad for parameter in parameters):
            for part in module.modules():
                # cuDNN has no gradient with respect to the input of a recurrent layer that
                # evaluates; without dropout its mode makes no other difference.
                part.training = isinstance(part, nn.RNNBase) and part.dropout == 0


def _begins(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(f"{prefix}.")


def _beginnings(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts) + 1)]
