"""Training curves from logs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from visavis.errors import DataError
from visavis.explain.charts import colour, marker
from visavis.explain.training_curves import curves_of, draw_training
from visavis.recipes.beside import log_of, recipe_of
from visavis.recipes.curves import curves_grid, read_curves
from visavis.recipes.recipe import parse_recipe, save_recipe

LINES: list[dict[str, Any]] = [
    {"event": "train", "step": 1, "epoch": 0, "loss": 9.0},
    {"event": "train", "step": 2, "epoch": 0, "loss": 7.0},
    {"event": "validation", "step": 2, "epoch": 0, "rsum": 100.0, "i2t_r1": 20, "t2i_r1": 10.5},
    {"event": "train", "step": 3, "epoch": 1, "loss": 4.0},
    {"event": "validation", "step": 4, "epoch": 1, "rsum": 140.0, "i2t_r1": 30, "t2i_r1": 12.5},
    {"event": "validation", "step": 6, "epoch": 2, "rsum": 140.0, "i2t_r1": 29, "t2i_r1": 13.5},
]


def write(folder: Path, lines: list[dict[str, Any]]) -> Path:
    folder.mkdir(parents=True)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_lines_are_gathered_by_epoch() -> None:
    found = curves_of("run", LINES)
    assert found.loss == ((1, 8.0), (2, 4.0))
    assert found.rsum == ((1, 100.0), (2, 140.0), (3, 140.0))
    assert found.i2t_r1 == ((1, 20.0), (2, 30.0), (3, 29.0))
    assert found.t2i_r1[0] == (1, 10.5)
    assert found.best == (2, 140.0)  # the first of equal ones, as training keeps it


def test_of_a_run_with_stages_the_last_is_read(tmp_path: Path) -> None:
    run = tmp_path / "run"
    for number in range(1, 12):
        write(run / "stages" / f"{number}-part{number}", LINES[:3] if number < 11 else LINES)
    (found,) = read_curves([str(run)], ["run"])
    assert (found.name, len(found.rsum)) == ("run, stage part11", 3)
    first = run / "stages" / "1-part1"
    (alone,) = read_curves([str(first)], ["1-part1"])
    assert (alone.name, len(alone.rsum)) == ("1-part1", 1)
    assert log_of(str(run)).parent.name == "11-part11"


def test_the_recipe_of_a_stage_is_its_own(tmp_path: Path) -> None:
    recipe = parse_recipe(
        {
            "source": "a test",
            "model": {"name": "vse"},
            "data": {"corpus": "tiny"},
            "objective": {"loss": "sum_hinge"},
            "stages": [{"name": "one"}, {"name": "two", "objective": {"loss": "bce"}}],
        }
    )
    save_recipe(recipe, tmp_path / "recipe.yaml")
    first = tmp_path / "stages" / "1-one"
    (first / "best").mkdir(parents=True)
    found = [recipe_of(str(place)) for place in (tmp_path, first, first / "best")]
    assert [one.objective.loss for one in found if one] == ["bce", "sum_hinge", "sum_hinge"]
    assert recipe_of(str(tmp_path / "nothing")) is None
    assert recipe_of("owner/model") is None


def test_runs_of_one_name_are_told_apart(tmp_path: Path) -> None:
    runs = [str(write(tmp_path / seed / "run", LINES)) for seed in "ab"]
    assert [run.name for run in read_curves(runs, ["run", "run"])] == ["run (1)", "run (2)"]


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    for lines, message in (
        ([], "no epoch yet"),
        ([{"event": "train", "epoch": 0}], "none of a training"),
        ([{"loss": 3}], "none of a training"),
    ):
        folder = write(tmp_path / f"run{len(list(tmp_path.iterdir()))}", lines)
        with pytest.raises(DataError, match=message):
            read_curves([str(folder)], ["run"])
    with pytest.raises(DataError, match=r"no metrics.jsonl there"):
        read_curves([str(tmp_path)], ["run"])


def test_the_figure_has_a_line_for_each_run_and_what_it_is_of() -> None:
    runs = (curves_of("plain", LINES), curves_of("AOQ", LINES[:5]))
    loss, rsum, recall = draw_training(runs, ("title", "note")).axes
    assert len(loss.lines) == 2
    assert len(rsum.lines) == 2 + 2  # a star each
    assert len(recall.lines) == 4
    assert [row[0] for row in curves_grid(runs).rows] == ["plain", "AOQ"]
    assert curves_grid(runs).rows[0][1:] == ("3", "4", "140.0", "2")


def test_the_looks_of_many_lines_differ() -> None:
    assert len({(colour(number), marker(number)) for number in range(42)}) == 42
