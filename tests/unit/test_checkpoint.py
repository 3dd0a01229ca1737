"""Training states: complete, safe to load, and never half there."""

from __future__ import annotations

import contextlib
import errno
import pickle
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.test_files import files_up_to, names
from visavis.errors import CheckpointError, StorageError
from visavis.training.checkpoint import (
    FORMAT,
    _write,
    load_state,
    random_state,
    restore_random_state,
    save_state,
    states,
)

STATE: dict[str, Any] = {
    "model": {"weight": torch.arange(6.0).view(2, 3)},
    "position": {"step": 5, "loss_sum": 0.1, "collapsed": False},
}


def error_of(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        load_state(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


def test_a_state_comes_back(tmp_path: Path) -> None:
    path = save_state(tmp_path / "states", 5, STATE, keep=2)
    found = load_state(path)
    assert torch.equal(found["model"]["weight"], STATE["model"]["weight"])
    assert found["position"] == STATE["position"]


def test_only_the_newest_states_are_kept(tmp_path: Path) -> None:
    for step in (1, 2, 10, 100):
        save_state(tmp_path, step, STATE, keep=2)
    assert [path.name for path in states(tmp_path)] == ["step_00000010.pt", "step_00000100.pt"]
    assert len(names(tmp_path)) == 2


def test_other_files_are_no_states(tmp_path: Path) -> None:
    for name in ("step_1.pt", "step_00000001.pt.bak", ".step_00000001.pt.7.tmp", "notes.txt"):
        (tmp_path / name).write_text("x")
    assert states(tmp_path) == []
    assert states(tmp_path / "absent") == []


def test_a_state_that_does_not_fit_leaves_the_earlier_ones(tmp_path: Path) -> None:
    save_state(tmp_path, 1, STATE, keep=1)
    large = {"model": {"weight": torch.zeros(100_000)}}
    with files_up_to(50_000), pytest.raises(StorageError) as caught:
        save_state(tmp_path, 2, large, keep=1)
    assert "\n" not in str(caught.value)
    assert "cannot be written (File too large)" in str(caught.value)
    assert names(tmp_path) == {"step_00000001.pt"}
    assert load_state(tmp_path / "step_00000001.pt")["position"]["step"] == 5


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("size", [1, 1_000_000])
def test_a_full_disk_is_reported_with_the_systems_number(size: int) -> None:
    with pytest.raises(OSError, match="No space left") as caught:
        _write({"weight": torch.zeros(size)}, Path("/dev/full"))
    assert caught.value.errno == errno.ENOSPC


@pytest.mark.parametrize(
    "content", [b"", b"no state", b"PK\x03\x04", b"\x80\x02", bytes(100)], ids=repr
)
def test_a_file_that_is_no_state_is_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "step_00000001.pt"
    path.write_bytes(content)
    assert "remove it to resume from the one before" in error_of(path)


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    error_of(tmp_path / "step_00000001.pt")


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.floats(0, 1), st.integers(1, 255), st.booleans())
def test_a_damaged_state_never_ends_in_another_error(
    tmp_path: Path, place: float, change: int, cut: bool
) -> None:
    path = save_state(tmp_path, 1, STATE, keep=1)
    content = bytearray(path.read_bytes())
    where = min(int(place * len(content)), len(content) - 1)
    if cut:
        del content[where:]
    else:
        content[where] ^= change
    path.write_bytes(content)
    with contextlib.suppress(CheckpointError):
        load_state(path)  # a change between the records may go unnoticed


def test_a_state_of_another_format_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "step_00000001.pt"
    torch.save({"format": FORMAT + 1}, path)
    assert f"format {FORMAT + 1}, this version reads {FORMAT}" in error_of(path)
    torch.save({"model": {}}, path)
    assert "format None" in error_of(path)
    torch.save(torch.zeros(3), path)
    assert "not a training state" in error_of(path)


class Trap:
    """Pickled, it writes a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.write_text, (self.path, "sprung")


def test_nothing_in_a_state_is_executed(tmp_path: Path) -> None:
    sprung = tmp_path / "sprung"
    for number, save in enumerate((torch.save, _save_pickle)):
        path = tmp_path / f"step_{number:08d}.pt"
        save({"format": FORMAT, "model": Trap(sprung)}, path)
        error_of(path)
    assert not sprung.exists()


def _save_pickle(value: object, path: Path) -> None:
    path.write_bytes(pickle.dumps(value, protocol=2))


def draws() -> tuple[list[float], list[float]]:
    return torch.rand(3).tolist(), [random.random() for _ in range(3)]


def test_randomness_goes_on_where_it_was(tmp_path: Path) -> None:
    draws()
    path = save_state(tmp_path, 1, {"random": random_state()}, keep=1)
    expected = draws()
    draws()
    restore_random_state(load_state(path)["random"])
    assert draws() == expected


def test_a_fresh_process_draws_the_same(tmp_path: Path) -> None:
    path = save_state(tmp_path, 1, {"random": random_state()}, keep=1)
    expected = draws()
    code = (
        "import sys, random, torch; from pathlib import Path;"
        "from visavis.training.checkpoint import load_state, restore_random_state;"
        "restore_random_state(load_state(Path(sys.argv[1]))['random']);"
        "sys.stdout.write(repr((torch.rand(3).tolist(), [random.random() for _ in range(3)])))"
    )
    found = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True
    )
    assert found.stdout == repr(expected)


def test_one_changed_bit_in_a_weight_is_noticed(tmp_path: Path) -> None:
    path = save_state(tmp_path, 1, STATE, keep=1)
    content = bytearray(path.read_bytes())
    stored = STATE["model"]["weight"].numpy().tobytes()
    content[bytes(content).index(stored) + 7] ^= 1
    path.write_bytes(content)
    assert "is damaged" in error_of(path)
