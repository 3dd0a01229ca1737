"""Tables of `results/` in README.md, docs/results.md and docs/aoq.md, between the marks of a block.

`make results` writes them; with `--check` nothing is written and a table that is out of date is an
error. Rows are called after their files: `results/scan-flickr8k.json` is the run `scan-flickr8k`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks import aoq_table
from benchmarks.markdown import grid

from visavis.errors import VisavisError
from visavis.evaluation.evaluate import Evaluation
from visavis.evaluation.report import as_markdown, evaluation_grid
from visavis.evaluation.saved import load
from visavis.files import write_text

ROOT = Path(__file__).parents[1]
BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"
EMPTY = "No saved evaluation yet: `results/` is empty."


def read_results(folder: Path) -> list[Evaluation]:
    """Every saved evaluation of a folder, named after its file."""
    return [replace(load(path), name=path.stem) for path in sorted(folder.glob("*.json"))]


def grouped(evaluations: Sequence[Evaluation]) -> list[list[Evaluation]]:
    """Evaluations that may stand in one table, best rsum first."""
    groups: dict[object, list[Evaluation]] = {}
    for found in evaluations:
        groups.setdefault((found.subject, found.protocol), []).append(found)
    by_name = sorted(groups.values(), key=lambda group: _title(group[0]))
    return [sorted(group, key=lambda found: -found.metrics["rsum"]) for group in by_name]


def recall_tables(evaluations: Sequence[Evaluation]) -> str:
    """One table for each corpus, split and protocol; chance is the last row of each."""
    tables = []
    for group in grouped(evaluations):
        found = evaluation_grid(group)
        tables.append(as_markdown(replace(found, title=f"### {found.title}")))
    return "\n\n".join(tables) or EMPTY


def rank_tables(evaluations: Sequence[Evaluation]) -> str:
    """Median and mean ranks, and what each run was made with."""
    tables = []
    for group in grouped(evaluations):
        rows = [_rank_row(found) for found in group]
        head = ("run", "I→T median", "I→T mean", "T→I median", "T→I mean", "features", "made with")
        tables.append(f"### Ranks: {_title(group[0])}\n\n{grid(head, rows, words={0, 5, 6})}")
    return "\n\n".join(tables)


def _title(found: Evaluation) -> str:
    return f"{found.subject.corpus} {'+'.join(found.subject.splits)}, protocol {found.protocol}"


def _rank_row(found: Evaluation) -> tuple[str, ...]:
    values = [
        f"{found.metrics[f'{way}_{what}']:.1f}"
        for way in ("i2t", "t2i")
        for what in ("medr", "meanr")
    ]
    made = [
        f"{name} {found.details[name]}" for name in ("visavis", "torch") if name in found.details
    ]
    return (found.name, *values, str(found.details.get("features", "")), ", ".join(made))


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


def pages(root: Path) -> dict[Path, str]:
    """What the pages should say, for the results that are there."""
    found = read_results(root / "results")
    recalls, ranks = recall_tables(found), rank_tables(found)
    blocks = {
        "README.md": recalls,
        "docs/results.md": "\n\n".join(filter(None, (recalls, ranks))),
        "docs/aoq.md": aoq_table.table(root / "results") or EMPTY,
    }
    return {
        root / name: filled((root / name).read_text(encoding="utf-8"), block)
        for name, block in blocks.items()
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the tables, or compare them with what stands in the pages."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; fail when outdated")
    options = parser.parse_args(arguments)
    try:
        wanted = pages(ROOT)
    except (VisavisError, ValueError) as error:
        print(f"results: {error}", file=sys.stderr)
        return 1
    outdated = [path for path, text in wanted.items() if path.read_text(encoding="utf-8") != text]
    for path in outdated:
        print(f"{path.relative_to(ROOT)}: {'out of date' if options.check else 'written'}")
        if not options.check:
            write_text(path, wanted[path])
    return 1 if outdated and options.check else 0


if __name__ == "__main__":
    sys.exit(main())
