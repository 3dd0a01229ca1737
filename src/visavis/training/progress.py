"""A progress bar with the time left, on terminals only."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bar


class Progress:
    """Batches done of all batches, the epoch and the loss."""

    def __init__(self, total: int, done: int, *, stage: str = "", show: bool | None = None) -> None:
        """`show=None` means: when the error stream is a terminal."""
        self._before = f"{stage}, " if stage else ""
        self.shown = sys.stderr.isatty() if show is None else show
        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            disable=not self.shown,
        )
        self._task = self._bar.add_task("training", total=total, completed=done)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def advance(self, epoch: int, loss: float) -> None:
        """One batch more; epochs count from 0."""
        told = f"{self._before}epoch {epoch + 1} loss {loss:.2f}"
        self._bar.update(self._task, advance=1, description=told)

    def say(self, text: str) -> None:
        """A line that stays above the bar."""
        if self.shown:
            self._bar.console.print(text)


@contextmanager
def counting(title: str, *, show: bool | None = None) -> Iterator[Callable[[int, int], None]]:
    """A bar that is told how much is done, of how much; `show=None` as in `Progress`."""
    shown = sys.stderr.isatty() if show is None else show
    columns = BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn()
    described = TextColumn("{task.description}")
    with Bar(described, *columns, console=Console(stderr=True), disable=not shown) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
