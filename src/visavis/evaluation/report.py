"""Evaluations and comparisons as tables for people, and as JSON for programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from visavis.errors import DataError
from visavis.evaluation.compare import Comparison, compare
from visavis.evaluation.evaluate import Evaluation, Subject
from visavis.evaluation.seeds import Method, check_alike
from visavis.metrics.recall import CUTOFFS, RECALLS
from visavis.metrics.significance import COLUMNS, Difference, Interval, Resampling

PUBLISHED = "published"  # in the details of an evaluation: figures that its recipe names

_CHANCE = "chance"
_HEADER = (
    "run",
    *(f"I→T R@{cutoff}" for cutoff in CUTOFFS),
    *(f"T→I R@{cutoff}" for cutoff in CUTOFFS),
    "rsum",
)


@dataclass(frozen=True, slots=True)
class Grid:
    """A table before it is drawn: every cell is text, the first column names the row."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...]


def evaluation_grid(evaluations: Sequence[Evaluation], *, diagnostics: bool = False) -> Grid:
    """One row per evaluation, baselines like any other, and a last row for chance.

    Args:
        evaluations: of one corpus and protocol. Below one of a recipe that names published figures
            stand those, and a note says whether its interval holds them.
        diagnostics: whether figures made with ground truth may stand in the table; a note says so.

    Raises:
        DataError: none, or evaluations of different corpora or protocols: their figures do not
            belong in one table; one that was re-ranked with ground truth.
    """
    if not evaluations:
        raise DataError("no evaluation to report; evaluate a model first")
    first = evaluations[0]
    for other in evaluations[1:]:
        if (other.subject, other.protocol) != (first.subject, first.protocol):
            raise DataError(
                f"{first.name} and {other.name} were evaluated on different corpora or protocols; "
                "make one table for each"
            )
    told = [e for e in evaluations if _uses_ground_truth(e)]
    if told and not diagnostics:
        raise DataError(
            f"{told[0].name}: re-ranked with ground truth (oracle neighbours), which is a "
            "diagnostic and no result; evaluate it with neighbours none or learned"
        )
    rows = []
    for each in evaluations:
        rows.append(_row(each.name, each.metrics, _bracketed(each.intervals)))
        if published := _published(each):
            rows.append(_row(f"{each.name}, published", published, ""))
    rows.append(_row(_CHANCE, first.chance, ""))
    notes = (*_notes(first), *_rerank_notes(evaluations), *_published_notes(evaluations))
    return Grid(_title(first), _HEADER, tuple(rows), notes)


def comparison_grid(comparison: Comparison) -> Grid:
    """One row per metric: the difference, its interval and its p-value."""
    rows = tuple(
        (key, f"{d.value:+.1f}", f"{d.low:+.1f} to {d.high:+.1f}", f"{d.p_value:.4f}")
        for key, d in ((key, comparison.differences[key]) for key in COLUMNS)
    )
    return Grid(
        title=f"{comparison.first} less {comparison.second}: "
        f"{comparison.corpus}, protocol {comparison.protocol}",
        header=("metric", "difference", f"{_level(comparison.resampling)} interval", "p"),
        rows=rows,
        notes=(
            "paired over images; p by sign-flip permutation, not corrected for several metrics",
            f"corpus fingerprint {comparison.fingerprint}",
        ),
    )


def methods_grid(methods: Sequence[Method], resampling: Resampling | None = None) -> Grid:
    """One row per method: the mean of its runs, with the interval of that mean.

    Raises:
        DataError: methods of different corpora or protocols; ranks of queries were not kept.
    """
    check_alike(methods)
    settings = resampling or Resampling()
    first = replace(methods[0].runs[0], resampling=settings)
    rows = [_row(each.name, each.metrics, _bracketed(each.intervals(settings))) for each in methods]
    rows.append(_row(_CHANCE, first.chance, ""))
    return Grid(_title(first), _HEADER, tuple(rows), _notes(first))


def differences_grid(methods: Sequence[Method], resampling: Resampling | None = None) -> Grid:
    """One row per method: its rsum, and what that is more than the first method's.

    Raises:
        DataError: methods that cannot be compared.
    """
    settings = resampling or Resampling()
    base = methods[0]
    rows = [_contrast(base, None)]
    for other in methods[1:]:
        rows.append(_contrast(other, compare(other, base, settings).differences["rsum"]))
    return Grid(
        title=f"rsum, and how far above that of {base.name}",
        header=("run", "runs", "rsum", "spread", "difference", f"{_level(settings)} interval", "p"),
        rows=tuple(rows),
        notes=(
            "spread: standard deviation over the runs of a method, which differ in their seeds",
            "paired over images; p by sign-flip permutation, not corrected for several rows",
        ),
    )


def _contrast(method: Method, difference: Difference | None) -> tuple[str, ...]:
    spread = "" if method.spread is None else f"{method.spread:.1f}"
    known = (method.name, str(len(method.runs)), f"{method.metrics['rsum']:.1f}", spread)
    if difference is None:
        return (*known, "", "", "")
    value, low, high = difference.value, difference.low, difference.high
    return (*known, f"{value:+.1f}", f"{low:+.1f} to {high:+.1f}", f"{difference.p_value:.4f}")


def as_table(grid: Grid) -> Table:
    """A grid for a terminal."""
    # Text, not markup: a run may be called anything, `[bold]` too.
    caption = Text("\n".join(grid.notes))
    table = Table(
        title=Text(grid.title), caption=caption, caption_justify="left", box=box.SIMPLE_HEAD
    )
    for number, name in enumerate(grid.header):
        # Narrow: the recalls of both directions and an interval have to fit into 80 columns.
        table.add_column(
            name.replace(" R@", "\nR@"),
            justify="left" if number == 0 else "right",
            no_wrap=number > 0,
            overflow="fold",
        )
    for row in grid.rows:
        table.add_row(*(Text(cell) for cell in row))
    return table


def as_markdown(grid: Grid) -> str:
    """A grid as a Markdown table, aligned so that it reads well as plain text too.

    >>> print(as_markdown(Grid("t", ("run", "rsum"), (("a", "9.0"),), ())))
    t
    <BLANKLINE>
    | run | rsum |
    |:----|-----:|
    | a   |  9.0 |
    """
    rows = [tuple(cell.replace("|", "\\|") for cell in row) for row in (grid.header, *grid.rows)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(grid.header))]
    lines = [_line(row, widths) for row in rows]
    rule = "|".join(
        f":{'-' * (w + 1)}" if i == 0 else f"{'-' * (w + 1)}:" for i, w in enumerate(widths)
    )
    lines.insert(1, f"|{rule}|")
    notes = ["", *(f"- {note}" for note in grid.notes)] if grid.notes else []
    return "\n".join([grid.title, "", *lines, *notes])


def show(grid: Grid, console: Console) -> None:
    """Draw a grid: a table on a terminal, Markdown in a file or a pipe, whatever its width."""
    if console.is_terminal:
        console.print(as_table(grid))
    else:
        console.file.write(as_markdown(grid) + "\n")


def _row(name: str, metrics: Mapping[str, float], interval: str) -> tuple[str, ...]:
    cells = [f"{metrics[key]:.1f}" if key in metrics else "-" for key in (*RECALLS, "rsum")]
    return (name, *cells[:-1], f"{cells[-1]}{interval}")


def _level(resampling: Resampling) -> str:
    return f"{100 * resampling.level:g} %"


def _bracketed(intervals: Mapping[str, Interval]) -> str:
    found = intervals.get("rsum")
    return "" if found is None else f" [{found.low:.1f}, {found.high:.1f}]"


def _title(evaluation: Evaluation) -> str:
    subject = evaluation.subject
    return f"{subject.corpus} {'+'.join(subject.splits)}, protocol {evaluation.protocol}"


def _notes(evaluation: Evaluation) -> tuple[str, ...]:
    subject = evaluation.subject
    count = len(evaluation.folds)
    folds = "1 fold" if count == 1 else f"mean of {count} folds"
    notes = [
        f"{subject.images:,} images, {subject.sentences:,} sentences "
        f"({_per_image(subject)} per image), {folds}, {evaluation.ties}",
        f"in brackets: {_level(evaluation.resampling)} interval, bootstrap over images",
        f"corpus fingerprint {subject.fingerprint}",
    ]
    if evaluation.note:
        notes.insert(0, evaluation.note)
    for number, what in (
        (subject.images_without_sentence, "images without a sentence: they only compete"),
        (subject.sentences_without_image, "sentences without an image: they only compete"),
    ):
        if number:
            notes.append(f"{number:,} {what}")
    return tuple(notes)


def _rerank_settings(evaluation: Evaluation) -> dict[str, object]:
    settings = evaluation.details.get("rerank")
    return settings if isinstance(settings, dict) else {}


def _uses_ground_truth(evaluation: Evaluation) -> bool:
    return _rerank_settings(evaluation).get("neighbours") == "oracle"


def _rerank_notes(evaluations: Sequence[Evaluation]) -> tuple[str, ...]:
    notes = []
    if any(_rerank_settings(evaluation) for evaluation in evaluations):
        notes.append("RR: reciprocal re-ranking, which looks at all queries and the whole gallery")
    if any(_uses_ground_truth(evaluation) for evaluation in evaluations):
        notes.append("ORACLE rows were told the ground truth: a diagnostic, not a result")
    return tuple(notes)


def _published(evaluation: Evaluation) -> dict[str, float]:
    """Published figures that the recipe of a run names, of those that tables show."""
    given = evaluation.details.get(PUBLISHED)
    if not isinstance(given, Mapping):
        return {}
    known = ((key, given.get(key)) for key in (*RECALLS, "rsum"))
    return {key: float(value) for key, value in known if isinstance(value, int | float)}


def _published_notes(evaluations: Sequence[Evaluation]) -> tuple[str, ...]:
    notes = []
    for each in evaluations:
        figure, interval = _published(each).get("rsum"), each.intervals.get("rsum")
        if figure is not None and interval is not None:
            where = "in" if interval.low <= figure <= interval.high else "not in"
            notes.append(f"{each.name}: the published rsum {figure:.1f} is {where} the interval")
    return tuple(notes)


def _per_image(subject: Subject) -> str:
    if subject.fewest_sentences == subject.most_sentences:
        return str(subject.fewest_sentences)
    return f"{subject.fewest_sentences} to {subject.most_sentences}"


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *rest = zip(cells, widths, strict=True)
    padded = [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in rest)]
    return f"| {' | '.join(padded)} |"
