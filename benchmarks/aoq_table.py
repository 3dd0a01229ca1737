"""The table of docs/aoq.md: what mined negatives bring to each model, over seeds.

Evaluations lie in `results/aoq/`, as `MODEL_TRAINING.json` and, for other seeds than 0,
`MODEL_TRAINING_seed1.json`; the baseline's first seed stands with all other results.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from benchmarks.markdown import grid

from visavis.evaluation.compare import compare
from visavis.evaluation.saved import load
from visavis.evaluation.seeds import Method
from visavis.metrics.significance import Difference, Interval

FOLDER = "aoq"  # in the folder of results
MODELS = {  # as in the paper's tables; the baseline's file of seed 0
    "SCAN": "scan-flickr8k_t2i",
    "BFAN": "bfan-flickr8k",
    "VSRN": "vsrn-flickr8k",
}
TRAININGS = {  # as in file names, and as the paper calls them
    "baseline": "baseline",
    "offtri": "OffTri",
    "offquin": "OffQuin",
    "adapoffquin": "AdapOffQuin",
}
HEAD = (
    "model",
    "training",
    "seeds",
    "I→T R@1",
    "T→I R@1",
    "rsum",
    "spread over seeds",
    "above the baseline",
    "p",
)


def table(results: Path) -> str:
    """The table of all that is there, in Markdown; empty when nothing is."""
    rows = [row for model in MODELS for row in _rows(results, model)]
    return grid(HEAD, rows, words={0, 1}) if rows else ""


def methods(results: Path, model: str) -> dict[str, Method]:
    """The runs of a model by how it was trained; those that are there."""
    found = {}
    for key, name in TRAININGS.items():
        stem = f"{model.lower()}_{key}"
        paths = sorted((results / FOLDER).glob(f"{stem}_seed*.json"))
        first = results / FOLDER / f"{stem}.json"
        if key == "baseline":
            first = results / f"{MODELS[model]}.json"
        if first.is_file():
            paths.insert(0, first)
        if paths:
            found[key] = Method(name, tuple(load(path) for path in paths))
    return found


def _rows(results: Path, model: str) -> Iterator[tuple[str, ...]]:
    found = methods(results, model)
    if set(found) <= {"baseline"}:  # nothing to set beside it
        return
    for key, method in found.items():
        above = None
        if key != "baseline" and "baseline" in found:
            above = compare(method, found["baseline"]).differences["rsum"]
        yield (model, *_cells(method, above))


def _cells(method: Method, above: Difference | None) -> tuple[str, ...]:
    metrics, intervals = method.metrics, method.intervals()
    spread = "" if method.spread is None else f"{method.spread:.1f}"
    return (
        method.name,
        str(len(method.runs)),
        *(_cell(metrics, intervals, key) for key in ("i2t_r1", "t2i_r1", "rsum")),
        spread,
        "" if above is None else f"{above.value:+.1f} [{above.low:.1f}, {above.high:.1f}]",
        "" if above is None else f"{above.p_value:.4f}",
    )


def _cell(metrics: Mapping[str, float], intervals: Mapping[str, Interval], key: str) -> str:
    found = intervals.get(key)
    return f"{metrics[key]:.1f}" + (
        "" if found is None else f" [{found.low:.1f}, {found.high:.1f}]"
    )
