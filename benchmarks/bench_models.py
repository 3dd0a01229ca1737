"""Time and memory of scoring and of training steps, for every model whose score has a cost.

Items are drawn, encoded once, and scored by `score_matrix`. A time is given as a multiple of its
floor: the operations that truly depend on the pair (`pair_flops` of the model, without padding) at
the rate of a plain matrix product in the same process and precision. The straight form
(`plain: true`) and bfloat16 are measured on fewer pairs, in turns with the fast float32 form. All
times are the processor's, all ratios of one process, so that they hold on a busy machine too.
benchmarks/README.md says what each column means.

    python -m benchmarks.bench_models --models mmca dcpa --batches paper --csv times.csv
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
import yaml
from benchmarks.lines import Line, measure
from benchmarks.measure import MIB, SCORES, Kind, Setting

from visavis.files import write_text
from visavis.models import MODELS, config_class, model_class
from visavis.scoring.matrix import BLOCK

COLUMNS = tuple(entry.name for entry in dataclasses.fields(Line))
STEPS: tuple[Kind, ...] = ("train", "recompute")
PAPER = "paper"
OF_VECTORS = ("mtfn", "saem", "vse", "vsrn")  # their score is one inner product

Values = tuple[tuple[str, object], ...]

# Batch sizes of the papers or, where they name none, of their code; DCPA trains in two stages.
BATCHES: dict[str, tuple[tuple[int, Values], ...]] = {
    "mmca": ((64, ()),),
    "dcpa": ((300, (("trained", "intra"),)), (84, (("trained", "inter"),))),
    "saem": ((64, ()),),
}


def settings(options: argparse.Namespace) -> list[Setting]:
    """What is to be measured, in order."""
    found = []
    for name in options.models:
        if not hasattr(model_class(name), "pair_flops"):
            print(f"{name}: has no pair_flops and is left out", file=sys.stderr)
            continue
        base = Setting(
            model=name,
            kind="score",
            images=options.images,
            sentences=options.sentences,
            dim=options.dim,
            threads=options.threads,
            budget_mib=options.budget_mib,
            rows=options.rows,
            patience=options.patience,
            values=tuple(options.set),
        )
        wanted = [*_scores(base, options), *_steps(base, options)]
        found += [setting for setting in wanted if setting.kind in options.kinds]
    return found


def _scores(base: Setting, options: argparse.Namespace) -> list[Setting]:
    side = max(1, math.isqrt(options.straight_pairs))
    few = {"images": min(side, options.images), "sentences": min(side, options.sentences)}
    straight = "plain" in {entry.name for entry in dataclasses.fields(config_class(base.model))}
    if base.model in OF_VECTORS:
        images, sentences = options.vectors
        found = [dataclasses.replace(base, images=images, sentences=sentences)]
        few["whole"] = options.vectors
    else:
        found = [base, dataclasses.replace(base, kind="bf16", **few)]
    return [*found, dataclasses.replace(base, kind="straight", **few)] if straight else found


def _steps(base: Setting, options: argparse.Namespace) -> list[Setting]:
    batches: list[tuple[int, Values]] = []
    for given in options.batches:
        usual = ((128, ()),)
        batches += BATCHES.get(base.model, usual) if given == PAPER else [(int(given), ())]
    return [
        dataclasses.replace(
            base, kind=kind, images=size, sentences=size, values=base.values + values
        )
        for size, values in batches
        for kind in STEPS
    ]


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


def batch(text: str) -> str:
    """A batch size or `paper`, as an option."""
    if text != PAPER and not (text.isdigit() and int(text) > 1):
        raise argparse.ArgumentTypeError(f"{text!r}: a number from 2, or {PAPER}")
    return text


def value(text: str) -> tuple[str, object]:
    """NAME=VALUE, a setting of the models, as an option."""
    name, sign, given = text.partition("=")
    if not name or not sign:
        raise argparse.ArgumentTypeError(f"{text!r}: NAME=VALUE is expected")
    return name, yaml.safe_load(given)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--kinds", nargs="+", default=[*SCORES, *STEPS], choices=[*SCORES, *STEPS])
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--sentences", type=int, default=128)
    parser.add_argument("--vectors", nargs=2, type=int, default=(1000, 5000), metavar=("N", "M"))
    parser.add_argument("--dim", type=int, default=0, help="0: the default width of each model")
    parser.add_argument("--set", nargs="+", type=value, default=[], help="NAME=VALUE of the models")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--batches", nargs="*", type=batch, default=["8"], help="training steps")
    parser.add_argument("--straight-pairs", type=int, default=256, help="measured, at most")
    parser.add_argument("--budget-mib", type=float, default=BLOCK.budget_bytes / MIB)
    parser.add_argument("--rows", type=int, default=BLOCK.rows, help="images of a block, at most")
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
    if any(line.kind in ("straight", "bf16") for line in lines):
        print("times_fast: against the fast float32 form of the same process, for a pair")
    return 0


if __name__ == "__main__":
    sys.exit(main())
