"""Two processes on one machine: one run, one log, one model.

This file is also the program of each process: `python -m tests.integration.test_two_processes OUT`.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.tiny_corpus import tiny_material, tiny_recipe
from visavis.config import plain
from visavis.recipes.recipe import parse_recipe
from visavis.recipes.run import train
from visavis.training.checkpoint import load_state, states

ROOT = Path(__file__).parents[2]


def run(folder: Path, **settings: Any) -> None:
    """Two epochs without dropout, whose masks would differ between processes."""
    values = plain(tiny_recipe(epochs=2, **settings))
    values["model"] = {"name": "scan", "dim": 8, "text": {"word_dim": 6}}
    train(parse_recipe(values), tiny_material(), folder, show_progress=False)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def started(rank: int, port: int, folder: Path) -> subprocess.Popen[str]:
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2}
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": 1}
    return subprocess.Popen(
        [sys.executable, "-m", "tests.integration.test_two_processes", str(folder)],
        cwd=ROOT,
        env=os.environ | {key: str(value) for key, value in (place | address).items()},
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("processes") / "run"
    port = free_port()
    processes = [started(rank, port, folder) for rank in (0, 1)]
    said = [process.communicate(timeout=240)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], "\n".join(said)
    return folder


def log_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_every_line_is_written_once(together: Path) -> None:
    found = [(line["event"], line["step"]) for line in log_of(together)]
    assert [step for event, step in found if event == "train"] == [1, 2, 3, 4, 5, 6]
    assert [step for event, step in found if event == "validation"] == [3, 6]
    assert len(list((together / "tensorboard").iterdir())) == 1


@pytest.mark.slow
def test_they_make_the_steps_of_one_process_that_accumulates(
    together: Path, tmp_path: Path
) -> None:
    run(tmp_path, accumulate=2)
    found, expected = (
        load_state(states(folder / "states")[-1])["model"] for folder in (together, tmp_path)
    )
    assert found.keys() == expected.keys()
    for name, weight in expected.items():
        torch.testing.assert_close(found[name], weight, atol=1e-5, rtol=1e-4)


@pytest.mark.slow
def test_the_best_model_and_the_report_are_there(together: Path) -> None:
    assert (together / "best" / "model.safetensors").is_file()
    assert json.loads((together / "results.json").read_text())["metrics"]["rsum"] > 0


if __name__ == "__main__":
    torch.set_num_threads(1)
    run(Path(sys.argv[1]))
