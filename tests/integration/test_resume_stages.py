"""A run of several stages, killed in any of them or between two, ends as one never interrupted.

This file is also the program that trains, as `tests/killed.py` says.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.killed import (
    Kills,
    at_batch,
    at_call,
    call,
    equal,
    half_written,
    last_state,
    lines,
    program,
)
from tests.tiny_corpus import tiny_material, tiny_recipe
from visavis.config import plain
from visavis.models import pretrained
from visavis.recipes import run as runs_module
from visavis.recipes import stages
from visavis.recipes.recipe import parse_recipe
from visavis.training import loop

# 6 batches an epoch: of 3 steps in the first stage, of 6 in the others. With averaged weights.
STAGES = [
    {"name": "one", "train": {"epochs": 2, "accumulate": 2}},
    {
        "name": "two",
        "freeze": ["text"],
        "train": {"epochs": 2, "optimizer": "sgd", "momentum": 0.9, "nesterov": True},
    },
    {"name": "three", "start": "scratch", "model": {"lambda_softmax": 4.0}},
]
FOLDERS = ("1-one", "2-two", "3-three")
MODULE = "tests.integration.test_resume_stages"


def train(folder: Path) -> None:
    """The whole run: three stages, the best model, the report."""
    recipe = plain(tiny_recipe(epochs=2, average=0.9, checkpoint_steps=2, seed=3))
    values = parse_recipe({**recipe, "stages": STAGES})
    runs_module.train(values, tiny_material(), folder, show_progress=False)


def weights_read(number: int) -> Callable[[], None]:
    """Die where the best model of a stage has been read for the next one."""
    return at_call(pretrained, "load_weights", number, after=True)


# The first stage has 12 batches, the second 12, the third 12.
KILLS: Kills = {
    "in the first stage": [at_batch(8)],
    "after the last state of a stage, before it is called done": [at_call(stages, "write_json", 1)],
    "between two stages": [at_call(stages, "write_json", 1, after=True)],
    "with the weights of the stage before read": [weights_read(1)],
    "at the first batch of a later stage": [at_batch(13)],
    "before the first state of a later stage": [at_batch(14)],
    "in the middle of a later stage": [at_batch(17)],
    "with half a state of a later stage written": [half_written(7)],
    "before a stage from scratch": [at_call(stages, "write_json", 2, after=True)],
    "in a stage from scratch": [at_batch(28)],
    "after a validation of the last stage": [at_call(loop.Trainer, "_validate", 5, after=True)],
    "after the last stage, before it is called done": [at_call(stages, "write_json", 3)],
    "after the last stage, before the report": [at_call(runs_module, "save", 1)],
    "again and again": [at_batch(9), at_batch(5), at_batch(8), half_written(2), at_batch(10)],
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the uninterrupted run, `whole`, and the killed and resumed ones."""
    folder = tmp_path_factory.mktemp("stages")
    call("whole", folder / "whole", MODULE)
    call("kill", folder, MODULE)
    call("resume", folder, MODULE)
    return folder


every_kill = pytest.mark.parametrize("name", KILLS)


@pytest.mark.slow
def test_the_uninterrupted_run_is_worth_comparing_with(runs: Path) -> None:
    found = [last_state(runs / "whole" / "stages" / name) for name in FOLDERS]
    assert [state["position"]["step"] for state in found] == [6, 12, 12]
    for state in found:
        assert not equal(state["average"], state["model"])
    one, two = found[0]["model"], found[1]["model"]
    assert not equal(one["project.linear.weight"], two["project.linear.weight"])


@pytest.mark.slow
@every_kill
def test_every_stage_is_equal_to_the_bit(runs: Path, name: str) -> None:
    for stage in FOLDERS:
        found, expected = (last_state(runs / which / "stages" / stage) for which in (name, "whole"))
        assert found.keys() == expected.keys() >= {"model", "average", "optimizer", "random"}
        for part, value in expected.items():
            assert equal(found[part], value), f"{stage}, {part}"
        assert lines(runs / name / "stages" / stage) == lines(runs / "whole" / "stages" / stage)


@pytest.mark.slow
@every_kill
def test_the_best_models_and_the_report_are_equal(runs: Path, name: str) -> None:
    expected = sorted((runs / "whole").rglob("best/*"))
    assert len({path.parent for path in expected}) == 3
    for path in expected:
        found = runs / name / path.relative_to(runs / "whole")
        assert found.read_bytes() == path.read_bytes(), path.name
    figures = [json.loads((runs / which / "results.json").read_text()) for which in (name, "whole")]
    assert figures[0]["metrics"] == figures[1]["metrics"]
    assert figures[0]["details"]["stages"] == figures[1]["details"]["stages"]


@pytest.mark.slow
@every_kill
def test_nothing_unfinished_is_left(runs: Path, name: str) -> None:
    assert [path for path in (runs / name).rglob(".*") if path.name.startswith(".")] == []


if __name__ == "__main__":
    program(sys.argv[1], Path(sys.argv[2]), train, KILLS)
