"""What a run tells: metrics.jsonl, TensorBoard, and one line at a time for people."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from visavis.files import write_text

logger = logging.getLogger("visavis.training")


class RunLog:
    """Appends to `metrics.jsonl` and to TensorBoard files."""

    def __init__(self, folder: Path, *, after_step: int, tensorboard: bool = True) -> None:
        """Open the log; lines later than `after_step` are dropped, they will be written again."""
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / "metrics.jsonl"
        if self.path.exists():
            _keep_until(self.path, after_step)
        self._file = self.path.open("a", encoding="utf-8")
        self._board = _board(folder / "tensorboard", after_step) if tensorboard else None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()
        if self._board is not None:
            self._board.close()

    def write(self, event: str, step: int, values: Mapping[str, float | int | str]) -> None:
        """One line of JSON, and a curve for each number."""
        line = {"event": event, "step": step, **values}
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
        if self._board is not None:
            for key, value in values.items():
                if isinstance(value, int | float):
                    self._board.add_scalar(f"{event}/{key}", value, step)


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


def _board(folder: Path, after_step: int) -> Any:  # noqa: ANN401  (the library is untyped)
    from tensorboardX import SummaryWriter

    return SummaryWriter(str(folder), purge_step=after_step + 1 if after_step else None)
