"""A long job that is killed goes on after its last entry, and ends as one never interrupted.

This file is also the program that is killed: `python -m tests.unit.test_scoring_ledger FOLDER N`.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.pages import ROOT
from tests.unit.test_top_k import Product, items, pairs_of
from visavis.scoring.collect import Job, TopK, Wanted
from visavis.scoring.matrix import Block
from visavis.scoring.top_k import top_k
from visavis.types import Encoded

LEFT, RIGHT, PAIRS = items(13, 0), items(31, 1), pairs_of(13, 31)
WANTED = Wanted(sentences=4, images=5, pairs=PAIRS, ranks=True)
BLOCK = Block(rows=4, budget_bytes=12 * 4 * 10)  # 4 x 4 tiles


class Died(Exception):
    """What a test throws for a kill."""


class Killed(Product):
    """A model that dies at a tile."""

    def __init__(self, at: int, *, how: str = "raise", decoupled: bool = True) -> None:
        super().__init__(decoupled=decoupled)
        self.at, self.how, self.tiles = at, how, 0

    def score(self, left: Encoded, right: Encoded) -> Any:
        if self.tiles == self.at:
            if self.how == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            raise Died
        self.tiles += 1
        return super().score(left, right)

    def pair_bytes(self, regions: int, words: int) -> int:
        return 4  # so that a tile is one block


def run(model: Any, folder: Path, wanted: Wanted = WANTED, **identity: Any) -> TopK:
    job = Job(folder=folder, seconds=0.0, identity=identity)
    return top_k(model, LEFT, RIGHT, wanted, block=BLOCK, job=job)


def equal(one: TopK, other: TopK) -> bool:
    assert one.ranks is not None
    assert other.ranks is not None
    assert one.pair_scores is not None
    assert other.pair_scores is not None
    names = ("sentences", "sentence_scores", "images", "image_scores")
    same = [torch.equal(getattr(one, name), getattr(other, name)) for name in names]
    same.append(torch.equal(one.pair_scores, other.pair_scores))
    same.append(np.array_equal(one.ranks.i2t, other.ranks.i2t))
    same.append(np.array_equal(one.ranks.t2i, other.ranks.t2i))
    return all(same)


WHOLE = top_k(Killed(99), LEFT, RIGHT, WANTED, block=BLOCK)  # type: ignore[arg-type]


@pytest.mark.parametrize("at", [0, 1, 3, 4, 6, 15])
def test_after_a_kill_at_any_tile_only_the_rest_is_scored(tmp_path: Path, at: int) -> None:
    with pytest.raises(Died):
        run(Killed(at), tmp_path / "job")
    again = Killed(99)
    assert equal(run(again, tmp_path / "job"), WHOLE)
    assert again.tiles == 16 - at


def test_a_finished_job_is_scored_no_more(tmp_path: Path) -> None:
    run(Killed(99), tmp_path / "job")
    again = Killed(0)
    assert equal(run(again, tmp_path / "job"), WHOLE)
    assert again.tiles == 0


def test_killed_again_and_again_it_ends_the_same(tmp_path: Path) -> None:
    for _ in range(5):
        with pytest.raises(Died):
            run(Killed(3), tmp_path / "job")
    assert equal(run(Killed(99), tmp_path / "job"), WHOLE)


@pytest.mark.parametrize(
    "changed",
    [
        {"identity": {"who": "another"}},
        {"wanted": Wanted(sentences=4, images=6, pairs=PAIRS, ranks=True)},
        {"wanted": Wanted(sentences=4, images=5, pairs=PAIRS[:5], ranks=True)},
    ],
)
def test_another_job_begins_anew(tmp_path: Path, changed: dict[str, Any]) -> None:
    with pytest.raises(Died):
        run(Killed(5), tmp_path / "job")
    again = Killed(99)
    run(again, tmp_path / "job", changed.get("wanted", WANTED), **changed.get("identity", {}))
    assert again.tiles == 16


def test_another_grid_begins_anew(tmp_path: Path) -> None:
    with pytest.raises(Died):
        run(Killed(5), tmp_path / "job")
    again = Killed(99)
    job = Job(folder=tmp_path / "job", seconds=0.0)
    found = top_k(again, LEFT, RIGHT, WANTED, block=Block(rows=13), job=job)  # type: ignore[arg-type]
    assert again.tiles == 1
    assert torch.equal(found.sentences, WHOLE.sentences)


@pytest.mark.parametrize("damaged", ["ledger.json", "running", "rows"])
def test_a_damaged_ledger_is_begun_anew(tmp_path: Path, damaged: str) -> None:
    with pytest.raises(Died):
        run(Killed(9), tmp_path / "job")
    path = next((tmp_path / "job").glob(f"{damaged}*"))
    path.write_bytes(path.read_bytes()[:20])
    again = Killed(99)
    assert equal(run(again, tmp_path / "job"), WHOLE)
    assert again.tiles == 16


def test_nothing_is_written_more_often_than_asked(tmp_path: Path) -> None:
    job = Job(folder=tmp_path / "job", seconds=3600.0)
    model: Any = Product()
    top_k(model, LEFT, RIGHT, WANTED, block=BLOCK, job=job)
    assert json.loads((tmp_path / "job" / "ledger.json").read_text())["done"] == 16
    assert len(list((tmp_path / "job").glob("rows-*"))) == 1


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_a_process_that_is_killed_outright_goes_on(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.unit.test_scoring_ledger", str(tmp_path / "job")]
    killed = subprocess.run([*command, "6"], cwd=ROOT, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert json.loads((tmp_path / "job" / "ledger.json").read_text())["done"] == 6
    again = Killed(99)
    assert equal(run(again, tmp_path / "job"), WHOLE)
    assert again.tiles == 10


if __name__ == "__main__":
    run(Killed(int(sys.argv[2]), how="kill"), Path(sys.argv[1]))
