"""The demo, on fewer and smaller pictures than it draws for a user."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.integration.conftest import SCENES, Visavis, contents
from visavis.models.pretrained import Pretrained
from visavis.recipes.demo import Demo, demo_recipe, run_demo
from visavis.recipes.recipe import Recipe, load_recipe


@pytest.fixture(scope="module")
def tiny(recipe: Path) -> Recipe:
    return load_recipe(recipe)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo") / "output"


@pytest.fixture(scope="module")
def said() -> list[str]:
    return []


@pytest.fixture(scope="module")
def drawn() -> list[tuple[int, int]]:
    return []


@pytest.fixture(scope="module")
def done(folder: Path, tiny: Recipe, said: list[str], drawn: list[tuple[int, int]]) -> Demo:
    @contextmanager
    def bar(_: str) -> Iterator[Callable[[int, int], None]]:
        yield lambda done, total: drawn.append((done, total))

    return run_demo(folder, workers=1, say=said.append, bar=bar, recipe=tiny, scenes=SCENES)


def test_the_recipe_that_comes_with_the_package_parses() -> None:
    recipe = demo_recipe()
    assert (recipe.data.corpus, recipe.model_name) == ("scenes", "scan")


def test_every_stage_is_said_and_timed(done: Demo, said: list[str]) -> None:
    assert said == [f"{stage} ..." for stage in done.seconds]
    assert len(said) == 5


def test_the_demo_measures_the_test_split_beside_the_baseline(done: Demo) -> None:
    subjects = [done.evaluation.subject, done.baseline.subject]
    assert [(subject.images, subject.splits) for subject in subjects] == [(10, ("test",))] * 2


def test_the_demo_compares_attention_with_the_truth(done: Demo) -> None:
    assert done.pointing.words > 50
    assert 0 < done.pointing.chance < 1
    assert 0 <= done.pointing.attended <= 1


def test_the_demo_leaves_sheets_and_a_model(done: Demo, folder: Path) -> None:
    assert done.sheets == (folder / "sheet.html", folder / "sheet.png")
    assert all(path.stat().st_size > 1000 for path in done.sheets)
    assert Pretrained.from_pretrained(folder / "run").name == "scan"
    assert {path.name for path in folder.iterdir()} == {
        *("scenes", "features", "run", "sheet.html", "sheet.png"),
    }


def test_a_second_demo_does_nothing_twice(done: Demo, folder: Path, tiny: Recipe) -> None:
    before = contents(folder)
    again = run_demo(folder, workers=1, say=lambda _: None, recipe=tiny, scenes=SCENES)
    assert again.evaluation.metrics == done.evaluation.metrics
    assert again.pointing == done.pointing
    after = contents(folder)
    assert set(after) == set(before)
    changed = {name for name in before if after[name] != before[name]}
    assert changed <= {"sheet.html", "sheet.png"}  # drawn again, from the same answers


@pytest.mark.usefixtures("done")
def test_drawing_shows_how_far_it_is(drawn: list[tuple[int, int]]) -> None:
    assert drawn == [(number, 40) for number in range(1, 41)]


@pytest.fixture
def small_demo(monkeypatch: pytest.MonkeyPatch, tiny: Recipe) -> None:
    """The command draws and trains what is quick."""
    monkeypatch.setattr("visavis.recipes.demo.demo_recipe", lambda: tiny)
    monkeypatch.setattr("visavis.recipes.demo.SceneConfig", lambda: SCENES)


@pytest.mark.usefixtures("small_demo")
def test_the_command_tells_where_to_look(visavis: Visavis, done: Demo, folder: Path) -> None:
    told = visavis("demo", "-o", folder)
    assert told.code == 0
    assert told.err.splitlines() == [f"{stage} ..." for stage in done.seconds]
    assert f"look at {folder / 'sheet.html'}" in told.lines
    assert told.lines[-1].startswith('try: visavis search "a red circle left of a blue square"')


@pytest.mark.usefixtures("small_demo", "done")
def test_the_command_as_json(visavis: Visavis, folder: Path) -> None:
    told = visavis("demo", "-o", folder, "--json")
    assert told.code == 0
    assert [entry["name"] for entry in told.json["evaluations"]] == ["scan", "bag of words"]
    assert told.json["sheets"] == [str(folder / "sheet.html"), str(folder / "sheet.png")]
