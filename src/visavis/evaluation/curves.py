"""R@1 and rsum against K of re-ranking, as a picture (Fig. 7 b of MTFN-RR)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from visavis.errors import DataError, MissingExtraError
from visavis.evaluation.evaluate import Evaluation
from visavis.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MARKERS = "osD^v<>pPX*h"
_INCHES, _DPI = (9.0, 4.0), 150


@dataclass(slots=True)
class Curve:
    """The evaluations of one model for rising K, and what it reaches without re-ranking."""

    name: str
    neighbours: str
    plain: Evaluation | None = None
    points: dict[int, Evaluation] = field(default_factory=dict)


def curves(evaluations: Sequence[Evaluation]) -> list[Curve]:
    """Re-ranked evaluations gathered by what was re-ranked, in their order.

    Raises:
        DataError: none of them is re-ranked.
    """
    found: dict[tuple[str, str], Curve] = {}
    for evaluation in evaluations:
        settings = evaluation.details.get("rerank")
        if isinstance(settings, dict):
            name, neighbours = str(settings["of"]), str(settings["neighbours"])
            curve = found.setdefault((name, neighbours), Curve(name, neighbours))
            curve.points[int(settings["k"])] = evaluation
    for curve in found.values():
        curve.plain = next((e for e in evaluations if e.name == curve.name), None)
    if not found:
        raise DataError("nothing to plot against K: no evaluation is re-ranked")
    return list(found.values())


def draw_curves(evaluations: Sequence[Evaluation], path: Path) -> None:
    """Draw R@1 of both directions, and rsum, against K, as a PNG; without re-ranking stands at 0.

    Raises:
        DataError: none of the evaluations is re-ranked.
        MissingExtraError: matplotlib is not installed.
        StorageError: the picture cannot be written.
    """
    check_drawing()
    from matplotlib.figure import Figure

    lines = curves(evaluations)
    figure = Figure(figsize=_INCHES, layout="constrained")
    left, right = figure.subplots(1, 2)
    for number, curve in enumerate(lines):
        look = {"color": f"C{number}", "marker": _MARKERS[number % len(_MARKERS)]}
        title = curve.name + _suffix(curve.neighbours)
        _draw(left, curve, "i2t_r1", f"{title}, I→T", {**look, "linestyle": "-"})
        _draw(left, curve, "t2i_r1", f"{title}, T→I", {**look, "linestyle": "--"})
        _draw(right, curve, "rsum", title, look)
    for axes, what in ((left, "R@1"), (right, "rsum")):
        axes.set_xlabel("K (0: not re-ranked)")
        axes.set_ylabel(what)
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=_DPI)


def check_drawing() -> None:
    """Refuse to go on without matplotlib.

    Raises:
        MissingExtraError: it is not installed.
    """
    import importlib.util

    if importlib.util.find_spec("matplotlib") is None:
        raise MissingExtraError("matplotlib", "plot")


def _suffix(neighbours: str) -> str:
    return {"none": "", "oracle": ", ORACLE (diagnostic)"}.get(neighbours, f", {neighbours}")


def _draw(axes: Axes, curve: Curve, metric: str, label: str, look: dict[str, str]) -> None:
    points = {k: found.metrics[metric] for k, found in curve.points.items()}
    if curve.plain is not None:
        points[0] = curve.plain.metrics[metric]
    places = sorted(points)
    style = look.get("linestyle", "-")
    axes.plot(
        places,
        [points[k] for k in places],
        color=look["color"],
        marker=look["marker"],
        linestyle=style,
        label=label,
    )
