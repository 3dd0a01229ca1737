"""A run killed anywhere and started again ends exactly as one that was never interrupted.

This file is also the program that trains: `python -m tests.integration.test_resume MODE FOLDER`.
The run that is never interrupted, the killed ones and the resumed ones are three processes (their
hash seeds differ); within each, every run is a fork of a process that has not trained yet.
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

import pytest
import torch

from tests.tiny_corpus import tiny_material, tiny_recipe
from visavis.models import pretrained
from visavis.recipes.run import train
from visavis.training import checkpoint, loop

ROOT = Path(__file__).parents[2]
# 48 pairs make 6 batches of 7, or 3 steps; states are written at steps 2, 3 (the end of an epoch),
# 4, 6 (both), ... With the checkpoint every 2 steps, some epochs end where a state is due anyway.
SETTINGS: dict[str, Any] = {
    "epochs": 4,
    "accumulate": 2,
    "optimizer": "adamw",
    "weight_decay": 0.01,
    "schedule": {"name": "cosine", "warmup_steps": 2, "floor": 0.05},
    "checkpoint_steps": 2,
    "seed": 3,
}


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def run(folder: Path) -> None:
    """The whole run: training, the best model, the report."""
    train(tiny_recipe(**SETTINGS), tiny_material(), folder, show_progress=False)


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


# Each ends the run with SIGKILL; a list is a run that is killed, resumed and killed again.
KILLS: dict[str, list[Callable[[], None]]] = {
    "at the first batch": [at_batch(1)],
    "before the first state": [at_batch(4)],
    "between the batches of a step": [at_batch(10)],
    "between states in the middle of an epoch": [at_batch(15)],
    "after a step, before its state": [at_call(loop.Trainer, "_save", 4)],
    "with half a state written": [half_written(3)],
    "with a whole state written under its temporary name": [
        at_call(checkpoint, "_write", 3, after=True)
    ],
    "with a state in place and older ones not removed": [at_call(checkpoint, "states", 4)],
    "after the first state": [at_call(loop, "save_state", 1, after=True)],
    "at the start of a validation": [at_call(loop.Trainer, "_validate", 2)],
    "after a validation, before its state": [at_call(loop.Trainer, "_validate", 2, after=True)],
    "while the best model is written": [at_call(pretrained, "write_json", 1)],
    "while the best model takes the place of the one before": [between_the_renames],
    "after the last state, before the report": [at_call(loop.Trainer, "_validate", 4, after=True)],
    "again and again": [at_batch(3), at_batch(4), at_batch(2), half_written(2), at_batch(7)],
}


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


Kills = dict[str, list[Callable[[], None]]]


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


def call(mode: str, folder: Path, module: str = "tests.integration.test_resume") -> None:
    subprocess.run(
        [sys.executable, "-m", module, mode, str(folder)],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        check=True,
        timeout=300,
    )


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the uninterrupted run, `whole`, and the killed and resumed ones."""
    folder = tmp_path_factory.mktemp("runs")
    call("whole", folder / "whole")
    call("kill", folder)
    left = {name: sorted(p.name for p in (folder / name).rglob("*.tmp")) for name in KILLS}
    (folder / "left.json").write_text(json.dumps(left))
    call("resume", folder)
    return folder


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


every_kill = pytest.mark.parametrize("name", KILLS)


@pytest.mark.slow
def test_the_uninterrupted_run_is_worth_comparing_with(runs: Path) -> None:
    state, log = last_state(runs / "whole"), lines(runs / "whole")
    assert state["position"]["step"] == 12
    assert [line["step"] for line in log if line["event"] == "train"] == list(range(1, 13))
    assert [line["epoch"] for line in log if line["event"] == "validation"] == [0, 1, 2, 3]
    rates = {line["lr"] for line in log if line["event"] == "train"}
    assert len(rates) >= 11  # the schedule moves at every step
    bests = [line["rsum"] for line in log if line["event"] == "validation"]
    assert bests[1] > bests[0] or bests[2] > bests[0]  # the best model is replaced at least once


@pytest.mark.slow
def test_some_kills_leave_something_unfinished(runs: Path) -> None:
    left = json.loads((runs / "left.json").read_text())
    assert left["with half a state written"]
    assert left["while the best model is written"]
    assert left["while the best model takes the place of the one before"]


@pytest.mark.slow
@every_kill
def test_weights_optimiser_and_position_are_equal_to_the_bit(runs: Path, name: str) -> None:
    found, expected = last_state(runs / name), last_state(runs / "whole")
    assert found.keys() == expected.keys() >= {"model", "optimizer", "schedule", "random", "watch"}
    for part, value in expected.items():
        assert equal(found[part], value), part


@pytest.mark.slow
@every_kill
def test_the_log_is_equal(runs: Path, name: str) -> None:
    assert lines(runs / name) == lines(runs / "whole")


@pytest.mark.slow
@every_kill
def test_the_best_model_and_the_report_are_equal(runs: Path, name: str) -> None:
    found, expected = runs / name, runs / "whole"
    for file in sorted((expected / "best").iterdir()):
        assert (found / "best" / file.name).read_bytes() == file.read_bytes(), file.name
    figures = [json.loads((folder / "results.json").read_text()) for folder in (found, expected)]
    assert figures[0]["metrics"] == figures[1]["metrics"]


@pytest.mark.slow
@every_kill
def test_nothing_unfinished_is_left(runs: Path, name: str) -> None:
    hidden = [path for path in (runs / name).rglob(".*") if path.name.startswith(".")]
    assert hidden == []
    states = [path.name for path in (runs / name / "states").iterdir()]
    assert sorted(states) == sorted(p.name for p in (runs / "whole" / "states").iterdir())


if __name__ == "__main__":
    program(sys.argv[1], Path(sys.argv[2]), run, KILLS)
