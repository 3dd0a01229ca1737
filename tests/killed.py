"""Trainings killed with SIGKILL at chosen places, resumed, and set beside one never interrupted.

A test file that uses this is also the program that trains: `python -m MODULE MODE FOLDER`. The run
that is never interrupted, the killed ones and the resumed ones are three processes (their hash
seeds differ); within each, every run is a fork of a process that has not trained yet.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from visavis.training import checkpoint, loop

ROOT = Path(__file__).parents[1]

# Each installs what ends a run with SIGKILL; a list is a run that is killed, resumed, killed again.
Kills = dict[str, list[Callable[[], None]]]


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def at_call(owner: Any, name: str, number: int, *, after: bool = False) -> Callable[[], None]:
    """Die when a function is called for the `number`th time, or when that call is done."""

    def install() -> None:
        real, calls = getattr(owner, name), []

        def counted(*args: Any, **kwargs: Any) -> Any:
            calls.append(1)
            if len(calls) == number and not after:
                die()
            value = real(*args, **kwargs)
            if len(calls) == number:
                die()
            return value

        setattr(owner, name, counted)

    return install


def at_batch(number: int) -> Callable[[], None]:
    return at_call(loop.Trainer, "_batch", number)


def half_written(number: int) -> Callable[[], None]:
    """Die when half of the `number`th training state is on disk."""

    def install() -> None:
        real, calls = checkpoint._write, []

        def write(state: dict[str, Any], path: Path) -> None:
            calls.append(1)
            real(state, path)
            if len(calls) == number:
                os.truncate(path, path.stat().st_size // 2)
                die()

        checkpoint._write = write

    return install


def between_the_renames() -> None:
    """Die when the old folder has stood aside and the new one has not taken its place."""
    real = Path.rename

    def rename(self: Path, target: Path) -> Path:
        if self.name.endswith(".tmp"):
            die()
        return real(self, target)

    Path.rename = rename  # type: ignore[method-assign]


def forked(work: Callable[[], None]) -> int:
    """Run something in a process of its own; its end as `os.waitpid` tells it."""
    process = os.fork()
    if process == 0:
        try:
            work()
        except BaseException as error:  # noqa: BLE001  (the parent sees it as an exit status)
            sys.stderr.write(f"{type(error).__name__}: {error}\n")
            os._exit(1)
        os._exit(0)
    return os.waitpid(process, 0)[1]


def kill_all(folder: Path, train_in: Callable[[Path], None], kills_of: Kills) -> None:
    for name, kills in kills_of.items():
        for number, install in enumerate(kills):

            def work(install: Callable[[], None] = install, name: str = name) -> None:
                install()
                train_in(folder / name)

            status = forked(work)
            if not os.WIFSIGNALED(status) or os.WTERMSIG(status) != signal.SIGKILL:
                sys.exit(f"{name}: kill {number} did not come, status {status}")


def resume_all(folder: Path, train_in: Callable[[Path], None], kills_of: Kills) -> None:
    for name in kills_of:
        if forked(lambda name=name: train_in(folder / name)) != 0:  # type: ignore[misc]
            sys.exit(f"{name}: the resumed run failed")


def program(mode: str, folder: Path, train_in: Callable[[Path], None], kills_of: Kills) -> None:
    torch.set_num_threads(1)
    os.fsync = lambda _: None  # a kill, unlike a power cut, loses nothing that was written
    for slow in ("torch._dynamo", "tensorboardX.summary", "visavis.models.scan"):
        importlib.import_module(slow)  # once, and not in each of the forks
    if mode == "whole":
        train_in(folder)
    elif mode == "kill":
        kill_all(folder, train_in, kills_of)
    else:
        resume_all(folder, train_in, kills_of)


def call(mode: str, folder: Path, module: str) -> None:
    subprocess.run(
        [sys.executable, "-m", module, mode, str(folder)],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        check=True,
        timeout=300,
    )


def last_state(folder: Path) -> dict[str, Any]:
    return checkpoint.load_state(checkpoint.states(folder / "states")[-1])


def equal(left: Any, right: Any) -> bool:
    """Whether two nested values are the same to the last bit."""
    if isinstance(left, torch.Tensor):
        return left.dtype == right.dtype and torch.equal(left, right)
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(equal(left[key], right[key]) for key in left)
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(equal, left, right))
    return bool(left == right)


def lines(folder: Path) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in found]
