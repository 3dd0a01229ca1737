"""Comparisons of evaluations, and tables of both."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from visavis.config import plain
from visavis.data.corpus import Corpus
from visavis.errors import DataError
from visavis.evaluation.compare import compare
from visavis.evaluation.evaluate import Evaluation, ScoreFold, evaluate
from visavis.evaluation.protocols import make_protocol
from visavis.evaluation.report import (
    PUBLISHED,
    as_markdown,
    comparison_grid,
    evaluation_grid,
    show,
)
from visavis.evaluation.saved import as_json, load, save
from visavis.metrics.significance import Resampling
from visavis.types import Scores

QUICK = Resampling(resamples=100, permutations=199)


def corpus(images: int, word: str = "sentence") -> Corpus:
    owners = np.repeat(np.arange(images), 5)
    return Corpus(
        name="toy",
        image_ids=tuple(f"i{i}" for i in range(images)),
        image_splits=("val",) * images,
        sentence_ids=tuple(f"s{j}" for j in range(5 * images)),
        sentence_texts=tuple(f"{word} {j}" for j in range(5 * images)),
        pairs=np.stack([owners, np.arange(5 * images)], axis=1),
    )


def noisy(strength: float, seed: int) -> ScoreFold:
    """Noise with something true in it."""

    def score(part: Corpus) -> Scores:
        shape = (len(part.image_ids), len(part.sentence_ids))
        scores = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
        scores[part.pairs[:, 0], part.pairs[:, 1]] += strength
        return Scores.shared(scores)

    return score


def run(name: str, strength: float, seed: int = 0, part: Corpus | None = None) -> Evaluation:
    protocol = make_protocol("full", part or corpus(60))
    return evaluate(noisy(strength, seed), protocol, name=name, resampling=QUICK)


def test_a_better_run_is_better() -> None:
    found = compare(run("good", 2.0, 0), run("poor", 0.5, 1), QUICK).differences["rsum"]
    assert found.low > 0
    assert found.p_value == pytest.approx(2 / 200)


def test_saved_runs_compare_as_fresh_ones(tmp_path: Path) -> None:
    first, second = run("a", 1.0, 0), run("b", 1.0, 1)
    save(first, tmp_path / "a.json")
    save(second, tmp_path / "b.json")
    found = compare(load(tmp_path / "a.json"), load(tmp_path / "b.json"), QUICK)
    assert found == compare(first, second, QUICK)
    difference = first.metrics["rsum"] - second.metrics["rsum"]
    assert found.differences["rsum"].value == pytest.approx(difference)


def test_runs_on_different_texts_are_refused() -> None:
    other = run("b", 1.0, part=corpus(60, word="other"))
    with pytest.raises(DataError, match="different corpora"):
        compare(run("a", 1.0), other)


@pytest.mark.parametrize("field", ["protocol", "ties"])
def test_runs_under_different_rules_are_refused(field: str) -> None:
    first = run("a", 1.0)
    with pytest.raises(DataError, match="different"):
        compare(first, replace(first, **{field: "other"}))


def test_a_run_without_ranks_is_refused() -> None:
    first = run("a", 1.0)
    with pytest.raises(DataError, match="b: no ranks"):
        compare(first, replace(first, name="b", queries=()))


def plain_text(evaluations: list[Evaluation]) -> str:
    stream = io.StringIO()
    show(evaluation_grid(evaluations), Console(file=stream, width=20))
    return stream.getvalue()


def test_a_pipe_gets_markdown_of_full_width() -> None:
    first = run("a rather long name of a run", 1.0)
    lines = plain_text([first]).splitlines()
    assert lines[0] == "toy val, protocol full"
    cells = [cell.strip() for cell in lines[4].strip("|").split("|")]
    interval = first.intervals["rsum"]
    assert cells[0] == "a rather long name of a run"
    assert cells[1] == f"{first.metrics['i2t_r1']:.1f}"
    assert cells[7] == f"{first.metrics['rsum']:.1f} [{interval.low:.1f}, {interval.high:.1f}]"


def test_baselines_and_chance_stand_beside_the_run() -> None:
    rows = evaluation_grid([run("model", 2.0), run("baseline", 0.5)]).rows
    assert [row[0] for row in rows] == ["model", "baseline", "chance"]
    # 60 images: R@1, 5, 10 of a sentence that looks for its image.
    assert rows[-1][4:7] == ("1.7", "8.3", "16.7")


def test_notes_say_what_figures_depend_on() -> None:
    text = plain_text([replace(run("a", 1.0), note="the first 60 of 70 images, in file order")])
    assert "60 images, 300 sentences (5 per image), 1 fold, ties lose" in text
    assert "the first 60 of 70 images" in text
    assert corpus(60).fingerprint() in text


def test_published_figures_stand_below_the_run_with_a_verdict() -> None:
    first = run("model", 2.0)
    found = {}
    for name, figure in (("in", first.metrics["rsum"]), ("not in", 1.0)):
        details = {**first.details, PUBLISHED: {"i2t_r1": 46.3, "i2t_r5": None, "rsum": figure}}
        found[name] = evaluation_grid([replace(first, details=details)])
    assert found["in"].rows[1][:3] == ("model, published", "46.3", "-")
    for name, grid in found.items():
        assert any(f"is {name} the interval" in note for note in grid.notes)


def test_a_terminal_gets_a_table() -> None:
    stream = io.StringIO()
    grid = evaluation_grid([run("named [bold]so[/bold]", 1.0)])
    show(grid, Console(file=stream, force_terminal=True, width=140))
    assert "──" in stream.getvalue()
    assert "named [bold]so[/bold]" in stream.getvalue()  # a name is no markup


def test_different_corpora_do_not_share_a_table() -> None:
    with pytest.raises(DataError, match="one table for each"):
        evaluation_grid([run("a", 1.0), run("b", 1.0, part=corpus(59))])


def test_no_evaluation_makes_no_table() -> None:
    with pytest.raises(DataError, match="no evaluation"):
        evaluation_grid([])


def test_a_comparison_shows_sign_interval_and_p() -> None:
    found = compare(run("good", 2.0, 0), run("poor", 0.5, 1), QUICK)
    last = as_markdown(comparison_grid(found)).split("| rsum")[1].splitlines()[0]
    d = found.differences["rsum"]
    cells = [cell.strip() for cell in last.strip(" |").split("|")]
    assert cells == [f"+{d.value:.1f}", f"+{d.low:.1f} to +{d.high:.1f}", "0.0100"]


def test_a_bar_in_a_name_does_not_break_the_markdown() -> None:
    lines = as_markdown(evaluation_grid([run("a|b", 1.0)])).splitlines()
    assert lines[4].replace("\\|", "").count("|") == lines[2].count("|")


def test_json_of_evaluations_and_of_comparisons() -> None:
    first = run("a", 1.0)
    values = json.loads(json.dumps(as_json(first)))
    assert values["metrics"] == first.metrics
    assert "queries" not in values
    found = json.loads(json.dumps(plain(compare(first, first, QUICK))))
    assert found["differences"]["rsum"] == {"value": 0.0, "low": 0.0, "high": 0.0, "p_value": 1.0}
