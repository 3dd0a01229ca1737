"""Tables of results: what they say, where they stand, and that they are up to date."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from benchmarks.results_table import BEGIN, EMPTY, END, ROOT, filled, pages, read_results
from benchmarks.results_table import main as results_table

from visavis.data.corpus import Corpus
from visavis.errors import DataError
from visavis.evaluation.evaluate import evaluate
from visavis.evaluation.protocols import make_protocol
from visavis.evaluation.saved import save
from visavis.types import Scores


def put_result(root: Path, name: str, *, images: int, right: int) -> None:
    """An evaluation of one sentence an image, of which the first `right` are found at once."""
    corpus = Corpus(
        name="toy",
        image_ids=tuple(f"image{i}" for i in range(images)),
        image_splits=("val",) * images,
        sentence_ids=tuple(f"sentence{i}" for i in range(images)),
        sentence_texts=tuple(f"a thing {i}" for i in range(images)),
        pairs=np.array([[i, i] for i in range(images)]),
    )
    scores = torch.diag((torch.arange(images) < right).float())  # ties lose: others are last
    found = evaluate(
        lambda _: Scores.shared(scores),
        make_protocol("full", corpus),
        name="/somewhere/else",
        details={"torch": "2.6", "features": "abc"},
    )
    save(found, root / "results" / f"{name}.json")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "docs").mkdir()
    for name in ("README.md", "docs/results.md", "docs/aoq.md"):
        (tmp_path / name).write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n", encoding="utf-8")
    return tmp_path


def test_the_tables_of_this_project_are_up_to_date() -> None:
    for path, text in pages(ROOT).items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name}: run `make results`"


def test_without_results_the_pages_say_so(root: Path) -> None:
    found = pages(root)[root / "README.md"]
    assert found == f"before\n{BEGIN}\n\n{EMPTY}\n\n{END}\nafter\n"


def test_rows_are_named_after_files_and_the_best_comes_first(root: Path) -> None:
    put_result(root, "a weak one", images=20, right=3)
    put_result(root, "strong", images=20, right=18)
    text = pages(root)[root / "README.md"]
    assert text.index("| strong") < text.index("| a weak one") < text.index("| chance")
    assert "somewhere" not in text
    assert text.count("### toy val, protocol full") == 1


def test_runs_on_other_images_stand_in_another_table(root: Path) -> None:
    put_result(root, "one", images=20, right=3)
    put_result(root, "two", images=15, right=3)
    assert pages(root)[root / "README.md"].count("### toy val, protocol full") == 2


def test_the_page_of_results_has_ranks_and_versions(root: Path) -> None:
    put_result(root, "one", images=4, right=4)
    row = "| one | 1.0 | 1.0 | 1.0 | 1.0 | abc | torch 2.6 |"
    assert row in pages(root)[root / "docs" / "results.md"]
    assert row not in pages(root)[root / "README.md"]


def test_writing_twice_changes_nothing(root: Path) -> None:
    put_result(root, "one", images=4, right=4)
    once = pages(root)
    for path, text in once.items():
        path.write_text(text, encoding="utf-8")
    assert pages(root) == once


def test_a_file_that_is_no_evaluation_is_refused(root: Path) -> None:
    (root / "results").mkdir()
    (root / "results" / "other.json").write_text("{}", encoding="utf-8")
    with pytest.raises(DataError, match="not a saved evaluation"):
        read_results(root / "results")


@pytest.mark.parametrize("page", ["no marks", f"{BEGIN} only", f"{BEGIN}{END}{BEGIN}{END}"])
def test_a_page_without_one_pair_of_marks_is_refused(page: str) -> None:
    with pytest.raises(ValueError, match="once each"):
        filled(page, "block")


def test_checking_writes_nothing(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("benchmarks.results_table.ROOT", root)
    before = (root / "README.md").read_text(encoding="utf-8")
    assert results_table(["--check"]) == 1
    assert (root / "README.md").read_text(encoding="utf-8") == before
    assert "README.md: out of date" in capsys.readouterr().out
    assert results_table([]) == 0
    assert results_table(["--check"]) == 0


def test_mined_negatives_stand_beside_the_baseline_in_the_mean_over_seeds(root: Path) -> None:
    put_result(root, "scan-flickr8k_t2i", images=20, right=4)
    assert f"{BEGIN}\n\n{EMPTY}" in pages(root)[root / "docs" / "aoq.md"]  # nothing beside it
    put_result(root, "aoq/scan_baseline_seed1", images=20, right=6)
    put_result(root, "aoq/scan_offtri", images=20, right=15)
    put_result(root, "aoq/vsrn_offquin_seed1", images=20, right=10)
    text = pages(root)[root / "docs" / "aoq.md"]
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| ")][2:]
    assert [row[:3] for row in rows] == [
        ["| SCAN", "baseline", "2"],
        ["| SCAN", "OffTri", "1"],
        ["| VSRN", "OffQuin", "1"],
    ]
    assert rows[0][3].startswith("25.0 [")
    assert rows[1][7].startswith("+300.0 [")  # half of the queries more, in all six recalls
    assert rows[2][7] == ""  # no baseline to stand beside
    assert "aoq" not in pages(root)[root / "README.md"]
