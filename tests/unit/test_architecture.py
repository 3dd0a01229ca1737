"""The arrows of the layout: imports point down only."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2] / "src" / "visavis"
RANK = {
    "errors": -1, "types": 0, "files": 0, "config": 0,
    "kernels": 1, "layers": 1, "data": 1, "losses": 1, "metrics": 1, "rerank": 1,
    "extract": 2, "models": 2, "scoring": 2,
    "training": 3, "mining": 3, "evaluation": 3, "explain": 3, "convert": 3,
    "search": 4, "recipes": 5, "__init__": 6, "server": 6, "cli": 7, "__main__": 8,
}  # fmt: skip
PAPERS = {"vse", "scan", "bfan", "vsrn", "saem", "mmca", "dcpa", "camp", "mtfn"}


def area_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imported_modules(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module or ""
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def test_imports_point_down() -> None:
    files = sorted(ROOT.rglob("*.py"))
    assert len(files) >= 20
    for path in files:
        for module in imported_modules(path):
            parts = module.split(".")
            if parts[0] == "visavis" and len(parts) > 1 and parts[1] != area_of(path):
                assert RANK[parts[1]] < RANK[area_of(path)], f"{path} imports {module}"


def test_no_paper_is_named_above_the_models() -> None:
    for area in ("training", "evaluation", "search", "scoring"):
        for path in sorted((ROOT / area).rglob("*.py")):
            names = {
                node.id.lower()
                for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
                if isinstance(node, ast.Name)
            }
            assert not names & PAPERS, path
