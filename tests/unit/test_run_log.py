"""The log of a run: one line for each event, also after a crash."""

from __future__ import annotations

import json
import logging
import struct
from pathlib import Path

import pytest

from tests.unit.test_files import files_up_to
from visavis.errors import StorageError
from visavis.training.log import RunLog, read_metrics


def write(folder: Path, steps: range, after_step: int = 0, *, loss: float = 1.0) -> None:
    with RunLog(folder, after_step=after_step) as log:
        for step in steps:
            log.write("train", step, {"loss": loss, "phase": "warm"})


def steps_of(folder: Path) -> list[int]:
    return [line["step"] for line in read_metrics(folder / "metrics.jsonl")]


def events(folder: Path) -> list[tuple[str, int, str, float]]:
    """File, step, tag and value of every curve's point, and the steps that hide earlier ones."""
    from tensorboardX.proto.event_pb2 import Event

    found = []
    for path in sorted((folder / "tensorboard").iterdir()):
        content = path.read_bytes()
        while content:
            length = struct.unpack("<Q", content[:8])[0]
            event = Event.FromString(content[12 : 12 + length])
            content = content[16 + length :]
            if event.HasField("session_log"):
                found.append((path.name, event.step, "start", 0.0))
            for value in event.summary.value:
                number = value.simple_value or value.tensor.float_val[0]
                found.append((path.name, event.step, value.tag, number))
    return found


def test_a_line_holds_event_step_and_values(tmp_path: Path) -> None:
    with RunLog(tmp_path, after_step=0) as log:
        log.write("validation", 7, {"epoch": 0, "rsum": 12.5})
        path = tmp_path / "metrics.jsonl"
        line = '{"event": "validation", "step": 7, "epoch": 0, "rsum": 12.5}\n'
        assert path.read_text() == line  # at once, not when the run ends


def test_lines_after_the_resumed_step_are_dropped(tmp_path: Path) -> None:
    write(tmp_path, range(1, 8))
    write(tmp_path, range(5, 10), after_step=4, loss=2.0)
    assert steps_of(tmp_path) == [1, 2, 3, 4, 5, 6, 7, 8, 9]
    losses = [line["loss"] for line in read_metrics(tmp_path / "metrics.jsonl")]
    assert losses == [1.0] * 4 + [2.0] * 5


def test_a_run_that_begins_again_keeps_no_line(tmp_path: Path) -> None:
    write(tmp_path, range(1, 4))
    write(tmp_path, range(1, 2))
    assert steps_of(tmp_path) == [1]


@pytest.mark.parametrize("cut", ['{"event": "tr', '{"event": "train", "step": 3', "\x00\x00\x00"])
def test_a_last_line_cut_by_a_crash_is_left_out_and_said(
    tmp_path: Path, cut: str, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path, range(1, 3))
    with (tmp_path / "metrics.jsonl").open("a") as stream:
        stream.write(cut)
    with caplog.at_level(logging.WARNING, logger="visavis"):
        assert steps_of(tmp_path) == [1, 2]
    assert "an unfinished line is left out" in caplog.text
    write(tmp_path, range(3, 4), after_step=2)
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2, 3]


def test_a_last_line_without_its_end_is_kept_whole(tmp_path: Path) -> None:
    write(tmp_path, range(1, 3))
    path = tmp_path / "metrics.jsonl"
    path.write_text(path.read_text().removesuffix("\n"))
    write(tmp_path, range(3, 4), after_step=2)
    assert steps_of(tmp_path) == [1, 2, 3]


def test_curves_of_every_number_and_of_nothing_else(tmp_path: Path) -> None:
    with RunLog(tmp_path, after_step=0) as log:
        log.write("train", 3, {"loss": 1.5, "phase": "warm", "epoch": 2})
    points = [point[1:] for point in events(tmp_path) if point[2] != "start"]
    assert points == [(3, "train/loss", 1.5), (3, "train/epoch", 2.0)]


def test_a_resumed_run_hides_the_later_points_of_earlier_files(tmp_path: Path) -> None:
    write(tmp_path, range(1, 8))
    write(tmp_path, range(5, 6), after_step=4)
    found = events(tmp_path)
    starts = [(name, step) for name, step, tag, _ in found if tag == "start"]
    assert [step for _, step in starts] == [1, 5]
    assert starts[0][0] < starts[1][0]  # readers take the files by name
    assert [step for name, step, tag, _ in found if tag == "train/loss"] == [*range(1, 8), 5]


def test_without_tensorboard_there_are_no_curves(tmp_path: Path) -> None:
    with RunLog(tmp_path, after_step=0, tensorboard=False) as log:
        log.write("train", 1, {"loss": 1.0})
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_without_a_folder_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with RunLog(None, after_step=0) as log:
        log.write("train", 1, {"loss": 1.0})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("tensorboard", [True, False])
def test_a_full_disk_ends_the_run_with_one_line(tmp_path: Path, tensorboard: bool) -> None:

    def fill() -> None:
        with files_up_to(4000), RunLog(tmp_path, after_step=0, tensorboard=tensorboard) as log:
            for step in range(1000):
                log.write("train", step, {"loss": 1.0})

    with pytest.raises(StorageError) as caught:
        fill()
    assert "\n" not in str(caught.value)
    assert "File too large" in str(caught.value)
    whole = [line for line in (tmp_path / "metrics.jsonl").read_text().split("\n")[:-1] if line]
    assert [json.loads(line)["step"] for line in whole] == list(range(len(whole)))


def test_a_log_that_cannot_be_opened_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("x")
    with pytest.raises(StorageError, match="cannot be written"):
        RunLog(tmp_path / "run", after_step=0)
