"""A run killed anywhere and started again ends exactly as one that was never interrupted.

This file is also the program that trains, as `tests/killed.py` says.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.killed import (
    Kills,
    at_batch,
    at_call,
    between_the_renames,
    call,
    equal,
    half_written,
    last_state,
    lines,
    program,
)
from tests.tiny_corpus import tiny_material, tiny_recipe
from visavis.models import pretrained
from visavis.recipes.run import train
from visavis.training import checkpoint, loop

MODULE = "tests.integration.test_resume"
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


def run(folder: Path) -> None:
    """The whole run: training, the best model, the report."""
    train(tiny_recipe(**SETTINGS), tiny_material(), folder, show_progress=False)


KILLS: Kills = {
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


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the uninterrupted run, `whole`, and the killed and resumed ones."""
    folder = tmp_path_factory.mktemp("runs")
    call("whole", folder / "whole", MODULE)
    call("kill", folder, MODULE)
    left = {name: sorted(p.name for p in (folder / name).rglob("*.tmp")) for name in KILLS}
    (folder / "left.json").write_text(json.dumps(left))
    call("resume", folder, MODULE)
    return folder


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
