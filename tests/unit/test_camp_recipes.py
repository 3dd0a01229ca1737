"""CAMP: recipes of every row of its tables, and the stages of a training."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tiny_corpus import tiny_material, tiny_recipe
from visavis.config import plain
from visavis.models.camp import Camp, CampConfig
from visavis.recipes.recipe import load_recipe, parse_recipe
from visavis.recipes.run import train
from visavis.training.freeze import freeze

RECIPES = sorted((Path(__file__).parents[2] / "recipes" / "camp").glob("*.yaml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_can_be_trained_and_its_figures_add_up(path: Path) -> None:
    recipe = load_recipe(path)
    for number, stage in enumerate(recipe.stages):
        config = recipe.of_stage(number).model_config(region_dim=4, vocab_size=5)
        model = Camp(CampConfig(**{**vars(config), "dim": 8}))
        if stage.only or stage.freeze:
            freeze(model, stage.only or stage.freeze, "stage", others=bool(stage.only))
    six = [value for name, value in recipe.expected.items() if name != "rsum"]
    if recipe.expected:
        assert len(six) == 6
        assert sum(value or 0.0 for value in six) == pytest.approx(
            recipe.expected["rsum"], abs=0.05
        )


def test_every_row_of_the_tables_has_a_recipe() -> None:
    rows = {"coco_1k", "coco_5k", "f30k", "f30k_code", "flickr8k"}
    assert {path.stem for path in RECIPES} >= rows
    assert len([path for path in RECIPES if path.stem.startswith("f30k_")]) == 11 + 1


@pytest.mark.parametrize("name", ["f30k_code", "flickr8k"])
def test_the_stages_of_a_recipe_follow_each_other(name: str, tmp_path: Path) -> None:
    recipe = plain(load_recipe(Path(__file__).parents[2] / "recipes" / "camp" / f"{name}.yaml"))
    recipe["model"] |= {"dim": 8, "text": {"word_dim": 6}}
    recipe["data"] = plain(tiny_recipe(epochs=1).data)
    recipe["tokenizer"] = {"threshold": 1}
    for stage in recipe["stages"]:
        stage["train"] |= {"epochs": 1, "batch_size": 8}
    outcome = train(parse_recipe(recipe), tiny_material(), tmp_path, show_progress=False)
    assert len(list((tmp_path / "stages").iterdir())) == 3
    assert outcome.result.epochs == 1
    assert 0 < outcome.result.best_rsum <= 600
