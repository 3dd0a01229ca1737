"""Recipes: strict, nothing is executed, and every one that is shipped can be read."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch.nn import Module

from tests.tiny_corpus import tiny_material, tiny_recipe
from visavis.config import plain
from visavis.errors import RecipeError
from visavis.recipes.assemble import assemble, hold_out
from visavis.recipes.recipe import load_recipe, parse_recipe, save_recipe, settings
from visavis.training.config import ScheduleConfig

ROOT = Path(__file__).parents[2]
SHIPPED = sorted([*(ROOT / "recipes").rglob("*.yaml"), *(ROOT / "src").rglob("*.yaml")])
LEAST: dict[str, Any] = {"source": "a test", "model": {"name": "vse"}, "data": {"corpus": "tiny"}}


def written(folder: Path, text: str) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def error_of(values: dict[str, Any]) -> str:
    with pytest.raises(RecipeError) as caught:
        parse_recipe({**LEAST, **values})
    assert "\n" not in str(caught.value)
    return str(caught.value)


def load_error(path: Path, *overrides: str) -> str:
    with pytest.raises(RecipeError) as caught:
        load_recipe(path, overrides)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_recipes_are_shipped() -> None:
    assert len(SHIPPED) >= 3
    assert {path.parent.name for path in SHIPPED} >= {"vse", "scan", "recipes"}


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_shipped_recipe_can_be_read_and_written(path: Path, tmp_path: Path) -> None:
    recipe = load_recipe(path)
    assert recipe.source
    save_recipe(recipe, tmp_path / "again.yaml")
    assert load_recipe(tmp_path / "again.yaml") == recipe


def test_what_a_recipe_leaves_out_has_a_default() -> None:
    recipe = parse_recipe(LEAST)
    assert recipe.train.epochs == 30
    assert recipe.data.train == ("train",)
    assert recipe.objective.loss == "hardest_hinge"
    assert recipe.train.schedule == ScheduleConfig()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"modle": {}}, "modle: unknown key; did you mean 'model'?"),
        ({"train": {"epoch": 3}}, "train.epoch: unknown key; did you mean 'epochs'?"),
        (
            {"train": {"schedule": {"nam": "step"}}},
            "train.schedule.nam: unknown key; did you mean 'name'?",
        ),
        ({"train": {"epochs": 0}}, "train: epochs must be at least 1, got 0"),
        ({"train": {"epochs": "3"}}, "train.epochs: expected int, got str '3'"),
        ({"train": {"lr": ".nan"}}, "train.lr: expected float, got str '.nan'"),
        (
            {"train": {"schedule": {"name": "cosin"}}},
            "train.schedule.name: 'cosin' is not a choice; did you mean 'cosine'?",
        ),
        (
            {"objective": {"loss": "hardest_hing"}},
            "objective.loss: no loss 'hardest_hing'; did you mean 'hardest_hinge'?",
        ),
        ({"model": {"name": "scna"}}, "model.name: no model 'scna'; did you mean 'scan'?"),
        ({"model": {}}, "model.name: missing; say which model"),
        (
            {"model": {"name": "scan", "lamda_lse": 6}},
            "model.lamda_lse: unknown key; did you mean 'lambda_lse'?",
        ),
        (
            {"model": {"name": "scan", "text": {"word_dims": 6}}},
            "model.text.word_dims: unknown key; did you mean 'word_dim'?",
        ),
        (
            {"model": {"name": "scan", "vocab_size": 5}},
            "model.vocab_size: decided by the data; remove it from the recipe",
        ),
        ({"data": {}}, "data.corpus: missing; data needs it"),
        ({"data": {"corpus": "x", "train": "train"}}, "data.train: expected a list, got str"),
        ({"data": {"corpus": "x", "hold_out": -5}}, "data: hold_out must be at least 0, got -5"),
        ({"source": 2018}, "source: expected str, got int 2018"),
        ({"stages": {"name": "a"}}, "stages: expected a list, got dict"),
        ({"stages": [{}]}, "stages[0].name: missing"),
        ({"stages": [{"name": "a b"}]}, "stages[0]: name must be letters, digits, _ and -"),
        ({"stages": [{"name": "../a"}]}, "stages[0]: name must be letters, digits, _ and -"),
        ({"stages": [{"name": "a", "strat": "x"}]}, "stages[0].strat: unknown key; did you mean"),
        ({"stages": [{"name": "a", "start": "x"}]}, "stages[0].start: 'x' is not a choice"),
        (
            {"stages": [{"name": "a"}, {"name": "a"}]},
            "stages[1].name: 'a' is the name of two stages",
        ),
        (
            {"stages": [{"name": "a", "freeze": ["text"], "only": ["project"]}]},
            "stages[0]: freeze and only exclude each other",
        ),
        (
            {"stages": [{"name": "a"}, {"name": "b", "train": {"lrr": 1}}]},
            "stages[1].train.lrr: unknown key; did you mean 'lr'?",
        ),
        (
            {"stages": [{"name": "a", "train": {"schedule": {"nam": "step"}}}]},
            "stages[0].train.schedule.nam: unknown key; did you mean 'name'?",
        ),
        (
            {"stages": [{"name": "a", "train": {"epochs": 0}}]},
            "stages[0].train: epochs must be at least 1, got 0",
        ),
        (
            {"stages": [{"name": "a", "objective": {"loss": "sum_hing"}}]},
            "stages[0].objective.loss: no loss 'sum_hing'; did you mean 'sum_hinge'?",
        ),
        (
            {"objective": {"warmup": "contrast"}},
            "objective.warmup: no loss 'contrast'; did you mean 'contrastive'?",
        ),
        (
            {"stages": [{"name": "a", "model": {"dimm": 3}}]},
            "stages[0].model.dimm: unknown key; did you mean 'dim'?",
        ),
        (
            {"stages": [{"name": "a", "model": {"name": "scan"}}]},
            "stages[0].model.name: all stages train one model",
        ),
    ],
)
def test_what_cannot_be_used_is_refused(values: dict[str, Any], message: str) -> None:
    assert error_of(values).startswith(message)


def test_a_recipe_needs_its_source() -> None:
    with pytest.raises(RecipeError, match="source: missing"):
        parse_recipe({"model": {"name": "vse"}, "data": {"corpus": "tiny"}})


def test_overrides_replace_values_and_are_read_as_yaml(tmp_path: Path) -> None:
    path = written(tmp_path, yaml.safe_dump(LEAST))
    recipe = load_recipe(
        path,
        [
            "train.epochs=3",
            "train.lr=2e-4",
            "train.schedule.name=cosine",
            "model.text.bidirectional=true",
            "data.train=[train, restval]",
            "source=a = b",
        ],
    )
    assert recipe.train.epochs == 3
    assert recipe.train.lr == pytest.approx(0.0002)
    assert recipe.train.schedule.name == "cosine"
    assert recipe.model["text"] == {"bidirectional": True}
    assert recipe.data.train == ("train", "restval")
    assert recipe.source == "a = b"


STAGED = {**LEAST, "stages": [{"name": "one"}, {"name": "two", "train": {"lr": 0.5}}]}


def test_a_stage_replaces_single_settings_and_keeps_the_others() -> None:
    values = {
        **LEAST,
        "model": {"name": "vse", "dim": 16, "text": {"word_dim": 5, "dropout": 0.1}},
        "objective": {"margin": 0.3},
        "train": {"lr": 0.1, "schedule": {"name": "cosine", "warmup_steps": 7}},
        "stages": [
            {"name": "one", "model": {"text": {"dropout": 0.4}}},
            {
                "name": "two",
                "objective": {"warmup_epochs": 2},
                "train": {"optimizer": "sgd", "momentum": 0.9, "schedule": {"name": "constant"}},
            },
        ],
    }
    recipe = parse_recipe(values)
    first, second = recipe.of_stage(0), recipe.of_stage(1)
    assert first.model == {"name": "vse", "dim": 16, "text": {"word_dim": 5, "dropout": 0.4}}
    assert first.train == recipe.train
    assert second.model == recipe.model
    assert (second.objective.margin, second.objective.warmup_epochs) == (0.3, 2)
    assert (second.train.optimizer, second.train.momentum, second.train.lr) == ("sgd", 0.9, 0.1)
    assert second.train.schedule == ScheduleConfig(name="constant", warmup_steps=7)
    assert first.stages == ()


def test_a_recipe_with_stages_can_be_written_and_read(tmp_path: Path) -> None:
    recipe = parse_recipe(STAGED)
    save_recipe(recipe, tmp_path / "again.yaml")
    assert load_recipe(tmp_path / "again.yaml") == recipe


def test_an_override_reaches_a_stage_by_its_name(tmp_path: Path) -> None:
    path = written(tmp_path, yaml.safe_dump(STAGED))
    recipe = load_recipe(path, ["stages.two.train.epochs=3", "train.epochs=5"])
    assert recipe.of_stage(0).train.epochs == 5
    assert recipe.of_stage(1).train.epochs == 3
    assert recipe.of_stage(1).train.lr == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("stages.tow.train.epochs=3", "--set: the list has nothing named 'tow'; did you mean"),
        ("stages.two=3", "--set stages.two=3: stages is a list; name one of its entries"),
        ("stages.two.name.x=3", "--set stages.two.name.x=3: name is a value, it has no keys"),
        ("stages.two.train.epoch=3", "stages[1].train.epoch: unknown key; did you mean 'epochs'?"),
    ],
)
def test_an_override_that_misses_a_stage_is_refused(
    tmp_path: Path, override: str, message: str
) -> None:
    assert message in load_error(written(tmp_path, yaml.safe_dump(STAGED)), override)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.epochs", "--set train.epochs: expected key.sub=value"),
        ("=3", "--set =3: expected key.sub=value"),
        ("train.epochs=[", "--set train.epochs=[: the value is not YAML"),
        ("train.epochs=!!python/name:os.system", "--set train.epochs=!!python/name:os.system"),
        ("source.x=3", "--set source.x=3: source is a value, it has no keys"),
        ("train.epoch=3", "train.epoch: unknown key; did you mean 'epochs'?"),
        ("train.epochs=many", "train.epochs: expected int, got str 'many'"),
        ("..=3", ": unknown key"),
    ],
)
def test_an_override_that_cannot_be_used_is_refused(
    tmp_path: Path, override: str, message: str
) -> None:
    assert message in load_error(written(tmp_path, yaml.safe_dump(LEAST)), override)


def test_settings_are_nested_values() -> None:
    assert settings(["a.b=1", "a.c=x", "d=[1, 2]"]) == {"a": {"b": 1, "c": "x"}, "d": [1, 2]}


@pytest.mark.parametrize(
    "tag",
    [
        "!!python/object/apply:os.system ['touch {path}']",
        "!!python/object/new:pathlib.Path ['{path}']",
        "!!python/name:os.system",
        "!!python/object:tests.tiny_corpus.Trap {{}}",
        "!Thing {{}}",
    ],
)
def test_a_tag_that_would_be_executed_is_refused(tmp_path: Path, tag: str) -> None:
    sprung = tmp_path / "sprung"
    text = f"source: {tag.format(path=sprung)}\nmodel: {{name: vse}}\ndata: {{corpus: x}}\n"
    assert "not YAML (could not determine a constructor" in load_error(written(tmp_path, text))
    assert not sprung.exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1", "not YAML"),
        ("- 1\n- 2", "expected keys and values at the top, got list"),
        ("", "expected keys and values at the top, got NoneType"),
        ("just words", "expected keys and values at the top, got str"),
        ("source: a\nsource: b", "not YAML (the key 'source' stands twice"),
        ("train: {epochs: 1, epochs: 2}", "not YAML (the key 'epochs' stands twice"),
        ("source: 2020-13-45", "not YAML (month must be in 1..12"),
        ("[" * 1500, "not YAML"),
        ("? [a]\n: 1", "not YAML"),
    ],
)
def test_a_file_that_is_no_recipe_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    assert message in load_error(written(tmp_path, text))


def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    assert "no such recipe" in load_error(tmp_path / "absent.yaml")
    assert "cannot be read (Is a directory)" in load_error(tmp_path)
    (tmp_path / "latin.yaml").write_bytes("source: Gr\xfc\xdfe".encode("latin-1"))
    assert "not YAML" in load_error(tmp_path / "latin.yaml")


def test_values_merged_from_an_anchor_may_be_replaced(tmp_path: Path) -> None:
    text = (
        "source: a\nmodel: {name: vse, text: &base {word_dim: 5, dropout: 0.1}}\n"
        "data: {corpus: x}\n"
    )
    recipe = load_recipe(
        written(tmp_path, text + "tokenizer: {<<: {threshold: 2, max_words: 9}, threshold: 3}\n")
    )
    assert (recipe.tokenizer.threshold, recipe.tokenizer.max_words) == (3, 9)


def test_the_model_comes_from_the_seed_alone() -> None:
    material = tiny_material()
    recipe = tiny_recipe(seed=5)
    first = assemble(recipe, material)
    torch.rand(10)
    second = assemble(recipe, material)
    other = assemble(tiny_recipe(seed=6), material)

    def weights(model: Module) -> torch.Tensor:
        return torch.cat([weight.flatten() for weight in model.parameters()])

    assert torch.equal(weights(first.pretrained.model), weights(second.pretrained.model))
    assert not torch.equal(weights(first.pretrained.model), weights(other.pretrained.model))


def test_the_vocabulary_comes_from_the_training_sentences_alone() -> None:
    material = tiny_material(images=2)
    assembly = assemble(tiny_recipe(), material)
    # The two training images show a red dog and a green cat.
    batch = assembly.pretrained.tokenizer.encode(["a red dog", "a white horse"])
    unknown = assembly.pretrained.tokenizer.encode(["zzz"]).ids[0, 1]
    assert unknown not in batch.ids[0]
    assert batch.ids[1].tolist().count(int(unknown)) == 2


def test_held_out_images_are_the_same_for_every_seed_and_not_trained_on() -> None:
    training = tiny_material().corpus.split("train")
    kept, held = hold_out(training, 5)
    assert len(held.image_ids) == 5
    assert not set(kept.image_ids) & set(held.image_ids)
    assert not set(kept.sentence_ids) & set(held.sentence_ids)
    assert set(kept.image_ids) | set(held.image_ids) == set(training.image_ids)
    assert hold_out(training, 5)[1].image_ids == held.image_ids


def test_holding_out_every_image_is_refused() -> None:
    recipe = tiny_recipe()
    values = {**plain(recipe), "data": {"corpus": "tiny", "hold_out": 24}}
    with pytest.raises(RecipeError, match="hold_out: 24 of 24 training images leaves none"):
        assemble(parse_recipe(values), tiny_material())


def test_held_out_images_take_the_place_of_the_selection_split() -> None:
    data = dataclasses.replace(tiny_recipe().data, hold_out=4)
    assembly = assemble(dataclasses.replace(tiny_recipe(), data=data), tiny_material())
    assert len(assembly.selection.image_ids) == 4
    assert len(assembly.source.corpus.image_ids) == 20
    assert set(assembly.report.image_splits) == {"test"}


@pytest.mark.parametrize("data", [{"report": "train"}, {"select": "train"}])
def test_figures_on_training_images_are_refused(data: dict[str, str]) -> None:
    with pytest.raises(RecipeError, match="'train' is trained on; figures need unseen images"):
        parse_recipe({"source": "", "model": {"name": "vse"}, "data": {"corpus": "x", **data}})


def test_held_out_images_may_come_from_train() -> None:
    data = {"corpus": "x", "select": "train", "hold_out": 5}
    assert parse_recipe({"source": "", "model": {"name": "vse"}, "data": data}).data.hold_out == 5


def test_published_figures_are_of_known_metrics() -> None:
    assert (
        error_of({"expected": {"rsun": 400.0}}) == "expected.rsun: no metric; did you mean 'rsum'?"
    )
