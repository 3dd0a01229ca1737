"""What a run tells: metrics.jsonl, TensorBoard, and one line at a time for people."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

from visavis.files import storage_error, write_text

logger = logging.getLogger("visavis.training")


class RunLog:
    """Appends to `metrics.jsonl` and to TensorBoard files; without a folder it is silent."""

    def __init__(self, folder: Path | None, *, after_step: int, tensorboard: bool = True) -> None:
        """Open the log; lines later than `after_step` are dropped, they will be written again."""
        self._folder = folder
        self._file: TextIO | None = None
        self._board: _Board | None = None
        if folder is None:
            return
        path = folder / "metrics.jsonl"
        if path.exists():
            _keep_until(path, after_step)
        with self._storage():
            folder.mkdir(parents=True, exist_ok=True)
            self._file = path.open("a", encoding="utf-8")
            self._board = _Board(folder / "tensorboard", after_step) if tensorboard else None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with (
            self._storage() if error is None else contextlib.suppress(OSError),
            contextlib.ExitStack() as both,
        ):
            for opened in (self._file, self._board):
                if opened is not None:
                    both.callback(opened.close)

    def write(self, event: str, step: int, values: Mapping[str, float | int | str]) -> None:
        """One line of JSON, and a curve for each number.

        Raises:
            StorageError: the disk is full.
        """
        line = {"event": event, "step": step, **values}
        with self._storage():
            if self._file is not None:
                self._file.write(json.dumps(line) + "\n")
                self._file.flush()
            if self._board is not None:
                self._board.add(event, step, values)

    @contextlib.contextmanager
    def _storage(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise storage_error(self._folder or Path(), error) from error


class _Board:
    """A TensorBoard file.

    The library's own event writer hands events to a thread: a full disk ends the thread, and
    training then waits forever for a place in its queue. Here the records are written in turn.
    """

    FLUSH_SECONDS = 30.0

    def __init__(self, folder: Path, after_step: int) -> None:
        from tensorboardX.proto.event_pb2 import Event, SessionLog
        from tensorboardX.record_writer import RecordWriter

        folder.mkdir(parents=True, exist_ok=True)
        now = time.time()
        name = f"events.out.tfevents.{int(now)}.{after_step:08d}.{os.getpid()}"
        self._writer = RecordWriter(str(folder / name))
        self._flushed = time.monotonic()
        self._put(Event(wall_time=now, file_version="brain.Event:2"))
        start = SessionLog(status=SessionLog.START)  # hides later steps of earlier files
        self._put(Event(wall_time=now, step=after_step + 1, session_log=start))

    def add(self, event: str, step: int, values: Mapping[str, float | int | str]) -> None:
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.summary import scalar

        for key, value in values.items():
            if isinstance(value, int | float):
                summary = scalar(f"{event}/{key}", value)
                self._put(Event(wall_time=time.time(), step=step, summary=summary))
        if time.monotonic() - self._flushed > self.FLUSH_SECONDS:
            self._writer.flush()
            self._flushed = time.monotonic()

    def _put(self, event: Any) -> None:  # noqa: ANN401  (the library is untyped)
        self._writer.write(event.SerializeToString())

    def close(self) -> None:
        self._writer.close()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a `metrics.jsonl`; a last line cut by a crash is left out."""
    lines: list[dict[str, Any]] = []
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            logger.warning("%s: an unfinished line is left out", path)
    return lines


def _keep_until(path: Path, step: int) -> None:
    kept = [line for line in read_metrics(path) if line["step"] <= step]
    write_text(path, "".join(json.dumps(line) + "\n" for line in kept))
