"""Pictures of docs/speed.md, from what a machine measured.

python -m benchmarks.plot
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.bench_scoring import MACHINES, SIZES, read
from benchmarks.lines import Line
from benchmarks.machine import machine_name
from benchmarks.speed_table import NAMES, STREAM, Forms, Key, by_problem, number

from visavis.explain.charts import check_plotting, panels, plain_axes
from visavis.explain.saved import save_png

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PICTURES = Path(__file__).parents[1] / "docs" / "pictures"
# Of Okabe and Ito, and unlike in lightness too.
COLOURS = {"published": "#D55E00", "plain": "#E69F00", "engine": "#0072B2", "bf16": "#56B4E9"}
THICK = 0.19  # of a bar, where models are 1 apart


def chosen(lines: Sequence[Line]) -> dict[Key, Forms]:
    """The large problem, each model at its widest."""
    found = {key: forms for key, forms in by_problem(lines).items() if key[1:3] == SIZES[0]}
    widest = {name: max(key[3] for key in found if key[0] == name) for name, *_ in found}
    return {key: forms for key, forms in found.items() if key[3] == widest[key[0]]}


def draw_speed(lines: Sequence[Line], machine: str, path: Path) -> None:
    """Bars of microseconds a pair: every model, every form, and the floor of its arithmetic."""
    found = chosen(lines)
    images, sentences = SIZES[0]
    figure, (axes,) = panels(
        "What an exact score costs",
        f"{images:,} images of 36 regions, {sentences:,} sentences of 14 words; processor time of "
        f"one pair, {machine}. Black: the operations that depend on the pair, at the rate of a "
        "plain float32 product. Shorter is better.",
        1,
        size=(9.5, 0.72 * len(found) + 1.6),
    )
    for row, (_, forms) in enumerate(found.items()):
        _bars(axes, row, forms)
    axes.set_yticks(range(len(found)), [f"{key[0]}\nwidth {key[3]:,}" for key in found])
    axes.invert_yaxis()
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    axes.set_xlim(low, high * 3)
    axes.set_xlabel("µs a pair, each mark ten times the one before")
    plain_axes(axes)
    axes.grid(visible=False, axis="y")
    handles, names = axes.get_legend_handles_labels()
    unique = dict(zip(names, handles, strict=True))
    order = [name for name in (*NAMES.values(), "floor") if name in unique]
    axes.legend([unique[name] for name in order], order, loc="upper right", framealpha=0.95)
    save_png(figure, path)


def _bars(axes: Axes, row: int, forms: Forms) -> None:
    """One model: a bar for each form with its number, and a line at the floor."""
    shown = [form for form in NAMES if form in forms]
    top = row - THICK * (len(shown) - 1) / 2
    for place, form in enumerate(shown):
        width, at = forms[form].us_per_pair, top + THICK * place
        axes.barh(at, width, THICK * 0.92, color=COLOURS[form], label=NAMES[form])
        text = axes.text(width * 1.08, at, number(width), va="center", fontsize=7, zorder=4)
        text.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 0.6})
    if "engine" in forms:
        reach = THICK * len(shown) / 2 + 0.04
        floor = forms["engine"].floor_us
        axes.plot([floor, floor], [row - reach, row + reach], color="black", lw=2, label="floor")


def draw_stream(rows: Sequence[dict[str, str]], machine: str, path: Path) -> None:
    """Nanoseconds of a pair and added memory against the number of pairs."""
    figure, both = panels(
        "Streaming: the cost of a pair falls and then stays, memory keeps to what is allowed",
        f"Lists of ten in both directions and ranks, one thread, {machine}.",
        2,
        size=(4.6, 3.6),
    )
    wanted = (("ns_per_pair", "ns of a pair"), ("added_mib", "memory added, MiB"))
    for axes, (column, label) in zip(both, wanted, strict=True):
        for name, colour, mark in (("vse", "#0072B2", "o"), ("scan", "#D55E00", "s")):
            points = [
                (int(row["pairs"]), float(row[column])) for row in rows if row["model"] == name
            ]
            if points:
                axes.plot(*zip(*points, strict=True), color=colour, marker=mark, label=name)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel("pairs")
        axes.set_title(label, fontsize=10)
        plain_axes(axes)
        axes.legend()
    allowed = float(rows[0]["memory_mib"])
    both[1].axhline(allowed, color="#555555", ls="--", lw=1)
    both[1].text(2e4, allowed * 1.1, f"{allowed:g} allowed", fontsize=8, color="#555555")
    both[1].set_ylim(1, allowed * 2)
    save_png(figure, path)


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw what there is."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--machine", default=machine_name(), help="name of the file")
    parser.add_argument("--folder", type=Path, default=MACHINES)
    parser.add_argument("--output", type=Path, default=PICTURES)
    options = parser.parse_args(arguments)
    check_plotting()
    lines = read(options.folder / f"{options.machine}.csv")
    if not chosen(lines):
        print(f"{options.machine}: nothing measured; run benchmarks.bench_scoring", file=sys.stderr)
        return 1
    draw_speed(lines, options.machine, options.output / "speed.png")
    streamed = options.folder / f"{options.machine}{STREAM}"
    if streamed.exists():
        with streamed.open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream))
        draw_stream(rows, options.machine, options.output / "speed_stream.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
