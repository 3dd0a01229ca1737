"""The tables of docs/speed.md, from what each machine measured, between the marks of a block.

`make results` writes them; with `--check` nothing is written and a table that is out of date is an
error. A machine's lines are in benchmarks/machines/NAME.csv (`benchmarks.bench_scoring`).
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.bench_scoring import MACHINES, SIZES, read
from benchmarks.lines import Line
from benchmarks.markdown import grid
from benchmarks.measure import FORMS, STEPS, VARIANTS

from visavis.files import write_text

PAGE = Path(__file__).parents[1] / "docs" / "speed.md"
BEGIN, END = "<!-- speed:begin -->", "<!-- speed:end -->"
STREAM = ".stream.csv"  # ends the names of files of bench_stream
NAMES = {"published": "published", "plain": "plain", "engine": "engine", "bf16": "engine, bf16"}

Key = tuple[str, int, int, int]  # model, images, sentences, width
Forms = dict[str, Line]


@dataclass(frozen=True, slots=True)
class Aim:
    """What was to be reached on the large problem at the papers' widths."""

    models: str  # how their names begin
    form: str
    what: str
    measured: Callable[[Line], float]
    wanted: float
    at_least: bool = True

    def met(self, line: Line) -> bool:
        """Whether a line reaches it."""
        value = self.measured(line)
        return value >= self.wanted if self.at_least else value <= self.wanted


def _floor(line: Line) -> float:
    return line.times_floor


def _faster(line: Line) -> float:
    return line.times_published


def _product(line: Line) -> float:
    return line.times_product


AIMS = (
    Aim("scan", "engine", "times the floor", _floor, 3, at_least=False),
    Aim("scan", "engine", "as fast as published", _faster, 12),
    Aim("bfan", "engine", "times the floor", _floor, 4, at_least=False),
    Aim("bfan", "engine", "as fast as published", _faster, 40),
    Aim("mtfn", "engine", "times one product", _product, 2, at_least=False),
    Aim("mtfn", "engine", "as fast as published", _faster, 200),
    Aim("mmca", "engine", "times the floor", _floor, 2.5, at_least=False),
    Aim("dcpa", "engine", "times the floor", _floor, 2.5, at_least=False),
    Aim("camp", "engine", "times the floor", _floor, 2.5, at_least=False),
    Aim("camp", "engine", "as fast as published", _faster, 4),
    Aim("scan", "bf16", "as fast as published", _faster, 30),
    Aim("bfan", "bf16", "as fast as published", _faster, 80),
    Aim("mmca", "bf16", "as fast as published", _faster, 5),
    Aim("dcpa", "bf16", "as fast as published", _faster, 6),
    Aim("camp", "bf16", "as fast as published", _faster, 10),
)


def by_problem(lines: Sequence[Line]) -> dict[Key, Forms]:
    """Lines of scores, by what they share."""
    found: dict[Key, Forms] = {}
    for line in lines:
        if line.form in FORMS:
            key = (line.model, line.images, line.sentences, line.dim)
            found.setdefault(key, {})[line.form] = line
    names = list(VARIANTS)
    return dict(sorted(found.items(), key=lambda pair: (names.index(pair[0][0]), -pair[0][3])))


def number(value: float) -> str:
    """Three digits, without an exponent; nothing for what was not measured.

    >>> number(1234.5), number(12.345), number(0.012345), number(float("nan"))
    ('1,230', '12.3', '0.0123', '')
    """
    if math.isnan(value):
        return ""
    if value == 0:
        return "0"
    digits = 2 - math.floor(math.log10(abs(value)))
    return f"{round(value, digits):,.{max(digits, 0)}f}"


def title(key: Key) -> str:
    """A model and its width."""
    return f"{key[0]}, {key[3]:,}"


def times(found: dict[Key, Forms]) -> str:
    """Microseconds of a pair in every form, and their ratios."""
    head = ["model, width", *NAMES.values(), "floor"]
    head += ["engine / floor", "bf16 / its floor", "engine faster", "bf16 faster"]
    rows = []
    for key, forms in found.items():
        row = [title(key)]
        row += [number(forms[form].us_per_pair) if form in forms else "" for form in NAMES]
        engine, half = forms.get("engine"), forms.get("bf16")
        row.append(number(engine.floor_us) if engine else "")
        row += [number(line.times_floor) if line else "" for line in (engine, half)]
        row += [number(line.times_published) if line else "" for line in (engine, half)]
        rows.append(row)
    return grid(head, rows)


def limits(found: dict[Key, Forms]) -> str:
    """What holds each form up, memory, and how far scores are off."""
    head = ["model, width, form", "all pairs, s", "measured pairs", "operations a byte"]
    head += ["matrix rate", "copy rate", "bound", "added, MiB", "difference"]
    rows = []
    for key, forms in found.items():
        for form, line in sorted(forms.items(), key=lambda pair: list(NAMES).index(pair[0])):
            shares = [f"{share:.0%}" for share in (line.matrix_share, line.copy_share)]
            row = [f"{title(key)}, {NAMES[form]}", number(line.seconds), f"{line.measured_pairs:,}"]
            row += [number(line.pair_flops / line.pair_bytes)]
            row += [*shares, line.bound, number(line.added_mib), f"{line.difference:.1e}"]
            rows.append(row)
    return grid(head, rows)


def steps(lines: Sequence[Line]) -> str:
    """Training steps, with and without recomputation."""
    head = ["model, batch", "s", "floor", "MiB", "recompute: s", "floor", "MiB"]
    found: dict[tuple[str, str, int], dict[str, Line]] = {}
    for line in lines:
        if line.form in STEPS:
            found.setdefault((line.model, line.values, line.images), {})[line.form] = line
    rows = []
    for (model, values, batch), forms in found.items():
        row = [f"{model}{f' `{values}`' if values else ''}, {batch}"]
        for form in STEPS:
            line = forms.get(form)
            told = (line.seconds, line.times_floor, line.added_mib) if line else (math.nan,) * 3
            row += [number(value) for value in told]
        rows.append(row)
    return grid(head, rows) if rows else ""


def aims(found: dict[Key, Forms]) -> str:
    """What was aimed at, measured, and met or not.

    Where a form is set against the published one, the last column says how many times as fast it
    would be if it took no more than its floor.
    """
    rows = []
    for aim in AIMS:
        for forms in _forms(aim, found):
            line = forms[aim.form]
            sign = "at least" if aim.at_least else "at most"
            value = number(aim.measured(line))
            said = "met" if aim.met(line) else "missed"
            row = [f"{line.model}, {NAMES[line.form]}: {aim.what}"]
            row += [f"{sign} {aim.wanted:g}", value, said]
            against = aim.measured is _faster and "published" in forms
            most = forms["published"].us_per_pair / line.floor_us if against else math.nan
            rows.append([*row, number(most)])
    return grid(["aim", "wanted", "measured", "", "at the floor"], rows) + "\n\n" + memory(found)


def _forms(aim: Aim, found: dict[Key, Forms]) -> Iterator[Forms]:
    for key, forms in found.items():
        if key[0].startswith(aim.models) and aim.form in forms:
            yield forms


def _widest(model: str, found: dict[Key, Forms]) -> int:
    return max(key[3] for key in found if key[0] == model)


def memory(found: dict[Key, Forms]) -> str:
    """Whether the engine kept to the memory that it was allowed, and a tenth."""
    lines = [
        forms[form] for forms in found.values() for form in ("engine", "bf16") if form in forms
    ]
    if not lines:
        return ""
    most = max(lines, key=lambda line: line.added_mib / line.memory_mib)
    said = "met" if most.added_mib <= 1.1 * most.memory_mib else "missed"
    return (
        f"Memory of the engine beyond inputs and answers: aimed at the {most.memory_mib:g} MiB "
        f"allowed and a tenth; the most was {number(most.added_mib)} MiB ({most.model}, "
        f"{NAMES[most.form]}): {said}."
    )


def machine_tables(path: Path) -> str:
    """All tables of one machine."""
    lines = read(path)
    found = by_problem(lines)
    parts = [f"### {path.stem}"]
    rates = [line.matrix_gflops for line in lines if line.form == "engine"]
    if rates:
        low, high = min(rates), max(rates)
        parts.append(
            f"Threads: {lines[0].threads}; PyTorch {lines[0].torch}; plain float32 product "
            f"{number(low)} to {number(high)} GFLOP a second of processor time."
        )
    for images, sentences in SIZES:
        part = {key: forms for key, forms in found.items() if key[1:3] == (images, sentences)}
        if part:
            parts += [f"{images:,} images × {sentences:,} sentences, µs a pair:", times(part)]
    large = {key: forms for key, forms in found.items() if key[1:3] == SIZES[0]}
    if large:
        wide = {key: forms for key, forms in large.items() if key[3] == _widest(key[0], large)}
        parts += ["The large problem, line by line, at the papers' widths:", limits(wide)]
        parts += ["Aims:", aims(wide)]
    stepped = steps(lines)
    if stepped:
        parts += ["Training steps (times the floor of a step; memory that came on top):", stepped]
    return "\n\n".join(part for part in parts if part)


def files(folder: Path) -> list[Path]:
    """What machines have measured."""
    return [path for path in sorted(folder.glob("*.csv")) if not path.name.endswith(STREAM)]


def filled(text: str, block: str) -> str:
    """A page with the block between its marks replaced.

    Raises:
        ValueError: a page without exactly one pair of marks.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end or BEGIN in after or END in after:
        raise ValueError(f"expected {BEGIN} and {END}, once each")
    return f"{before}{BEGIN}\n\n{block}\n\n{END}{after}"


def page(path: Path = PAGE, folder: Path = MACHINES) -> str:
    """What the page should say."""
    tables = "\n\n".join(machine_tables(file) for file in files(folder))
    return filled(path.read_text(encoding="utf-8"), tables or "No machine was measured yet.")


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the tables, or compare them with what stands in the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; fail when outdated")
    options = parser.parse_args(arguments)
    wanted = page()
    if PAGE.read_text(encoding="utf-8") == wanted:
        return 0
    print(f"docs/speed.md: {'out of date' if options.check else 'written'}")
    if not options.check:
        write_text(PAGE, wanted)
    return int(options.check)


if __name__ == "__main__":
    sys.exit(main())
