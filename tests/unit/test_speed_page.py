"""The page on speed: its examples, its tables and its pictures."""

from __future__ import annotations

import doctest
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from benchmarks import speed_table
from benchmarks.bench_scoring import MACHINES, as_csv, compared
from benchmarks.plot import main as plot
from benchmarks.speed_table import BEGIN, END, PAGE, files, filled, machine_tables, number, page

from tests.pages import blocks
from tests.unit.test_bench_scoring import line_of


def test_the_numbers_of_the_examples_are_right() -> None:
    text = "\n".join(block.text for block in blocks("pycon") if block.page == "docs/speed.md")
    example = doctest.DocTestParser().get_doctest(text, {}, "docs/speed.md", None, None)
    before = torch.get_default_dtype()
    found = doctest.DocTestRunner().run(example)
    torch.set_printoptions(profile="default")
    assert torch.get_default_dtype() == before
    assert found.attempted >= 25
    assert not found.failed


def test_the_tables_of_this_project_are_up_to_date() -> None:
    assert files(MACHINES)
    assert PAGE.read_text(encoding="utf-8") == page(), "docs/speed.md: run `make results`"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What a machine measured of two forms of SCAN, in two widths."""
    large = {"model": "scan t2i", "images": 1000, "sentences": 5000, "memory_mib": 64.0}
    lines = [
        line_of(**large, form="published", times_engine=10.0, us_per_pair=100.0),
        line_of(**large, us_per_pair=10.0, times_floor=2.5, added_mib=71.0),
        line_of(**large, us_per_pair=3.0, times_floor=9.0, dim=256),
        line_of(model="mmca", form="train", values="a=1", images=64, sentences=64, seconds=7.0),
    ]
    text = as_csv(compared([replace(line, matrix_share=0.5, copy_share=0.1) for line in lines]))
    (tmp_path / "here.csv").write_text(text, encoding="utf-8")
    (tmp_path / "here.stream.csv").write_text(
        "model,pairs,ns_per_pair,added_mib,memory_mib\nvse,10000,50,3,256\nvse,100000,40,5,256\n",
        encoding="utf-8",
    )
    return tmp_path


def test_aims_are_held_against_the_width_of_the_paper(folder: Path) -> None:
    text = machine_tables(folder / "here.csv")
    assert "| scan t2i, 1,024 | 100 |  | 10.0 |  | 1.00 | 2.50 |  | 10.0 |  |" in text
    assert "| scan t2i, engine: times the floor | at most 3 | 2.50 | met |  |" in text
    assert "| scan t2i, engine: as fast as published | at least 12 | 10.0 | missed | 100 |" in text
    assert "the most was 71.0 MiB (scan t2i, engine): missed" in text
    assert "| mmca `a=1`, 64 | 7.00 |" in text


def test_files_of_streams_are_no_machines(folder: Path) -> None:
    assert [path.name for path in files(folder)] == ["here.csv"]


def test_numbers_have_three_digits() -> None:
    found = [number(value) for value in (12345.6, 123.45, 1.2345, 0.0, math.nan)]
    assert found == ["12,300", "123", "1.23", "0", ""]


@pytest.mark.parametrize("text", ["no marks", f"{BEGIN} only", f"{BEGIN}{END}{BEGIN}{END}"])
def test_a_page_without_one_pair_of_marks_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="once each"):
        filled(text, "block")


def test_checking_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "speed.md"
    path.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n", encoding="utf-8")
    monkeypatch.setattr(speed_table, "PAGE", path)
    monkeypatch.setattr(speed_table, "page", lambda: "new")
    assert speed_table.main(["--check"]) == 1
    assert "old" in path.read_text(encoding="utf-8")
    assert speed_table.main([]) == 0
    assert speed_table.main(["--check"]) == 0


def test_pictures_are_drawn(folder: Path) -> None:
    pytest.importorskip("matplotlib")
    words = ["--machine", "here", "--folder", str(folder), "--output", str(folder)]
    assert plot(words) == 0
    for name in ("speed.png", "speed_stream.png"):
        assert (folder / name).read_bytes().startswith(b"\x89PNG")
    assert plot([*words[:1], "nowhere", *words[2:]]) == 1
