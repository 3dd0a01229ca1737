"""The extractors by name. To add one: one file beside this one and one line in the table."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, cast

from visavis.config import build, nearest
from visavis.data.features import FeatureIdentity
from visavis.errors import DataError, RecipeError
from visavis.extract.base import Extractor
from visavis.extract.weights import Machine

EXTRACTORS = {
    "classic": "visavis.extract.classic:ClassicExtractor",
    "hf": "visavis.extract.hf:HfExtractor",
    "onnx": "visavis.extract.onnx:OnnxExtractor",
    "precomputed": "visavis.extract.precomputed:PrecomputedExtractor",
}


class _Kind(Protocol):
    """The class of an extractor."""

    config_type: type

    def __call__(self, config: object, machine: Machine) -> Extractor: ...


def make_extractor(
    name: str,
    options: Mapping[str, object],
    weights: Path | None = None,
    *,
    device: str = "cpu",
    threads: int = 1,
) -> Extractor:
    """An extractor by its name in the table.

    Args:
        name: One of EXTRACTORS.
        options: The fields of its configuration.
        weights: The folder of weight files; without it that of VISAVIS_WEIGHTS.
        device: Where a network runs.
        threads: Of one call.

    Raises:
        RecipeError: an unknown name or option.
        DataError: weights that are missing or cannot be used.
        MissingExtraError: a library that is not installed.
    """
    if name not in EXTRACTORS:
        raise RecipeError(f"extractor {name!r} is unknown; {nearest(name, EXTRACTORS)}")
    module, kind_name = EXTRACTORS[name].split(":")
    kind = cast("_Kind", getattr(importlib.import_module(module), kind_name))
    machine = Machine(weights=weights, device=device, threads=threads)
    return kind(build(kind.config_type, options, name), machine)


def from_identity(
    identity: FeatureIdentity, weights: Path | None = None, *, device: str = "cpu"
) -> Extractor:
    """The extractor that made stored vectors, so that a new picture can stand beside them.

    Raises:
        DataError: the weights are not the ones that were used, or the vectors come from feature
            files, which no extractor can add to.
    """
    if identity.extractor == "precomputed":
        raise DataError(
            "these vectors come from feature files and no extractor here makes more of them; "
            "extract the pictures anew with one of: "
            + ", ".join(name for name in EXTRACTORS if name != "precomputed")
        )
    extractor = make_extractor(identity.extractor, identity.options, weights, device=device)
    if extractor.identity.digest != identity.digest:
        raise DataError(
            f"extractor {identity.extractor}: other weights or another version "
            f"({extractor.identity.digest[:12]}) than the stored vectors were made with "
            f"({identity.digest[:12]}); give the same weights, or extract again"
        )
    return extractor
