"""One file per paper, and the table that names them. Nothing is imported until it is asked for."""

from __future__ import annotations

import importlib
from typing import Any

from visavis.config import nearest
from visavis.errors import RecipeError

MODELS = {
    "vse": "visavis.models.vse:Vse",
    "scan": "visavis.models.scan:Scan",
    "saem": "visavis.models.saem:Saem",
    "bfan": "visavis.models.bfan:Bfan",
    "vsrn": "visavis.models.vsrn:Vsrn",
    "mmca": "visavis.models.mmca:Mmca",
    "camp": "visavis.models.camp:Camp",
    "dcpa": "visavis.models.dcpa:Dcpa",
    "mtfn": "visavis.models.mtfn:Mtfn",
}


def model_class(name: str) -> type[Any]:
    """The class of a model; its settings are `<Class>Config` in the same module.

    Raises:
        RecipeError: no model of that name.
    """
    if name not in MODELS:
        raise RecipeError(f"model.name: no model {name!r}; {nearest(name, MODELS)}")
    module, _, attribute = MODELS[name].partition(":")
    found: type[Any] = getattr(importlib.import_module(module), attribute)
    return found


def config_class(name: str) -> type[Any]:
    """The configuration class of a model."""
    model = model_class(name)
    module = importlib.import_module(model.__module__)
    found: type[Any] = getattr(module, f"{model.__name__}Config")
    return found
