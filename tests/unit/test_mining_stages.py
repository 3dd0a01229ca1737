"""Two rounds as one recipe: what is mined between them, what the second one reads."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.pages import ROOT
from tests.tiny_corpus import tiny_material, tiny_recipe
from visavis.cli.main import app
from visavis.config import plain
from visavis.data.negatives import load_negatives
from visavis.errors import DataError, RecipeError
from visavis.mining.settings import MineConfig
from visavis.models.pretrained import Pretrained
from visavis.recipes import mining
from visavis.recipes.assemble import Material
from visavis.recipes.mining import negatives_by
from visavis.recipes.recipe import Recipe, load_recipe, parse_recipe
from visavis.recipes.run import Outcome, train
from visavis.training.log import read_metrics

MATERIAL = tiny_material()
OFFLINE = {"offline": {"loss": "adaptive_quintuplet"}}


def two_rounds(second: dict[str, Any] | None = None, **settings: Any) -> Recipe:
    values = {
        "name": "two",
        "start": "scratch",
        "mine": {"h": 10},
        "objective": {"warmup_epochs": 0, **OFFLINE},
        **(second or {}),
    }
    first = plain(tiny_recipe(epochs=1, **settings))
    return parse_recipe({**first, "stages": [{"name": "one"}, values]})


def run(folder: Path, second: dict[str, Any] | None = None) -> Outcome:
    return train(two_rounds(second), MATERIAL, folder, show_progress=False)


def test_the_second_round_reads_what_the_first_ones_best_model_finds(tmp_path: Path) -> None:
    run(tmp_path)
    path = tmp_path / "stages" / "2-two" / "negatives.safetensors"
    found = load_negatives(path)
    corpus = MATERIAL.corpus.split("train")
    found.check(corpus, str(path))
    assert found.sentences.shape == (24, 10)
    assert found.images.shape == (48, 5)  # two sentences an image
    miner = Pretrained.from_pretrained(tmp_path / "stages" / "1-one")
    part = Material(corpus, MATERIAL.features)
    again = negatives_by(miner, part, MineConfig(h=10), tmp_path / "again")
    assert (again.sentences == found.sentences).all()
    lines = read_metrics(tmp_path / "stages" / "2-two" / "metrics.jsonl")
    assert {"ranking", "offline"} <= set(lines[0])
    assert "offline" not in read_metrics(tmp_path / "stages" / "1-one" / "metrics.jsonl")[0]


def test_a_second_round_warms_up_exactly_as_the_first_one_did(tmp_path: Path) -> None:
    second = {"objective": {"warmup_epochs": 1, **OFFLINE}, "train": {"epochs": 2}}
    recipe = two_rounds(second, drop_words=0.3, drop_regions=0.3, schedule={"name": "constant"})
    train(recipe, MATERIAL, tmp_path, show_progress=False)
    one, two = (
        read_metrics(tmp_path / "stages" / name / "metrics.jsonl") for name in ("1-one", "2-two")
    )
    said = ("epoch", "step", "loss", "rsum")
    first, again = ([[line.get(key) for key in said] for line in lines] for lines in (one, two))
    assert again[: len(first)] == first
    assert {line["epoch"] for line in two if "offline" in line} == {1}


def test_what_was_mined_is_not_mined_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(tmp_path)
    for name in ("states", "tensorboard"):
        shutil.rmtree(tmp_path / "stages" / "2-two" / name)
    (tmp_path / "stages" / "2-two" / "result.json").unlink()
    (tmp_path / "results.json").unlink()
    monkeypatch.setattr(mining, "mine", None)  # calling it would fail
    run(tmp_path)


def test_another_miner_is_mined_with_anew(tmp_path: Path) -> None:
    corpus = MATERIAL.corpus.split("train")
    run(tmp_path)
    first = Pretrained.from_pretrained(tmp_path / "stages" / "1-one")
    second = Pretrained.from_pretrained(tmp_path)
    part = Material(corpus, MATERIAL.features)
    path = tmp_path / "mined"
    one = negatives_by(first, part, MineConfig(h=10), path)
    two = negatives_by(second, part, MineConfig(h=10), path)
    assert one.about["miner"]["digest"] != two.about["miner"]["digest"]
    assert load_negatives(path).about == two.about


@pytest.mark.parametrize(
    "second",
    [
        {"start": "previous"},
        {"objective": {"offline": {"loss": "off_triplet"}, "warmup_epochs": 0}},
        {"mine": {"h": 10, "draw": {"range_max": 4, "coupled": True, "absolute_margin": 0.0}}},
        {"train": {"sentences_per_image": 7}},
    ],
)
def test_variants_of_the_second_round_train(tmp_path: Path, second: dict[str, Any]) -> None:
    assert run(tmp_path, second).trained


def test_a_teacher_a_cheap_first_step_and_a_file_can_be_named(tmp_path: Path) -> None:
    run(tmp_path / "teacher")
    named = str(tmp_path / "teacher")
    by_teacher = {"mine": {"by": named, "h": 10, "first": named, "candidates": 20}}
    run(tmp_path / "student", by_teacher)
    file = tmp_path / "student" / "stages" / "2-two" / "negatives.safetensors"
    assert load_negatives(file).about["candidates"] == 20
    assert not list(file.parent.glob("*first*"))
    single = plain(tiny_recipe(epochs=1))
    stage = {"name": "only", "start": "scratch", "mine": {"by": str(file)}, "objective": OFFLINE}
    recipe = parse_recipe({**single, "stages": [stage]})
    assert train(recipe, MATERIAL, tmp_path / "single", show_progress=False).trained


def test_what_cannot_be_mined_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"stages\[1\].mine: 'nothing' is neither"):
        run(tmp_path, {"mine": {"by": "nothing"}})
    run(tmp_path / "other")
    file = tmp_path / "other" / "stages" / "2-two" / "negatives.safetensors"
    larger = tiny_material(images=25)
    with pytest.raises(DataError, match="mined from another corpus"):
        train(two_rounds({"mine": {"by": str(file)}}), larger, tmp_path / "x", show_progress=False)
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ({}, {"mine": None}, r"stages\[1\].mine: missing"),
        ({}, {"objective": {}}, r"stages\[1\].objective.offline.loss: missing"),
        ({"objective": OFFLINE, "mine": {}}, {}, r"stages\[0\].mine.by: no stage before"),
        ({}, {"mine": {"hh": 3}}, r"stages\[1\].mine.hh: unknown key; did you mean 'h'"),
    ],
)
def test_a_recipe_says_where_its_negatives_come_from(
    first: dict[str, Any], second: dict[str, Any], message: str
) -> None:
    base = plain(tiny_recipe(epochs=1))
    two = {"name": "two", "mine": {}, "objective": OFFLINE, **second}
    with pytest.raises(RecipeError, match=message):
        parse_recipe({**base, "stages": [{"name": "one", **first}, two]})
    with pytest.raises(RecipeError, match="write stages, one with a mine"):
        parse_recipe({**base, "objective": OFFLINE, "stages": []})


def test_the_command_mines_limits_and_reports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tmp_path / "run")
    monkeypatch.setattr("visavis.recipes.assemble.open_material", lambda *_: MATERIAL)
    words = ["mine", str(tmp_path / "run"), "-o", str(tmp_path / "m"), "--data", str(tmp_path)]
    more = ["--h", "6", "--published", str(tmp_path / "lists"), "--json"]
    done = CliRunner().invoke(app, [*words, *more, "--suspects", str(tmp_path / "s.json")])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert (told["h"], told["images"]) == (6, 3)
    assert (
        load_negatives(tmp_path / "lists").sentences == load_negatives(tmp_path / "m").sentences
    ).all()
    report = json.loads((tmp_path / "s.json").read_text())
    assert report["counts"] == told["suspects"]
    assert sum(report["counts"].values()) == len(report["suspects"])
    limited = CliRunner().invoke(app, [*words, "--range-max", "6", "--absolute-margin", "0.05"])
    assert limited.exit_code == 0, limited.output
    assert "6 sentences for each of 24 images" in limited.stdout
    scores = load_negatives(tmp_path / "m").sentence_scores
    assert scores is not None
    assert (scores == float("-inf")).any()


def test_the_command_mines_where_the_run_was_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = plain(tiny_recipe(epochs=1))
    recipe = parse_recipe({**values, "data": {"corpus": "tiny", "hold_out": 8}})
    train(recipe, MATERIAL, tmp_path / "run", show_progress=False)
    monkeypatch.setattr("visavis.recipes.assemble.open_material", lambda *_: MATERIAL)
    words = ["mine", str(tmp_path / "run"), "-o", str(tmp_path / "m"), "--data", str(tmp_path)]
    for more, images in (([], 16), (["--hold-out", "0"], 24), (["--split", "val"], 6)):
        done = CliRunner().invoke(app, [*words, "--h", "6", *more])
        assert done.exit_code == 0, done.output
        assert f"for each of {images} images" in done.stdout
    mined = {"name": "only", "start": "scratch", "mine": {"by": str(tmp_path / "m")}}
    CliRunner().invoke(app, [*words, "--h", "6"])
    again = parse_recipe(
        {**plain(recipe), "stages": [{**mined, "objective": {"warmup_epochs": 0, **OFFLINE}}]}
    )
    assert train(again, MATERIAL, tmp_path / "again", show_progress=False).result.epochs == 1


@pytest.mark.parametrize(
    "path", sorted((ROOT / "recipes" / "aoq").glob("*.yaml")), ids=lambda p: p.stem
)
def test_recipes_of_the_paper_can_be_read(path: Path) -> None:
    recipe = load_recipe(path)
    assert recipe.source
    assert path.read_text().startswith(f"# visavis train recipes/aoq/{path.name}")
