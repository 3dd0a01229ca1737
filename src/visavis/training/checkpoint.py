"""Training states on disk: atomic, complete, safe to load."""

from __future__ import annotations

import random
import re
import zipfile
from pathlib import Path
from typing import Any

import torch

from visavis.errors import CheckpointError
from visavis.files import atomic_path

FORMAT = 1
NAME = re.compile(r"step_(\d{8})\.pt")


def save_state(folder: Path, step: int, state: dict[str, Any], keep: int) -> Path:
    """Write a training state, then remove all but the newest `keep`.

    Raises:
        StorageError: the disk is full; earlier states are untouched.
    """
    target = folder / f"step_{step:08d}.pt"
    with atomic_path(target) as temporary:
        _write({"format": FORMAT, **state}, temporary)
    for old in states(folder)[:-keep]:
        old.unlink()
    return target


def _write(state: dict[str, Any], path: Path) -> None:
    try:
        with path.open("wb") as stream:
            torch.save(state, stream)
    except RuntimeError as error:
        # torch raises its own error; the system's one, as of a full disk, is what came before it.
        if isinstance(error.__context__, OSError):
            raise error.__context__ from error
        raise


def states(folder: Path) -> list[Path]:
    """Training states in a folder, oldest first."""
    return sorted(path for path in folder.glob("step_*.pt") if NAME.fullmatch(path.name))


def load_state(path: Path) -> dict[str, Any]:
    """Read a training state; nothing but tensors and plain values is accepted.

    Raises:
        CheckpointError: the file is damaged, of a newer format, or holds anything else.
    """
    try:
        _check_sums(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file makes torch raise errors of any kind
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(
            f"{path}: not a training state ({reason}); remove it to resume from the one before"
        ) from error
    if not isinstance(state, dict):
        raise CheckpointError(f"{path}: not a training state; remove it")
    if state.get("format") != FORMAT:
        raise CheckpointError(
            f"{path}: format {state.get('format')}, this version reads {FORMAT}; upgrade visavis"
        )
    return state


def _check_sums(path: Path) -> None:
    """Compare every record with its checksum, which torch does not."""
    with zipfile.ZipFile(path) as records:
        broken = records.testzip()
    if broken is not None:
        raise RuntimeError(f"{broken} is damaged")


def random_state() -> dict[str, Any]:
    """The state of every generator that training draws from."""
    python = random.getstate()
    state: dict[str, Any] = {"torch": torch.get_rng_state(), "python": [python[0], list(python[1])]}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def restore_random_state(state: dict[str, Any]) -> None:
    """Undo everything drawn since `random_state`."""
    torch.set_rng_state(state["torch"])
    version, numbers = state["python"]
    random.setstate((version, tuple(numbers), None))
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])
