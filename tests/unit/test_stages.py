"""Trainings that follow each other: where they lie, what they start from, what they leave alone."""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.tiny_corpus import tiny_material, tiny_recipe
from visavis.config import plain
from visavis.errors import DataError, RecipeError
from visavis.models.pretrained import Pretrained
from visavis.recipes.assemble import assemble, restarted
from visavis.recipes.recipe import Recipe, parse_recipe
from visavis.recipes.run import Outcome, train
from visavis.training.checkpoint import load_state, states
from visavis.training.log import read_metrics
from visavis.training.loop import Trainer

MATERIAL = tiny_material()


def staged(*stages: dict[str, Any], **settings: Any) -> Recipe:
    """The tiny recipe with stages of one epoch."""
    return parse_recipe({**plain(tiny_recipe(epochs=1, **settings)), "stages": list(stages)})


def run(folder: Path, *stages: dict[str, Any], **settings: Any) -> Outcome:
    return train(staged(*stages, **settings), MATERIAL, folder, show_progress=False)


def weights_of(folder: Path) -> dict[str, Tensor]:
    found: dict[str, Tensor] = Pretrained.from_pretrained(folder, device="cpu").model.state_dict()
    return found


def last_weights(folder: Path) -> dict[str, Tensor]:
    found: dict[str, Tensor] = load_state(states(folder / "states")[-1])["model"]
    return found


def starting_weights(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Tensor]]:
    """Filled with the weights that each trainer begins with."""
    seen: list[dict[str, Tensor]] = []
    real = Trainer.run

    def started(self: Trainer, *, show_progress: bool | None = None) -> Any:
        seen.append({name: value.clone() for name, value in self.model.state_dict().items()})
        return real(self, show_progress=show_progress)

    monkeypatch.setattr(Trainer, "run", started)
    return seen


def same(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[key], right[key]) for key in left)


def test_each_stage_has_its_folder_and_the_last_best_model_is_the_runs(tmp_path: Path) -> None:
    outcome = run(tmp_path, {"name": "one"}, {"name": "two", "train": {"epochs": 2}})
    assert sorted(path.name for path in (tmp_path / "stages").iterdir()) == ["1-one", "2-two"]
    found = {path.relative_to(tmp_path).as_posix() for path in tmp_path.glob("stages/*/*")}
    for name in ("1-one", "2-two"):
        assert {f"stages/{name}/{part}" for part in ("states", "metrics.jsonl", "result.json")} <= (
            found
        )
    assert "stages/1-one/best" in found
    assert "stages/2-two/best" not in found
    assert not (tmp_path / "states").exists()
    assert Pretrained.from_pretrained(tmp_path).details["stage"] == "two"
    assert Pretrained.from_pretrained(tmp_path / "stages" / "1-one").details["stage"] == "one"
    details = json.loads((tmp_path / "results.json").read_text())["details"]
    assert {name: result["epochs"] for name, result in details["stages"].items()} == {
        "one": 1,
        "two": 2,
    }
    assert details["training"] == details["stages"]["two"] == plain(outcome.result)


def test_every_line_of_a_stages_log_names_it(tmp_path: Path) -> None:
    run(tmp_path, {"name": "one"}, {"name": "two"})
    for name in ("1-one", "2-two"):
        found = read_metrics(tmp_path / "stages" / name / "metrics.jsonl")
        assert {line["stage"] for line in found} == {name[2:]}
        assert found[0]["step"] == 1


def test_without_stages_the_run_folder_is_as_ever(tmp_path: Path) -> None:
    train(tiny_recipe(epochs=1), MATERIAL, tmp_path, show_progress=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "best",
        "env.json",
        "metrics.jsonl",
        "recipe.yaml",
        "results.json",
        "results.ranks.npz",
        "run.json",
        "states",
        "tensorboard",
    ]
    assert "stage" not in read_metrics(tmp_path / "metrics.jsonl")[0]
    details = json.loads((tmp_path / "results.json").read_text())["details"]
    assert "stages" not in details
    assert "stage" not in Pretrained.from_pretrained(tmp_path).details


def test_one_stage_trains_as_a_recipe_without_stages(tmp_path: Path) -> None:
    train(tiny_recipe(epochs=1), MATERIAL, tmp_path / "plain", show_progress=False)
    run(tmp_path / "staged", {"name": "only"})
    expected = last_weights(tmp_path / "plain")
    assert same(last_weights(tmp_path / "staged" / "stages" / "1-only"), expected)


def test_a_stage_begins_with_the_best_weights_of_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = starting_weights(monkeypatch)
    falling = itertools.count(100, -1)  # the first epoch is the best one
    monkeypatch.setattr(
        "visavis.recipes.stages.recall_metrics", lambda found: {"rsum": float(next(falling))}
    )
    run(tmp_path, {"name": "one", "train": {"epochs": 3}}, {"name": "two"})
    first = tmp_path / "stages" / "1-one"
    assert same(started[1], weights_of(first))
    assert not same(started[1], last_weights(first))


def test_from_scratch_a_stage_begins_as_the_seed_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = starting_weights(monkeypatch)
    again, other = {"start": "scratch"}, {"start": "scratch", "train": {"seed": 5}}
    run(tmp_path, {"name": "one"}, {"name": "two", **again}, {"name": "three", **other})
    assert same(started[1], started[0])
    fresh = assemble(tiny_recipe(seed=5), MATERIAL).pretrained.model.state_dict()
    assert same(started[2], fresh)


def test_what_is_frozen_stays_and_what_is_not_moves(tmp_path: Path) -> None:
    run(
        tmp_path,
        {"name": "one"},
        {"name": "two", "freeze": ["text"]},
        {"name": "three", "only": ["text.encoder.embed"]},
    )
    one, two = (weights_of(tmp_path / "stages" / name) for name in ("1-one", "2-two"))
    three = weights_of(tmp_path)
    second = {name for name in one if not torch.equal(one[name], two[name])}
    third = {name for name in one if not torch.equal(two[name], three[name])}
    assert second == {name for name in one if not name.startswith("text")}
    assert third == {name for name in one if name.startswith("text.encoder.embed")}
    assert third


def test_a_stage_has_its_own_settings_of_the_model(tmp_path: Path) -> None:
    run(tmp_path, {"name": "one", "model": {"lambda_softmax": 4.0}}, {"name": "two"})
    first: Any = Pretrained.from_pretrained(tmp_path / "stages" / "1-one").model.config
    last: Any = Pretrained.from_pretrained(tmp_path).model.config
    assert (first.lambda_softmax, last.lambda_softmax) == (4.0, 9.0)


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ({"model": {"dim": 9}}, r"stages[1].model: project.linear.weight has shape (9, "),
        ({"freeze": ["txt"]}, "stages[1].freeze: no parameters begin with 'txt'; did you mean"),
        ({"only": ["text.encoder.emb"]}, "stages[1].only: no parameters begin with"),
        ({"freeze": ["text", "project"]}, "stages[1].freeze: nothing is left to train"),
    ],
)
def test_what_cannot_follow_is_refused_before_anything_is_trained(
    tmp_path: Path, second: dict[str, Any], message: str
) -> None:
    with pytest.raises(RecipeError) as caught:
        run(tmp_path, {"name": "one"}, {"name": "two", **second})
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_from_scratch_a_stage_may_have_other_weights(tmp_path: Path) -> None:
    run(tmp_path, {"name": "one"}, {"name": "two", "start": "scratch", "model": {"dim": 9}})
    assert Pretrained.from_pretrained(tmp_path).model.config.dim == 9


def test_a_batch_too_large_for_a_later_stage_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="48 training pairs do not fill a batch of 49"):
        run(tmp_path, {"name": "one"}, {"name": "two", "train": {"batch_size": 49}})
    assert not list(tmp_path.iterdir())


def test_a_finished_run_is_reported_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages = {"name": "one"}, {"name": "two"}
    first = run(tmp_path, *stages)
    monkeypatch.setattr(Trainer, "run", None)  # calling it would fail
    again = run(tmp_path, *stages)
    assert first.trained
    assert not again.trained
    assert again.result == first.result
    assert again.evaluation.metrics == first.evaluation.metrics


def test_a_stage_that_is_done_needs_its_states_no_more(tmp_path: Path) -> None:
    stages = {"name": "one"}, {"name": "two"}
    run(tmp_path, *stages)
    before = weights_of(tmp_path)
    for name in ("1-one/states", "2-two"):
        shutil.rmtree(tmp_path / "stages" / name)
    (tmp_path / "results.json").unlink()
    log = (tmp_path / "stages" / "1-one" / "metrics.jsonl").read_bytes()
    run(tmp_path, *stages)
    assert same(weights_of(tmp_path), before)
    assert (tmp_path / "stages" / "1-one" / "metrics.jsonl").read_bytes() == log


def test_a_folder_with_a_begun_stage_is_not_taken_by_another_recipe(tmp_path: Path) -> None:
    run(tmp_path, {"name": "one"}, {"name": "two"})
    shutil.rmtree(tmp_path / "best")
    with pytest.raises(RecipeError, match="holds another run \\(it differs in stages"):
        run(tmp_path, {"name": "one"}, {"name": "two", "train": {"lr": 0.5}})


def test_a_fresh_model_is_that_of_the_seed_whatever_was_drawn_before() -> None:
    recipe = tiny_recipe(seed=4)
    assembly = assemble(recipe, MATERIAL)
    torch.rand(5)
    again = restarted(assembly, recipe)
    drawn = torch.rand(1)
    assert same(again.pretrained.model.state_dict(), assembly.pretrained.model.state_dict())
    assemble(recipe, MATERIAL)
    assert torch.equal(drawn, torch.rand(1))  # dropout of the training goes on from here
