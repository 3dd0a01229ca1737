"""Evaluations on disk: figures as JSON, ranks of single queries as an array file beside it."""

from __future__ import annotations

import json
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from visavis.config import build, plain
from visavis.errors import DataError, RecipeError
from visavis.evaluation.evaluate import Evaluation, Queries
from visavis.files import atomic_path, read_json, sha256_of, write_text
from visavis.metrics.ranks import Ranks
from visavis.metrics.recall import METRICS

FORMAT = 1
_ARRAYS = ("i2t", "t2i", "pairs")


def as_json(evaluation: Evaluation) -> dict[str, object]:
    """Everything but the ranks of single queries, as JSON values."""
    values = plain(replace(evaluation, queries=()))
    del values["queries"]
    return {"format": FORMAT, **values}


def save(evaluation: Evaluation, path: Path) -> None:
    """Write `path` (JSON) and, when there are ranks, `<stem>.ranks.npz` beside it.

    Raises:
        StorageError: the disk is full or the folder cannot be written.
    """
    values = as_json(evaluation)
    ranks_path = path.with_suffix(".ranks.npz")
    json.dumps(values)  # details that are not JSON fail here, before anything is replaced
    if evaluation.queries:
        arrays = {
            f"fold{number}_{key}": array
            for number, fold in enumerate(evaluation.queries)
            for key, array in zip(
                _ARRAYS, (fold.ranks.i2t, fold.ranks.t2i, fold.pairs), strict=True
            )
        }
        with atomic_path(ranks_path) as temporary, temporary.open("wb") as stream:
            np.savez_compressed(stream, allow_pickle=False, **arrays)
        values["ranks"] = {"file": ranks_path.name, "sha256": sha256_of(ranks_path)}
    write_text(path, json.dumps(values, indent=2, ensure_ascii=False) + "\n")


def load(path: Path) -> Evaluation:
    """Read an evaluation; without its ranks when their file was left behind.

    Raises:
        DataError: not a saved evaluation, of a newer format, or its ranks belong to another one.
    """
    values = read_json(path)
    if not isinstance(values, dict) or "format" not in values:
        raise DataError(f"{path}: not a saved evaluation; `visavis evaluate` writes them")
    if values["format"] != FORMAT:
        raise DataError(
            f"{path}: evaluation of format {values['format']}, this version reads {FORMAT}; "
            "use the version that wrote it"
        )
    ranks = values.get("ranks")
    known = {key: value for key, value in values.items() if key not in ("format", "ranks")}
    try:
        evaluation = build(Evaluation, known)
    except RecipeError as error:
        raise DataError(f"{path}: not a saved evaluation ({error})") from error
    missing = [key for key in METRICS if key not in evaluation.metrics]
    if missing or not evaluation.folds:
        raise DataError(f"{path}: not a whole evaluation; missing {', '.join(missing) or 'folds'}")
    if ranks is None:
        return evaluation
    return replace(evaluation, queries=_load_queries(path, ranks, evaluation))


def _load_queries(path: Path, ranks: object, evaluation: Evaluation) -> tuple[Queries, ...]:
    digest = ranks.get("sha256") if isinstance(ranks, dict) else None
    ranks_path = path.with_suffix(".ranks.npz")
    if not ranks_path.exists():
        return ()
    if sha256_of(ranks_path) != digest:
        raise DataError(f"{ranks_path}: not the ranks that {path.name} speaks of; evaluate again")
    try:
        with np.load(ranks_path, allow_pickle=False) as arrays:
            queries = tuple(
                Queries(
                    Ranks(arrays[f"fold{number}_i2t"], arrays[f"fold{number}_t2i"]),
                    arrays[f"fold{number}_pairs"],
                )
                for number in range(len(evaluation.folds))
            )
    except (KeyError, ValueError, OSError, zipfile.BadZipFile) as error:
        raise DataError(f"{ranks_path}: ranks cannot be read ({error})") from error
    for fold, found in zip(evaluation.folds, queries, strict=True):
        if (len(found.ranks.i2t), len(found.ranks.t2i)) != (fold.images, fold.sentences):
            raise DataError(f"{ranks_path}: ranks of other folds than {path.name} lists")
    return queries
