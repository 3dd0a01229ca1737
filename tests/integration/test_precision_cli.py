"""`visavis evaluate` in bfloat16, and what it leaves behind."""

from __future__ import annotations

from pathlib import Path

from tests.integration.conftest import Visavis
from visavis.evaluation.saved import load


def test_precision_and_its_changes_are_told_and_kept(
    visavis: Visavis, data: Path, run_folder: Path, tmp_path: Path
) -> None:
    results = tmp_path / "results.json"
    words = ("evaluate", run_folder, "--data", data, "--precision", "bf16", "--rank-changes")
    said = visavis(*words, "--output", results)
    assert said.code == 0
    assert "tiny, against fp32: scores differ by at most" in said.out
    found = load(results)
    assert found.scoring is not None
    assert (found.scoring.precision, found.scoring.pairs) == ("bf16", 10 * len_sentences(found))
    assert "rank_changes" in found.details
    assert {path.name for path in tmp_path.glob("results*")} == {
        "results.json",
        "results.ranks.npz",
    }


def len_sentences(found: object) -> int:
    return found.subject.sentences  # type: ignore[attr-defined, no-any-return]


def test_another_precision_is_refused(visavis: Visavis, data: Path, run_folder: Path) -> None:
    said = visavis("evaluate", run_folder, "--data", data, "--precision", "fp8")
    assert (said.code, said.out) == (1, "")
    assert said.err.startswith("visavis: --precision 'fp8' is not known;")
