"""R@1 and rsum against K of re-ranking, as a picture (MTFN-RR, Wang et al., 2019, Fig. 7 b)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from visavis.errors import DataError
from visavis.evaluation.evaluate import Evaluation
from visavis.explain.charts import check_plotting, colour, marker, panels, plain_axes
from visavis.explain.saved import save_png

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NOTE = "K = 0: not re-ranked. Continuous: sentences for images (I→T), dashed: the other way."


@dataclass(slots=True)
class RerankCurve:
    """The evaluations of one model for rising K, and what it reaches without re-ranking."""

    name: str
    neighbours: str
    plain: Evaluation | None = None
    points: dict[int, Evaluation] = field(default_factory=dict)

    def values(self, metric: str) -> dict[int, float]:
        """A metric by K, in the order of K; without re-ranking K is 0."""
        found = {k: point.metrics[metric] for k, point in sorted(self.points.items())}
        return found if self.plain is None else {0: self.plain.metrics[metric], **found}


def rerank_curves(evaluations: Sequence[Evaluation]) -> list[RerankCurve]:
    """Re-ranked evaluations gathered by what was re-ranked, in their order.

    Raises:
        DataError: none of them is re-ranked.
    """
    found: dict[tuple[str, str], RerankCurve] = {}
    for evaluation in evaluations:
        settings = evaluation.details.get("rerank")
        if isinstance(settings, dict):
            name, neighbours = str(settings["of"]), str(settings["neighbours"])
            curve = found.setdefault((name, neighbours), RerankCurve(name, neighbours))
            curve.points[int(settings["k"])] = evaluation
    for curve in found.values():
        curve.plain = next((e for e in evaluations if e.name == curve.name), None)
    if not found:
        raise DataError("nothing to plot against K: no evaluation is re-ranked")
    return list(found.values())


def draw_rerank_curves(evaluations: Sequence[Evaluation], path: Path) -> None:
    """Draw R@1 of both directions, and rsum, against K, as a PNG; without re-ranking stands at 0.

    Raises:
        DataError: none of the evaluations is re-ranked.
        MissingExtraError: matplotlib is not installed.
        StorageError: the picture cannot be written.
    """
    check_plotting()
    curves = rerank_curves(evaluations)
    first = curves[0].points[min(curves[0].points)]
    title = f"Re-ranking, {first.subject.corpus} {'+'.join(first.subject.splits)}"
    figure, (left, right) = panels(title, NOTE, 2, size=(4.8, 4.2))
    for number, curve in enumerate(curves):
        _line(left, curve, "i2t_r1", number)
        _line(left, curve, "t2i_r1", number, style="--")
        _line(right, curve, "rsum", number)
    for axes, what in ((left, "R@1"), (right, "rsum")):
        plain_axes(axes)
        axes.set_xlabel("K")
        axes.set_xticks(sorted({k for curve in curves for k in curve.values("rsum")}))
        axes.set_ylabel(what)
    right.legend(fontsize="small")  # of both: on the left there are twice as many lines to cover
    save_png(figure, path)


def _suffix(neighbours: str) -> str:
    return {"none": "", "oracle": ", ORACLE (diagnostic)"}.get(neighbours, f", {neighbours}")


def _line(axes: Axes, curve: RerankCurve, metric: str, number: int, style: str = "-") -> None:
    values = curve.values(metric)
    axes.plot(
        list(values),
        list(values.values()),
        color=colour(number),
        marker=marker(number),
        linestyle=style,
        label=curve.name + _suffix(curve.neighbours),
    )
