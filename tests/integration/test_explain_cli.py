"""`visavis explain` on a tiny corpus: pairs, sheets, sweeps and pointing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from tests.integration.conftest import Visavis, contents
from visavis.explain.pair import read_pair
from visavis.recipes.assemble import open_material
from visavis.recipes.recipe import parse_recipe
from visavis.recipes.run import train

SENTENCE = "a red circle left of a blue square"


@pytest.fixture(scope="module")
def vse(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model without attention."""
    folder = tmp_path_factory.mktemp("runs") / "vse"
    values = {
        "source": "a test",
        "model": {"name": "vse", "dim": 16, "text": {"word_dim": 8, "bidirectional": False}},
        "data": {"corpus": "scenes"},
        "tokenizer": {"threshold": 1},
        "train": {"epochs": 1, "batch_size": 16},
    }
    train(parse_recipe(values), open_material("scenes", data), folder)
    return folder


def test_a_pair_is_printed(visavis: Visavis, run_folder: Path, data: Path) -> None:
    picture = data / "scenes" / "images" / "000001.png"
    said = visavis("explain", run_folder, "--image", picture, "--sentence", SENTENCE)
    assert said.code == 0
    assert said.lines[0] == SENTENCE
    assert said.lines[1].endswith("by attention")
    words = [line.split("\t")[0] for line in said.lines[2:]]
    assert words == ["red", "circle", "left", "blue", "square"]


def test_an_image_of_the_corpus_is_named_by_id_file_or_row(
    visavis: Visavis, run_folder: Path, data: Path
) -> None:
    found = [
        visavis("explain", run_folder, "-i", name, "--data", data, "--json").json
        for name in ("scene-000003", "000003.png", "2")
    ]
    assert found[0] == found[1] == found[2]
    assert found[0]["image"] == "scene-000003"
    records = json.loads((data / "scenes" / "scenes.json").read_text())["images"]
    assert found[0]["sentence"] == records[2]["sentences"][0]["text"]


@pytest.mark.parametrize("what", ["words", "regions", "relations"])
@pytest.mark.parametrize("by", ["attention", "interaction"])
def test_every_ending_is_written(
    visavis: Visavis, run_folder: Path, data: Path, tmp_path: Path, what: str, by: str
) -> None:
    files = [tmp_path / f"pair.{ending}" for ending in ("png", "json", "html")]
    outputs = [word for path in files for word in ("-o", path)]
    words = ("-i", "0", "--data", data, "--what", what, "--by", by, "--split", "test")
    said = visavis("explain", run_folder, *words, *outputs)
    assert (said.code, said.lines) == (0, [f"wrote {path}" for path in files])
    with Image.open(files[0]) as drawn:
        assert drawn.width > 500
    pair = read_pair(files[1])
    assert pair.explanation.kind == by
    expected = {"words_regions" if by == "attention" else "words_with_regions"}
    assert set(pair.relations) == (expected if what == "relations" else set())
    assert "<!doctype html>" in files[2].read_text()


def test_options_may_stand_before_the_model(visavis: Visavis, run_folder: Path, data: Path) -> None:
    said = visavis("explain", "-i", "0", "--data", data, run_folder, "--json")
    assert said.json["kind"] == "attention"
    assert (
        visavis("explain", "pair", run_folder, "-i", "0", "--data", data, "--json").out == said.out
    )


def test_a_model_without_attention_is_explained_word_by_word(
    visavis: Visavis, vse: Path, data: Path
) -> None:
    found = visavis("explain", vse, "-i", "0", "--data", data, "--json").json
    assert found["kind"] == "interaction"
    assert len(found["weights"]) == len(found["words"]) > 3
    whole = visavis("explain", vse, "-i", "0", "--data", data, "--what", "regions", "--json").json
    assert whole["kind"] == "ablation"


def test_what_cannot_be_explained_is_said_in_a_line(
    visavis: Visavis, vse: Path, data: Path, tmp_path: Path
) -> None:
    before = contents(tmp_path)
    picture = data / "scenes" / "images" / "000001.png"
    for words, message in (
        (("-i", "0", "--what", "selected"), "no part that chooses regions"),
        (("-i", "0", "--by", "attention"), "vse has no attention"),
        (("-i", "0", "--what", "relations", "--by", "ablation"), "ask for interaction"),
        (("-i", "nothing"), "neither a picture's file nor an image of scenes"),
        (("-i", picture), "which sentence"),
        (("-i", "0", "-o", tmp_path / "x.pdf"), "written as .png, .json or .html"),
    ):
        said = visavis("explain", vse, *words, "--data", data)
        assert said.code == 1
        assert message in said.err
        assert len(said.err.splitlines()) == 1
    assert visavis("explain", vse, "-i", "0").err.count("or give --image a picture's file") == 1
    assert contents(tmp_path) == before


def test_a_sheet_shows_queries_and_later_right_answers(
    visavis: Visavis, run_folder: Path, data: Path, tmp_path: Path
) -> None:
    page, drawn = tmp_path / "sheet.html", tmp_path / "sheet.png"
    said = visavis(
        "explain", "sheet", run_folder, "--data", data, "-o", page, "-o", drawn,
        "--sentences", 4, "--images", 2, "--top", 2,
    )  # fmt: skip
    assert (said.code, said.err) == (0, "")
    text = page.read_text()
    assert text.count('<section class="row">') == 6
    assert text.count('<li class="right">') + text.count('<li class="wrong">') == 12
    # Each image has five sentences, of which two at most are among the first two.
    assert text.count("Right, but later") >= 2
    with Image.open(drawn) as picture:
        assert picture.height > 1000


def test_a_sheet_without_queries_is_refused(
    visavis: Visavis, run_folder: Path, data: Path, tmp_path: Path
) -> None:
    words = ("--sentences", 0, "--images", 0, "-o", tmp_path / "x.png")
    said = visavis("explain", "sheet", run_folder, "--data", data, *words)
    assert said.code == 1
    assert "ask for at least one" in said.err


def test_a_sweep_is_a_table_a_plot_and_json(
    visavis: Visavis, run_folder: Path, data: Path, tmp_path: Path
) -> None:
    files = tmp_path / "sweep.png", tmp_path / "sweep.json"
    said = visavis(
        "explain", "sweep", run_folder, "--setting", "lambda_softmax", "--values", "1,9,20",
        "--data", data, "-o", files[0], "-o", files[1],
    )  # fmt: skip
    assert (said.code, said.err) == (0, "")
    assert "9 (trained)" in said.out
    assert "not trained again" in said.out
    points = json.loads(files[1].read_text())["points"]
    assert [point["value"] for point in points] == [1, 9, 20]
    evaluated = visavis("evaluate", run_folder, "--data", data, "--json").json["evaluations"][0]
    assert points[1]["metrics"] == evaluated["metrics"]
    with Image.open(files[0]) as drawn:
        assert drawn.width == 960


def test_a_sweep_of_a_parameter_is_refused(visavis: Visavis, run_folder: Path, data: Path) -> None:
    words = ("--setting", "dim", "--values", "8", "--data", data)
    said = visavis("explain", "sweep", run_folder, *words)
    assert said.code == 1
    assert "trained again" in said.err


@pytest.mark.parametrize("by", ["attention", "interaction"])
def test_pointing_is_measured_beside_chance(
    visavis: Visavis, run_folder: Path, data: Path, tmp_path: Path, by: str
) -> None:
    words = ("--data", data, "--sentences", 20, "--by", by)
    said = visavis("explain", "pointing", run_folder, *words, "-o", tmp_path / "p.json")
    assert (said.code, said.err) == (0, "")
    assert "| colour" in said.out
    found = json.loads((tmp_path / "p.json").read_text())
    assert (found["kind"], found["sentences"], found["rule"]) == (by, 20, "centre")
    assert {"colour", "object"} <= set(found["groups"])
    assert sum(group["words"] for group in found["groups"].values()) == found["all"]["words"]
    for group in (*found["groups"].values(), found["all"]):
        assert 0 <= group["attended"] <= 1
        assert 0 < group["chance"] < 1


def test_pointing_of_a_model_without_attention_is_by_interaction(
    visavis: Visavis, vse: Path, data: Path
) -> None:
    found = visavis("explain", "pointing", vse, "--data", data, "--sentences", 5, "--json").json
    assert found["kind"] == "interaction"


def test_pointing_needs_scenes(
    visavis: Visavis, run_folder: Path, data: Path, tmp_path: Path
) -> None:
    images = [
        {"filename": f"scene-{n:06d}", "split": "test", "sentences": [{"raw": "a red circle"}]}
        for n in range(1, 3)
    ]
    (tmp_path / "dataset_mine.json").write_text(json.dumps({"images": images}))
    features = data / "scenes" / "features"
    words = ("--data", tmp_path, "--corpus", "mine", "--features", features)
    said = visavis("explain", "pointing", run_folder, *words)
    assert said.code == 1
    assert "only drawn scenes tell" in said.err
