"""Methods of several runs: means, intervals, tests, and the command that shows them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from tests.unit.test_compare import QUICK, corpus, run
from visavis.cli.main import app
from visavis.errors import DataError
from visavis.evaluation.compare import compare
from visavis.evaluation.report import differences_grid, methods_grid
from visavis.evaluation.saved import save
from visavis.evaluation.seeds import Method, read_method
from visavis.metrics.significance import Resampling


def method(name: str, strength: float, *seeds: int) -> Method:
    return Method(name, tuple(run(f"{name}{seed}", strength, seed) for seed in seeds))


def test_a_method_of_one_run_is_that_run() -> None:
    alone = run("a", 1.0)
    found = Method("a", (alone,))
    assert found.metrics == alone.metrics
    assert found.spread is None
    assert found.intervals(QUICK) == alone.intervals


def test_recalls_of_a_method_are_the_means_of_its_runs() -> None:
    found = method("a", 1.0, 0, 1, 2)
    sums = [each.metrics["rsum"] for each in found.runs]
    assert found.metrics["rsum"] == pytest.approx(sum(sums) / 3)
    assert found.spread == pytest.approx(np.std(sums) * np.sqrt(1.5))
    interval = found.intervals(QUICK)["rsum"]
    assert interval.low < found.metrics["rsum"] < interval.high


def test_the_units_of_a_method_give_its_recalls() -> None:
    found = method("a", 1.0, 0, 1)
    (units,) = found.units()
    recalls = 100 * units.hits.sum(axis=0) / units.queries.sum(axis=0)
    assert recalls.sum() == pytest.approx(found.metrics["rsum"])


def test_a_difference_of_methods_is_the_mean_of_the_differences_of_their_runs() -> None:
    first, second = method("a", 2.0, 0, 1), method("b", 1.0, 2, 3)
    found = compare(first, second, QUICK).differences["i2t_r1"]
    pairs = zip(first.runs, second.runs, strict=True)
    singles = [compare(a, b, QUICK).differences["i2t_r1"].value for a, b in pairs]
    assert found.value == pytest.approx(sum(singles) / 2)
    assert found.low < found.value < found.high


def test_more_seeds_make_a_difference_clearer() -> None:
    one = compare(method("a", 1.2, 0), method("b", 1.0, 10), QUICK).differences["rsum"]
    first, second = method("a", 1.2, *range(6)), method("b", 1.0, *range(10, 16))
    six = compare(first, second, QUICK).differences["rsum"]
    assert six.high - six.low < 0.7 * (one.high - one.low)


def test_runs_of_a_method_belong_together() -> None:
    with pytest.raises(DataError, match="corpora"):
        Method("a", (run("one", 1.0), run("other", 1.0, part=corpus(60, "word"))))
    with pytest.raises(DataError, match="tie rules"):
        Method("a", (run("one", 1.0), replace(run("other", 1.0), ties="ties win")))
    with pytest.raises(DataError, match="at least one"):
        Method("a", ())


def test_tables_hold_a_row_for_each_method() -> None:
    methods = [method("plain", 1.0, 0, 1), method("mined", 1.5, 2)]
    recalls, contrast = methods_grid(methods, QUICK), differences_grid(methods, QUICK)
    assert [row[0] for row in recalls.rows] == ["plain", "mined", "chance"]
    assert contrast.rows[0][1:3] == ("2", f"{methods[0].metrics['rsum']:.1f}")
    assert contrast.rows[0][4:] == ("", "", "")
    narrow = methods_grid(methods, Resampling(resamples=100, level=0.5))
    assert "in brackets: 50 % interval, bootstrap over images" in narrow.notes
    gain = methods[1].metrics["rsum"] - methods[0].metrics["rsum"]
    assert contrast.rows[1][3:5] == ("", f"{gain:+.1f}")


@pytest.fixture
def saved(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{name}.json" for name in ("plain", "plain_seed1", "mined")]
    for path, strength, seed in zip(paths, (1.0, 1.0, 2.0), (0, 1, 2), strict=True):
        save(run(path.stem, strength, seed), path)
    return paths


def test_methods_are_named_by_their_text_or_their_first_file(saved: list[Path]) -> None:
    both = f"{saved[0]}, {saved[1]}"
    assert read_method(both).name == "plain"
    assert read_method(f"seeds={both}").name == "seeds"
    assert [each.name for each in read_method(both).runs] == ["plain", "plain_seed1"]
    folder = saved[0].parent / "run7"
    folder.mkdir()
    save(run("x", 1.0), folder / "results.json")
    assert read_method(str(folder / "results.json")).name == "run7"
    with pytest.raises(DataError, match="no file"):
        read_method("name=")


def test_the_command_shows_means_and_differences(saved: list[Path], tmp_path: Path) -> None:
    output = tmp_path / "out.json"
    words = ["compare", f"{saved[0]},{saved[1]}", f"aoq={saved[2]}", "-o", str(output)]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert "| plain " in done.output
    assert "how far above that of plain" in done.output
    told = json.loads(output.read_text(encoding="utf-8"))
    base, other = told["methods"]
    assert [each["name"] for each in base["runs"]] == ["plain", "plain_seed1"]
    (difference,) = told["differences"]
    gain = other["metrics"]["rsum"] - base["metrics"]["rsum"]
    assert difference["differences"]["rsum"]["value"] == pytest.approx(gain)


def test_one_method_alone_is_shown_without_differences(saved: list[Path]) -> None:
    done = CliRunner().invoke(app, ["compare", str(saved[0])])
    assert done.exit_code == 0
    assert "how far above" not in done.output
    as_json = CliRunner().invoke(app, ["compare", str(saved[0]), "--json"])
    assert json.loads(as_json.output)["differences"] == []


def test_what_is_no_result_is_said_in_one_line(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["compare", str(tmp_path / "nothing.json")])
    assert done.exit_code == 1
    assert "nothing.json" in done.output
    assert len(done.output.strip().splitlines()) == 1
