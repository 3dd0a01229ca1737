"""Tables in Markdown."""

from __future__ import annotations

from collections.abc import Container, Sequence


def grid(
    head: Sequence[str], rows: Sequence[Sequence[str]], words: Container[int] = frozenset({0})
) -> str:
    """A table; columns of words stand to the left, those of numbers to the right."""
    rule = ["---" if column in words else "---:" for column in range(len(head))]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, rule, *rows))
