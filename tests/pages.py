"""The project's pages, taken apart for tests."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
AT_THE_TOP = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")
PAGES = sorted([*(ROOT / name for name in AT_THE_TOP), *(ROOT / "docs").rglob("*.md")])
NAMES = [page.relative_to(ROOT).as_posix() for page in PAGES]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: str
    line: int
    language: str
    text: str


def blocks(*languages: str) -> list[Block]:
    """Every block of some languages, page by page."""
    found = []
    for page, name in zip(PAGES, NAMES, strict=True):
        text = page.read_text(encoding="utf-8")
        for match in FENCE.finditer(text):
            if match[1] in languages:
                found.append(Block(name, text[: match.start()].count("\n") + 1, match[1], match[2]))
    return found


def prose(name: str) -> str:
    """A page without its blocks."""
    return FENCE.sub("", (ROOT / name).read_text(encoding="utf-8"))


def example_files() -> dict[str, str]:
    """Blocks of CONTRIBUTING.md that name the file they would be."""
    named = {}
    for block in blocks("python"):
        head = re.match(r"# ((?:src|tests)/\S+\.py)\n", block.text)
        if head and block.page == "CONTRIBUTING.md":
            named[head[1]] = block.text
    return named
