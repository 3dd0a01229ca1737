"""A run of two rounds, killed while it mines or after, ends as one never interrupted.

This file is also the program that trains, as `tests/killed.py` says.
"""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from typing import Any

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
from visavis.mining import mine
from visavis.recipes import mining, run
from visavis.recipes.recipe import parse_recipe
from visavis.scoring import ledger
from visavis.scoring.matrix import Block

# 6 batches an epoch; 24 images are mined in stripes of 5, with an entry in the ledger after each.
STAGES: list[dict[str, Any]] = [
    {"name": "one"},
    {
        "name": "two",
        "start": "scratch",
        "mine": {"h": 8},
        "objective": {"warmup_epochs": 0, "offline": {"loss": "adaptive_quintuplet"}},
    },
]
MODULE = "tests.integration.test_resume_mining"


def train(folder: Path) -> None:
    """Both rounds; another run's model finds the candidates."""
    mining.Options = functools.partial(mine.Options, seconds=0.0)  # type: ignore[misc, assignment]
    mining.BLOCK = Block(rows=5)
    teacher = folder.with_name(f"{folder.name}-first")  # a run that is finished is left as it is
    alone = parse_recipe({**plain(tiny_recipe(epochs=2, seed=3)), "stages": STAGES[:1]})
    run.train(alone, tiny_material(), teacher, show_progress=False)
    values = {**STAGES[1], "mine": {"h": 8, "first": str(teacher), "candidates": 16}}
    base = plain(tiny_recipe(epochs=2, checkpoint_steps=2, seed=3))
    recipe = parse_recipe({**base, "stages": [STAGES[0], values]})
    run.train(recipe, tiny_material(), folder, show_progress=False)


KEEP = ledger.Ledger
# Batches 1 to 12 are of the first step's model, 13 to 24 of round one, the rest of round two.
KILLS: Kills = {
    "before the first entry": [at_call(KEEP, "keep", 1)],
    "after an entry of the first step": [at_call(KEEP, "keep", 2, after=True)],
    "with rows written and no entry": [at_call(ledger, "write_json", 3)],
    "after the first step": [at_call(mine, "save_negatives", 1, after=True)],
    "in the second step": [at_call(KEEP, "keep", 7, after=True)],
    "with the lists written and the ledger left": [at_call(mine, "save_negatives", 2, after=True)],
    "before round two": [at_batch(25)],
    "in round two": [at_batch(33)],
    "with half a state of round two": [half_written(9)],
    "again and again": [
        at_call(KEEP, "keep", 2, after=True),
        at_call(KEEP, "keep", 2, after=True),
        at_call(KEEP, "keep", 4),
        at_batch(3),
    ],
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the uninterrupted run, `whole`, and the killed and resumed ones."""
    folder = tmp_path_factory.mktemp("mining")
    call("whole", folder / "whole", MODULE)
    call("kill", folder, MODULE)
    call("resume", folder, MODULE)
    return folder


every_kill = pytest.mark.parametrize("name", KILLS)


@pytest.mark.slow
@every_kill
def test_what_is_mined_and_what_it_trains_are_equal(runs: Path, name: str) -> None:
    for part in ("stages/2-two/negatives.safetensors", "best/model.safetensors"):
        assert (runs / name / part).read_bytes() == (runs / "whole" / part).read_bytes(), part
    for stage in ("1-one", "2-two"):
        found, expected = (last_state(runs / which / "stages" / stage) for which in (name, "whole"))
        for part, value in expected.items():
            assert equal(found[part], value), f"{stage}, {part}"
        assert lines(runs / name / "stages" / stage) == lines(runs / "whole" / "stages" / stage)


@pytest.mark.slow
@every_kill
def test_nothing_of_the_mining_is_left(runs: Path, name: str) -> None:
    left = [path.name for path in (runs / name / "stages" / "2-two").iterdir()]
    assert not [path for path in left if "partial" in path or "first" in path or path[0] == "."]


if __name__ == "__main__":
    program(sys.argv[1], Path(sys.argv[2]), train, KILLS)
