"""Time and memory of scoring and of training steps, for every model whose score has a cost.

Items are drawn, encoded once, and scored by `score_matrix`. A time is given as a multiple of its
floor: the operations that truly depend on the pair (`pair_flops` of the model, without padding) at
the rate of a plain float32 matrix product in the same process. The straight form (`plain: true`)
is timed on fewer pairs; compare microseconds per pair. benchmarks/README.md says what each column
means.

    python -m benchmarks.bench_models --models scan --images 200 --sentences 1000 --csv times.csv
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import io
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from benchmarks.measure import MIB, Kind, Line, Setting, measure

from visavis.files import write_text
from visavis.models import MODELS, config_class, model_class
from visavis.scoring.matrix import BLOCK

COLUMNS = tuple(entry.name for entry in dataclasses.fields(Line))


def settings(options: argparse.Namespace) -> list[Setting]:
    """What is to be measured, in order."""
    found = []
    for name in options.models:
        if not hasattr(model_class(name), "pair_flops"):
            print(f"{name}: has no pair_flops and is left out", file=sys.stderr)
            continue
        sizes: list[tuple[Kind, int, int]] = [("score", options.images, options.sentences)]
        if any(entry.name == "plain" for entry in dataclasses.fields(config_class(name))):
            side = max(1, math.isqrt(options.straight_pairs))
            few = min(side, options.images), min(side, options.sentences)
            sizes.append(("straight", *few))
        for size in options.batches:
            sizes += [("train", size, size), ("recompute", size, size)]
        found += [
            Setting(
                model=name,
                kind=kind,
                images=images,
                sentences=sentences,
                dim=options.dim,
                threads=options.threads,
                budget_mib=options.budget_mib,
                patience=options.patience,
            )
            for kind, images, sentences in sizes
        ]
    return found


def cell(value: object) -> str:
    """A value with four digits; nothing for what was not measured."""
    if not isinstance(value, float):
        return str(value)
    return "" if math.isnan(value) else f"{value:.4g}"


def as_table(lines: Sequence[Line]) -> str:
    """Columns under their names."""
    rows = [COLUMNS, *([cell(getattr(line, name)) for name in COLUMNS] for line in lines)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(text.rjust(width) for text, width in zip(row, widths, strict=True))
        for row in rows
    )


def as_csv(lines: Sequence[Line]) -> str:
    """The same with a header and all digits; what was not measured is empty."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    for line in lines:
        values = (getattr(line, name) for name in COLUMNS)
        writer.writerow(["" if value != value else value for value in values])
    return stream.getvalue()


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--sentences", type=int, default=1280)
    parser.add_argument("--dim", type=int, default=0, help="0: the default width of each model")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--batches", nargs="*", type=int, default=[32, 128], help="training steps")
    parser.add_argument("--straight-pairs", type=int, default=1024, help="timed, at most")
    parser.add_argument("--budget-mib", type=float, default=BLOCK.budget_bytes / MIB)
    parser.add_argument("--patience", type=float, default=10.0, help="seconds of repeats")
    parser.add_argument("--csv", type=Path)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, show, and keep after each line what was measured so far."""
    options = parse(arguments)
    lines: list[Line] = []
    for setting in settings(options):
        size = f"{setting.images} x {setting.sentences}"
        print(f"{setting.model} {setting.kind} {size} ...", file=sys.stderr, flush=True)
        lines.append(measure(setting))
        if options.csv is not None:
            write_text(options.csv, as_csv(lines))
    print(as_table(lines))
    if any(line.kind == "straight" for line in lines):
        print("straight: timed on the pairs of its line only; compare us_per_pair")
    return 0


if __name__ == "__main__":
    sys.exit(main())
