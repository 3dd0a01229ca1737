"""Training curves of several runs over each other: loss, and what validation found.

AOQ (Chen et al., ECCV 2020), Fig. 4, has R@1 of both directions on the validation set for each
epoch; here loss and rsum stand beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from visavis.errors import DataError
from visavis.explain.charts import colour, marker, panels, plain_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDE = 20.0  # losses that differ by this factor stand on a logarithmic axis

Points = tuple[tuple[int, float], ...]  # an epoch, counted from 1, and a number


@dataclass(frozen=True, kw_only=True)
class RunCurves:
    """What the log of one training says of each epoch."""

    name: str
    loss: Points  # mean over the epoch
    rsum: Points
    i2t_r1: Points
    t2i_r1: Points

    @property
    def best(self) -> tuple[int, float] | None:
        """The epoch of the highest rsum, the first of several."""
        return max(self.rsum, key=lambda point: (point[1], -point[0]), default=None)


def curves_of(name: str, lines: Sequence[Mapping[str, Any]]) -> RunCurves:
    """Gather the lines of a log by epoch.

    Args:
        name: of the run.
        lines: as `metrics.jsonl` has them, `train` and `validation` events.

    Raises:
        DataError: not a single epoch, or a line that is none of a log.
    """
    try:
        losses: dict[int, list[float]] = {}
        for line in lines:
            if line["event"] == "train":
                losses.setdefault(int(line["epoch"]) + 1, []).append(float(line["loss"]))
        found = [line for line in lines if line["event"] == "validation"]
        named = {
            key: tuple((int(line["epoch"]) + 1, float(line[key])) for line in found)
            for key in ("rsum", "i2t_r1", "t2i_r1")
        }
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{name}: its log has a line that is none of a training ({error})"
        ) from error
    if not losses and not found:
        raise DataError(f"{name}: its log has no epoch yet; train it first")
    loss = tuple((epoch, float(np.mean(values))) for epoch, values in sorted(losses.items()))
    return RunCurves(name=name, loss=loss, **named)


def draw_training(found: Sequence[RunCurves], notes: tuple[str, str]) -> Figure:
    """Loss, rsum and R@1 over the epochs, a colour and a sign for each run.

    Args:
        found: the runs.
        notes: the title, and what stands below.
    """
    from matplotlib.ticker import MaxNLocator

    figure, (loss, rsum, recall) = panels(*notes, 3, size=(5.0, 4.4))
    losses = [value for run in found for _, value in run.loss if value > 0]
    if losses and max(losses) / min(losses) > WIDE:
        loss.set_yscale("log")
    for number, run in enumerate(found):
        _line(loss, run.loss, number, run.name)
        _line(rsum, run.rsum, number, run.name)
        if run.best is not None:
            rsum.plot(*run.best, marker="*", markersize=13, color=colour(number), zorder=3)
        _line(recall, run.i2t_r1, number, run.name)
        _line(recall, run.t2i_r1, number, run.name, dashed=True)
    titles = (
        "loss, mean of the epoch",
        "rsum on validation",
        "R@1 on validation: I→T solid, T→I dashed",
    )
    for axes, title in zip((loss, rsum, recall), titles, strict=True):
        plain_axes(axes)
        axes.set_xlabel("epoch")
        axes.set_title(title, fontsize=11, loc="left")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    rsum.legend(fontsize=8, loc="lower right")  # one for all three: colours and signs are the same
    return figure


def _line(axes: Axes, points: Points, number: int, label: str, *, dashed: bool = False) -> None:
    if points:
        axes.plot(
            *zip(*points, strict=True),
            color=colour(number),
            linestyle="--" if dashed else "-",
            marker=marker(number),
            markersize=4,
            label=label,
        )
