"""What exact scores cost: published structure, plain equations, the engine, the engine in bfloat16.

Items are drawn and encoded once; then every image is scored with every sentence. A slow form is
measured on pieces of the very problem and `seconds` says what all of it would take. Times are the
processor's, and each line is measured in turns with what it is compared with, so that ratios hold
on a busy machine too. benchmarks/README.md says what each column means. Lines that the file of this
machine has already are not measured again.

    python -m benchmarks.bench_scoring --threads 1
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import io
import math
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import torch
import yaml
from benchmarks.lines import Line, measure, shown
from benchmarks.machine import machine_name
from benchmarks.measure import FORMS, OF_VECTORS, STEPS, VARIANTS, Setting

from visavis.files import write_text
from visavis.models import config_class

MACHINES = Path(__file__).parent / "machines"
COLUMNS = tuple(entry.name for entry in dataclasses.fields(Line))
KEY = ("model", "values", "form", "images", "sentences", "dim", "threads")
SIZES = ((1000, 5000), (100, 500))
NARROW = 256  # measured too where the paper's width is larger
PAPER = "paper"
ONE_FORM = ("saem", "vse", "vsrn")  # their equations are what the engine does

Values = tuple[tuple[str, object], ...]

# Batch sizes of the papers or, where they name none, of their code; DCPA trains in two stages.
BATCHES: dict[str, tuple[tuple[int, Values], ...]] = {
    "mmca": ((64, ()),),
    "dcpa": ((300, (("trained", "intra"),)), (84, (("trained", "inter"),))),
    "camp paper": ((64, ()), (128, ())),  # 64: what 8 GiB hold without recomputation
}
RECOMPUTED = (("camp paper", 128),)  # otherwise a step of these would keep 16 GiB


def settings(options: argparse.Namespace) -> Iterator[Setting]:
    """What is to be measured, in order."""
    for sizes in options.sizes:
        for name in options.models:
            for dim in widths(name, options, large=sizes[0] * sizes[1] > 10**6):
                for form in forms_of(name, options):
                    yield setting(options, name, form, sizes, dim=dim)
    for name in options.models:
        dim = options.dims[0] if options.dims else own_width(name)
        for size, values in batches(name, options):
            for form in (form for form in STEPS if form in options.forms):
                if form == "recompute" or (name, size) not in RECOMPUTED:
                    yield setting(options, name, form, (size, size), dim=dim, values=values)


def forms_of(name: str, options: argparse.Namespace) -> list[str]:
    """Forms of scores that differ from each other; one product stays float32."""
    absent = {"plain"} if name in ONE_FORM else set()
    absent |= {"bf16"} if name in OF_VECTORS else set()
    return [form for form in options.forms if form not in (*STEPS, *absent)]


def setting(
    options: argparse.Namespace,
    name: str,
    form: str,
    sizes: tuple[int, int],
    *,
    dim: int,
    values: Values = (),
) -> Setting:
    """What one line measures."""
    return Setting(
        model=name,
        kind=form,  # type: ignore[arg-type]  # a choice of the parser
        images=sizes[0],
        sentences=sizes[1],
        dim=dim,
        values=tuple(options.set) + values,
        threads=options.threads,
        budget_mib=options.budget_mib,
        memory_mib=options.memory_mib,
        rows=options.rows,
        patience=options.patience,
    )


def widths(name: str, options: argparse.Namespace, *, large: bool) -> list[int]:
    """Widths of a model: those given, or its own, and on the large problem a narrow one too."""
    if options.dims:
        return list(options.dims)
    family = VARIANTS[name][0]
    both = large and family in ("scan", "bfan", "camp")
    return [own_width(name), NARROW] if both else [own_width(name)]


def own_width(name: str) -> int:
    """The width that a model has by default, its paper's."""
    fields = {
        entry.name: entry.default for entry in dataclasses.fields(config_class(VARIANTS[name][0]))
    }
    return int(fields["dim"])


def batches(name: str, options: argparse.Namespace) -> list[tuple[int, Values]]:
    """Training batches of a model."""
    found: list[tuple[int, Values]] = []
    for given in options.batches:
        found += BATCHES.get(name, ()) if given == PAPER else [(int(given), ())]
    return found


def compared(lines: Sequence[Line]) -> list[Line]:
    """The same lines, with how many times as fast as the published structure each is.

    Both were measured in turns with the engine, each in a process of its own.
    """
    published = {place(line): line.times_engine for line in lines if line.form == "published"}
    found = []
    for line in lines:
        times = published.get(place(line), math.nan)
        own = {"engine": 1.0, "published": times}.get(line.form, line.times_engine)
        faster = math.nan if line.form in STEPS else times / own
        found.append(dataclasses.replace(line, times_published=faster))
    return found


def place(line: Line) -> tuple[object, ...]:
    """What lines of other forms share."""
    return tuple(getattr(line, name) for name in KEY if name != "form")


def as_table(lines: Sequence[Line]) -> str:
    """Columns under their names, four digits."""
    rows = [COLUMNS, *([cell(getattr(line, name)) for name in COLUMNS] for line in lines)]
    widest = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(text.rjust(width) for text, width in zip(row, widest, strict=True))
        for row in rows
    )


def cell(value: object) -> str:
    """A value with four digits; nothing for what was not measured."""
    if not isinstance(value, float):
        return str(value)
    return "" if math.isnan(value) else f"{value:.4g}"


def as_csv(lines: Sequence[Line]) -> str:
    """A header and six digits; what was not measured is empty."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    for line in lines:
        values = (getattr(line, name) for name in COLUMNS)
        writer.writerow(
            [
                ("" if math.isnan(value) else f"{value:.6g}") if isinstance(value, float) else value
                for value in values
            ]
        )
    return stream.getvalue()


def read(path: Path) -> list[Line]:
    """The lines of a machine's file; none where there is no file.

    Raises:
        ValueError: it has other columns.
    """
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as stream:
        reader = csv.DictReader(stream)
        if tuple(reader.fieldnames or ()) != COLUMNS:
            raise ValueError(f"{path}: not the columns of this version; move it away")
        return [_line(row) for row in reader]


def _line(row: dict[str, str]) -> Line:
    kinds = {"int": int, "float": lambda text: float(text or "nan")}
    values = {
        entry.name: kinds.get(str(entry.type), str)(row[entry.name])
        for entry in dataclasses.fields(Line)
    }
    return Line(**values)  # type: ignore[arg-type]  # as the fields say


def value(text: str) -> tuple[str, object]:
    """NAME=VALUE, a setting of the models, as an option."""
    name, sign, given = text.partition("=")
    if not name or not sign:
        raise argparse.ArgumentTypeError(f"{text!r}: NAME=VALUE is expected")
    return name, yaml.safe_load(given)


def batch(text: str) -> str:
    """A batch size or `paper`, as an option."""
    if text != PAPER and not (text.isdigit() and int(text) > 1):
        raise argparse.ArgumentTypeError(f"{text!r}: a number from 2, or {PAPER}")
    return text


def size(text: str) -> tuple[int, int]:
    """IMAGESxSENTENCES, as an option."""
    left, _, right = text.partition("x")
    if not (left.isdigit() and right.isdigit() and int(left) * int(right)):
        raise argparse.ArgumentTypeError(f"{text!r}: two numbers as 100x500 are expected")
    return int(left), int(right)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Options of the command line."""
    usual = Setting(model="scan", images=1, sentences=1)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--models", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--forms", nargs="+", default=[*FORMS, *STEPS], choices=[*FORMS, *STEPS])
    parser.add_argument("--sizes", nargs="*", type=size, default=list(SIZES), metavar="NxM")
    parser.add_argument("--dims", nargs="+", type=int, default=[], help="none: of each model")
    parser.add_argument("--set", nargs="+", type=value, default=[], help="NAME=VALUE of the models")
    parser.add_argument("--batches", nargs="*", type=batch, default=[PAPER], help="training steps")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--budget-mib", type=float, default=usual.budget_mib)
    parser.add_argument("--memory-mib", type=float, default=usual.memory_mib)
    parser.add_argument("--rows", type=int, default=usual.rows, help="images of a tile, at most")
    parser.add_argument("--patience", type=float, default=usual.patience, help="seconds of a line")
    parser.add_argument("--machine", default=machine_name(), help="name of the file")
    parser.add_argument("--folder", type=Path, default=MACHINES)
    parser.add_argument("--again", action="store_true", help="measure lines anew that are there")
    return parser.parse_args(arguments)


def key(line: Line) -> tuple[object, ...]:
    """What a line is of."""
    return tuple(getattr(line, name) for name in KEY)


def key_of(each: Setting) -> tuple[object, ...]:
    """The same of a line to be."""
    sizes = each.images, each.sentences, each.dim, each.threads
    return (each.model, shown(each.values), each.kind, *sizes)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, keep after each line what was measured so far, and show it."""
    options = parse(arguments)
    path = options.folder / f"{options.machine}.csv"
    lines = {key(line): line for line in read(path)}
    for each in settings(options):
        if key_of(each) in lines and not options.again:
            continue
        print(f"{each.model} {each.kind} {each.images} x {each.sentences} ...", file=sys.stderr)
        try:
            line = measure(each)
        except BrokenProcessPool:
            print("its process was killed, for want of memory perhaps", file=sys.stderr)
            continue
        lines[key(line)] = line
        write_text(path, as_csv(compared(list(lines.values()))))
    print(as_table(compared(list(lines.values()))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
