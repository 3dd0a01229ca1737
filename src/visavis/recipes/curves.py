"""Training curves of runs, from their logs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from visavis.errors import DataError
from visavis.evaluation.report import Grid
from visavis.explain.saved import save_figure
from visavis.explain.training_curves import RunCurves, curves_of, draw_training
from visavis.recipes.beside import log_of
from visavis.training.log import read_metrics

TITLE = "Training curves"
NOTE = (
    "Validation is the run's own; a star is its best epoch. Losses of different objectives are "
    "sums of different terms: compare their course, not their height."
)


def read_curves(runs: Sequence[str], names: Sequence[str]) -> tuple[RunCurves, ...]:
    """The curves of some runs; of one with several stages those of the last.

    Args:
        runs: run folders, or folders of stages.
        names: as they stand in the figure; equal ones get numbers.

    Raises:
        DataError: no log, or one that cannot be read.
    """
    found = []
    for number, run in enumerate(runs):
        path = log_of(run)
        try:
            lines = read_metrics(path)
        except (OSError, ValueError) as error:
            raise DataError(f"{path}: cannot be read ({error})") from error
        name = names[number]
        if names.count(name) > 1:
            name += f" ({list(names[: number + 1]).count(name)})"
        if path.parent.resolve() != Path(run).resolve():
            name += f", stage {path.parent.name.partition('-')[2]}"
        found.append(curves_of(name, lines))
    return tuple(found)


def curves_grid(found: Sequence[RunCurves]) -> Grid:
    """A row for each run."""
    rows = []
    for run in found:
        last = run.loss[-1] if run.loss else None
        best = run.best
        rows.append(
            (
                run.name,
                str(max((epoch for epoch, _ in (*run.loss, *run.rsum)), default=0)),
                "" if last is None else f"{last[1]:.4g}",
                "" if best is None else f"{best[1]:.1f}",
                "" if best is None else str(best[0]),
            )
        )
    header = ("run", "epochs", "last loss", "best rsum", "in epoch")
    return Grid(TITLE, header, tuple(rows), (NOTE,))


def curves_values(found: Sequence[RunCurves]) -> dict[str, object]:
    """Curves as JSON values: pairs of epoch and number."""
    return {
        "format": "visavis-curves",
        "version": 1,
        "runs": [asdict(run) for run in found],
    }


def write_curves(found: Sequence[RunCurves], path: Path) -> None:
    """Write as PNG or JSON, as the ending says.

    Raises:
        MissingExtraError: a PNG without matplotlib.
        StorageError: the file cannot be written.
    """
    save_figure(path, lambda: curves_values(found), lambda: draw_training(found, (TITLE, NOTE)))
