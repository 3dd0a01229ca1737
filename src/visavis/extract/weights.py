"""Where pretrained weights lie on a machine, and the hash that says which ones were used."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath

from visavis.errors import DataError

VARIABLE = "VISAVIS_WEIGHTS"


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What differs from machine to machine and is no part of an extractor's identity."""

    weights: Path | None = None  # folder of weight files; None: the environment's VISAVIS_WEIGHTS
    device: str = "cpu"
    threads: int = 1  # of one call; `extract_folder` runs several calls side by side


def weights_folder(machine: Machine) -> Path | None:
    """The folder of weights that was given, or that the environment names."""
    place = os.environ.get(VARIABLE)
    return machine.weights or (Path(place) if place else None)


def find_weights(name: str, machine: Machine) -> Path:
    """The file or folder of that name in the weights folder.

    Raises:
        DataError: no folder was given, or nothing of that name is in it.
    """
    remedy = f"give the folder that holds it with `--weights DIR` or {VARIABLE}"
    folder = weights_folder(machine)
    if folder is None:
        raise DataError(f"{name}: no folder of weights is known; {remedy}")
    if not (folder / name).exists():
        raise DataError(f"{name}: not in {folder}; {remedy}")
    return folder / name


def portable(name: str) -> str:
    """The name of a weight file, checked: it must mean the same on every machine.

    Raises:
        ValueError: an absolute path, a path that leaves the weights folder, or no name.
    """
    parts = PurePath(name).parts
    if not parts or PurePath(name).is_absolute() or ".." in parts:
        raise ValueError(
            f"{name!r} is not a name inside a weights folder; give the file's name here and its "
            "folder at run time"
        )
    return name


def digest_of(options: Mapping[str, object], parts: Iterable[str]) -> str:
    """A hash of options and of whatever else the vectors depend on.

    >>> digest_of({"a": 1, "b": 2}, ["x"]) == digest_of({"b": 2, "a": 1}, ["x"])
    True
    """
    text = json.dumps([dict(options), list(parts)], sort_keys=True)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:32]
