"""`visavis evaluate` with several models, their mean, and re-ranking."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import Visavis
from visavis.evaluation.saved import load
from visavis.recipes.assemble import open_material
from visavis.recipes.recipe import load_recipe
from visavis.recipes.run import train


@pytest.fixture(scope="session")
def second_run(data: Path, recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the same recipe with another seed."""
    folder = tmp_path_factory.mktemp("runs") / "other"
    train(load_recipe(recipe, ["train.seed=1"]), open_material("scenes", data), folder)
    return folder


def names(said: Any) -> list[str]:
    return [entry["name"] for entry in said["evaluations"]]


def metrics(said: Any) -> list[dict[str, float]]:
    return [entry["metrics"] for entry in said["evaluations"]]


def test_two_models_and_their_mean_stand_in_one_table(
    visavis: Visavis, data: Path, run_folder: Path, second_run: Path
) -> None:
    words = ("evaluate", run_folder, second_run, "--data", data, "--ensemble", "mean")
    said = visavis(*words)
    assert (said.code, said.err) == (0, "")
    rows = [line.split("|")[1].strip() for line in said.lines if line.startswith("|")]
    assert rows[2:] == ["tiny", "other", "mean of 2", "chance"]
    assert all("[" in line for line in said.lines if "| mean of 2 " in line)  # an interval
    told = visavis(*words, "--json").json
    assert names(told) == ["tiny", "other", "mean of 2"]
    for folder, found in zip((run_folder, second_run), metrics(told), strict=False):
        alone = visavis("evaluate", folder, "--data", data, "--json").json
        assert metrics(alone) == [found]


def test_all_the_weight_on_one_model_is_that_model(
    visavis: Visavis, data: Path, run_folder: Path, second_run: Path
) -> None:
    words = ("evaluate", run_folder, second_run, "--data", data, "--ensemble", "mean", "--json")
    one, other, mean = metrics(visavis(*words, "--normalise", "z", "--weights", "0,2").json)
    assert mean == other != one


@pytest.mark.parametrize("normalise", ["min_max", "z", "rank"])
def test_each_scale_is_named_in_its_row(
    visavis: Visavis, data: Path, run_folder: Path, second_run: Path, normalise: str
) -> None:
    words = ("evaluate", run_folder, second_run, "--data", data, "--ensemble", "mean", "--json")
    said = visavis(*words, "--normalise", normalise).json
    assert names(said)[-1] == f"mean of 2, {normalise}"
    details = said["evaluations"][-1]["details"]["ensemble"]
    assert (details["normalise"], list(details["of"])) == (normalise, ["tiny", "other"])


def test_runs_of_one_name_are_told_apart(
    visavis: Visavis, data: Path, run_folder: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(run_folder, tmp_path / "tiny")
    said = visavis("evaluate", run_folder, copy, "--data", data, "--json").json
    assert names(said) == ["tiny (1)", "tiny (2)"]
    assert metrics(said)[0] == metrics(said)[1]


@pytest.mark.parametrize("neighbours", ["none", "learned"])
def test_a_row_for_each_k(visavis: Visavis, data: Path, run_folder: Path, neighbours: str) -> None:
    words = ("evaluate", run_folder, "--data", data, "--rerank", "reciprocal", "--k", "10,1,5")
    said = visavis(*words, "--neighbours", neighbours, "--json").json
    suffix = "" if neighbours == "none" else ", learned"
    assert names(said) == ["tiny", *(f"tiny RR k={k}{suffix}" for k in (1, 5, 10))]
    assert metrics(said)[0] == metrics(said)[1]  # one candidate has no other place to go
    settings = said["evaluations"][-1]["details"]["rerank"]
    group = 1 if neighbours == "none" else 5
    assert settings == {
        "method": "reciprocal",
        "of": "tiny",
        "k": 10,
        "neighbours": neighbours,
        "group": group,
    }


def test_learned_groups_of_one_are_no_neighbours(
    visavis: Visavis, data: Path, run_folder: Path
) -> None:
    words = ("evaluate", run_folder, "--data", data, "--rerank", "reciprocal", "--k", "5", "--json")
    none = metrics(visavis(*words).json)
    learned = metrics(visavis(*words, "--neighbours", "learned", "--group", "1").json)
    assert learned == none


def test_k_beyond_the_gallery_is_refused_before_the_work(
    visavis: Visavis, data: Path, run_folder: Path
) -> None:
    said = visavis("evaluate", run_folder, "--data", data, "--rerank", "reciprocal")
    assert (said.code, said.out) == (1, "")
    assert said.err == "visavis: k 15 for a gallery of 10 images; give 1 to 10\n"


def test_oracle_neighbours_say_what_they_are_everywhere(
    visavis: Visavis, data: Path, run_folder: Path, tmp_path: Path
) -> None:
    words = ("evaluate", run_folder, "--data", data, "--rerank", "reciprocal", "--k", "5")
    results = tmp_path / "results.json"
    said = visavis(*words, "--neighbours", "oracle", "--output", results)
    assert "tiny RR k=5, ORACLE (diagnostic)" in said.out
    assert "ORACLE rows were told the ground truth: a diagnostic, not a result" in said.out
    told = visavis(*words, "--neighbours", "oracle", "--json").json
    assert names(told)[-1] == "tiny RR k=5, ORACLE (diagnostic)"
    kept = load(tmp_path / "results-tiny-rr-k-5-oracle-diagnostic.json")
    assert kept.details["rerank"]["neighbours"] == "oracle"  # type: ignore[index]


def test_a_mean_is_reranked_like_a_model(
    visavis: Visavis, data: Path, run_folder: Path, second_run: Path, tmp_path: Path
) -> None:
    picture = tmp_path / "new" / "k.png"
    words = ("--ensemble", "mean", "--rerank", "reciprocal", "--k", "5,10", "--plot", picture)
    said = visavis(
        "evaluate", run_folder, second_run, "--data", data, *words, "--neighbours", "learned",
        "--protocol", "full", "--json",
    )  # fmt: skip
    assert (said.code, said.err) == (0, "")
    plain = ["tiny", "other", "mean of 2"]
    rows = [f"{name} RR k={k}, learned" for name in plain for k in (5, 10)]
    assert names(said.json) == [*plain, *rows]
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in picture.parent.iterdir()] == ["k.png"]


def test_every_row_is_saved_and_compares(
    visavis: Visavis, data: Path, run_folder: Path, tmp_path: Path
) -> None:
    results = tmp_path / "results.json"
    words = ("evaluate", run_folder, "--data", data, "--rerank", "reciprocal", "--k", "3,5")
    visavis(*words, "--output", results)
    saved = {path.name for path in tmp_path.glob("*.json")}
    assert saved == {"results.json", "results-tiny-rr-k-3.json", "results-tiny-rr-k-5.json"}
    told = visavis(*words, "--compare", results, "--json").json["comparison"]
    assert (told["first"], told["second"]) == ("tiny RR k=5", "tiny")
    gained = (
        load(tmp_path / "results-tiny-rr-k-5.json").metrics["rsum"] - load(results).metrics["rsum"]
    )
    assert told["differences"]["rsum"]["value"] == pytest.approx(gained)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--rerank", "reciprokal"], "--rerank 'reciprokal' is not known; did you mean"),
        (["--rerank", "reciprocal", "--neighbours", "true"], "known: learned, none, oracle"),
        (["--rerank", "reciprocal", "--k", "5;10"], "--k '5;10'; give numbers with commas"),
        (["--rerank", "reciprocal", "--k", "0,5"], "--k 0; give numbers from 1 on"),
        (["--k", "5"], "belong to --rerank reciprocal; add it"),
        (["--neighbours", "none"], "belong to --rerank reciprocal; add it"),
        (["--normalise", "z"], "belong to --ensemble mean; add it"),
        (["--ensemble", "mean"], "--ensemble mean of one model; name two or more"),
        (["second", "--ensemble", "sum"], "--ensemble 'sum' is not known; known: mean"),
        (["second", "--ensemble", "mean", "--normalise", "l2"], "known: min_max, none, rank, z"),
        (["second", "--ensemble", "mean", "--weights", "1,2,3"], "3 weights for 2 models"),
        (["second", "--ensemble", "mean", "--weights", "1,-2"], "weights 1, -2; expected numbers"),
        (["second", "--ensemble", "mean", "--weights", "1,x"], "--weights '1,x'; give numbers"),
        (["--plot", "k.png"], "--plot draws figures against K; add --rerank reciprocal"),
        (["--rerank", "reciprocal", "--plot", "k.pdf"], "the name of a picture ends in .png"),
    ],
)
def test_options_that_do_not_fit_are_refused_in_a_line(
    visavis: Visavis, tmp_path: Path, words: list[str], said: str
) -> None:
    found = visavis("evaluate", "no-model-is-looked-for", *words)
    assert (found.code, found.out) == (1, "")
    assert found.err.count("\n") == 1
    assert said in found.err
