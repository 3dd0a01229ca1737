"""`visavis explain embedding`, `gates`, `cross-rank`, `curves` and `hardness` on drawn scenes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.integration.conftest import Visavis, contents
from visavis.data.negatives import Negatives, save_negatives
from visavis.recipes.assemble import open_material
from visavis.recipes.recipe import parse_recipe
from visavis.recipes.run import train

SETTINGS: dict[str, dict[str, Any]] = {
    "ranking": {
        "model": {"name": "mtfn", "dim": 8, "rank": 2, "sentence_pooling": "mean"},
        "objective": {"loss": "sum_hinge_probability"},
    },
    "logistic": {
        "model": {"name": "mtfn", "dim": 8, "rank": 2, "sentence_pooling": "mean"},
        "objective": {"loss": "bce"},
    },
    "camp": {"model": {"name": "camp", "dim": 8}, "objective": {"loss": "hardest_bce"}},
}


@pytest.fixture(scope="module")
def runs(data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """An MTFN by ranking loss, one by logistic loss, and a CAMP, each trained for an epoch."""
    folder = tmp_path_factory.mktemp("runs")
    material = open_material("scenes", data)
    for name, settings in SETTINGS.items():
        text = {"encoder": "gru", "word_dim": 8}
        values = {
            "source": "a test",
            "data": {"corpus": "scenes"},
            "tokenizer": {"threshold": 1},
            "train": {"epochs": 1, "batch_size": 16},
            **settings,
            "model": {**settings["model"], "text": text},
        }
        train(parse_recipe(values), material, folder / name)
    return {name: folder / name for name in SETTINGS}


@pytest.fixture(scope="module")
def mined(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For each training item its first six wrong answers in the order of the corpus."""
    corpus = open_material("scenes", data).corpus.split("train")
    truth = np.zeros((len(corpus.image_ids), len(corpus.sentence_ids)), bool)
    truth[tuple(corpus.pairs.T)] = True
    wrong = [
        np.stack([np.flatnonzero(~row)[:6] for row in table]).astype(np.int32)
        for table in (truth, truth.T)
    ]
    about = {"fingerprint": corpus.fingerprint(), "miner": {"name": "nobody"}}
    path = tmp_path_factory.mktemp("mined") / "negatives.safetensors"
    save_negatives(Negatives(wrong[0], wrong[1], about=about), path)
    return path


def written(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def drawn(path: Path) -> tuple[int, int]:
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        return picture.size


def test_two_losses_are_laid_out_side_by_side(
    visavis: Visavis, runs: dict[str, Path], data: Path, tmp_path: Path
) -> None:
    files = tmp_path / "e.png", tmp_path / "e.json"
    words = ("--data", data, "--pairs", 40, "--folds", 2, "--perplexity", 8)
    said = visavis(
        "explain", "embedding", runs["ranking"], runs["logistic"], *words,
        "-o", files[0], "-o", files[1],
    )  # fmt: skip
    assert (said.code, said.err) == (0, "")
    assert "| ranking (sum_hinge_probability)" in said.out
    found = written(files[1])
    assert [model["loss"] for model in found["models"]] == ["sum_hinge_probability", "bce"]
    assert len(found["pairs"]) == 80
    assert sum(true for *_, true in found["pairs"]) == 40
    for model in found["models"]:
        assert model["dimensions"] == 8
        assert np.shape(model["points"]) == (80, 2)
        assert len(model["accuracy"]["folds"]) == 2
        assert 0 <= model["accuracy_in_the_plane"]["mean"] <= 1
    one = visavis("explain", "embedding", runs["ranking"], *words, "-o", tmp_path / "one.png")
    assert one.code == 0
    assert drawn(files[0])[0] == 2 * drawn(tmp_path / "one.png")[0]
    again = visavis("explain", "embedding", runs["ranking"], runs["logistic"], *words, "--json")
    assert again.json == found


def test_gates_of_a_pair_and_of_a_split(
    visavis: Visavis, runs: dict[str, Path], data: Path, tmp_path: Path
) -> None:
    files = tmp_path / "g.png", tmp_path / "g.json"
    words = ("--data", data, "--image", "scene-000031", "--pairs", 30, "--split", "all")
    said = visavis("explain", "gates", runs["camp"], *words, "-o", files[0], "-o", files[1])
    assert (said.code, said.err) == (0, "")
    found = written(files[1])
    assert found["shown"][0]["image"] == "scene-000031"
    assert len(found["shown"][0]["boxes"]) == len(found["shown"][0]["region_gates"])
    for side in ("regions", "words"):
        means = found["means"][side]
        for kind in ("true", "false"):
            assert 0 < means[kind]["low"] <= means[kind]["mean"] <= means[kind]["high"] < 1
        apart = means["true"]["mean"] - means["false"]["mean"]
        assert means["difference"]["mean"] == pytest.approx(apart, abs=1e-5)
    assert drawn(files[0])[1] > 800
    assert visavis("explain", "gates", runs["camp"], *words, "--json").json == found


def test_cross_ranks_of_several_runs(
    visavis: Visavis, runs: dict[str, Path], run_folder: Path, data: Path, tmp_path: Path
) -> None:
    files = tmp_path / "c.png", tmp_path / "c.json"
    words = (run_folder, runs["camp"], run_folder, "--data", data)
    said = visavis("explain", "cross-rank", *words, "-o", files[0], "-o", files[1])
    assert (said.code, said.err) == (0, "")
    found = written(files[1])
    names = [model["model"] for model in found["models"]]
    assert names == [f"{run_folder.name} (1)", "camp", f"{run_folder.name} (2)"]
    first, _, third = found["models"]
    assert first["counts"] == third["counts"]
    assert sum(first["counts"]) == len(first["pairs"]) == 50
    each = found["sentences_per_image"]
    assert each == 5
    worst = [max(5 * r_i - 4, r_t) for _, _, r_i, r_t in first["pairs"]]
    assert first["counts"][0] == sum(rank == 1 for rank in worst)
    assert first["median"] == np.median(worst)
    assert drawn(files[0])[0] > 1000


def test_curves_of_runs(visavis: Visavis, runs: dict[str, Path], tmp_path: Path) -> None:
    files = tmp_path / "c.png", tmp_path / "c.json"
    said = visavis(
        "explain", "curves", runs["camp"], runs["ranking"], "-o", files[0], "-o", files[1]
    )
    assert (said.code, said.err) == (0, "")
    found = written(files[1])["runs"]
    assert [run["name"] for run in found] == ["camp", "ranking"]
    log = [json.loads(line) for line in (runs["camp"] / "metrics.jsonl").read_text().splitlines()]
    rsum = [line["rsum"] for line in log if line["event"] == "validation"]
    assert [value for _, value in found[0]["rsum"]] == rsum
    assert drawn(files[0])[0] > 1000


def test_hardness_of_both_kinds_of_negatives(
    visavis: Visavis, run_folder: Path, mined: Path, data: Path, tmp_path: Path
) -> None:
    files = tmp_path / "h.png", tmp_path / "h.json"
    words = (
        "--negatives", mined, "--data", data,
        "--batch-sizes", "4,32", "--anchors", 12, "--draws", 30,
    )  # fmt: skip
    said = visavis("explain", "hardness", run_folder, *words, "-o", files[0], "-o", files[1])
    assert (said.code, said.err) == (0, "")
    found = written(files[1])
    assert found["negatives"]["miner"] == "nobody"
    assert found["settings"]["training_size"] == 16  # as the run's recipe says
    for side, wrong in (("sentences", 105), ("images", 21)):
        levels = found[side]["online"]
        assert list(levels) == ["4", "16", "32"]
        assert found[side]["wrong"] == wrong
        ranks = [level["rank"]["mean"] for level in levels.values()]
        assert ranks == sorted(ranks, reverse=True)
        # What a file holds in the order of the corpus is as hard as chance.
        assert found[side]["mined"]["rank"]["mean"] == pytest.approx(wrong / 2, rel=0.5)
    image, sentence = found["shown"][:2]
    assert image["anchor"].startswith("scene-")
    assert sentence["anchor"] in image["right"]
    assert 1 <= len(image["online"]) <= 4
    assert len(image["mined"]) == 4
    assert drawn(files[0])[1] > 1000
    assert visavis("explain", "hardness", run_folder, *words, "--json").json == found


def test_what_cannot_be_analysed_is_said_in_a_line(
    visavis: Visavis,
    runs: dict[str, Path],
    run_folder: Path,
    mined: Path,
    data: Path,
    tmp_path: Path,
) -> None:
    before = contents(tmp_path)
    hard = ("hardness", run_folder, "--negatives", mined)
    for words, message in (
        (("embedding", run_folder), "makes no vector of a pair"),
        (("embedding", run_folder, run_folder, run_folder), "at most two"),
        (("embedding", runs["ranking"], "--folds", 2, "--perplexity", 200), "lower it"),
        (("embedding", runs["ranking"], "--folds", 9), "take a larger split"),
        (("embedding", runs["ranking"], "-o", tmp_path / "x.html"), "written as .png or .json"),
        (("gates", run_folder), "scan has no gates"),
        (("gates", runs["camp"], "-i", "nothing"), "neither a picture's file nor an image"),
        (("cross-rank", run_folder, "-o", tmp_path / "x.pdf"), "written as .png or .json"),
        (("hardness", run_folder, "--negatives", tmp_path), "files i2t_*.npy"),
        ((*hard, "--hold-out", 3), "mined from another corpus"),
        ((*hard, "--batch-sizes", "4,many"), "write whole numbers"),
        ((*hard, "--batch-sizes", "1"), "numbers of 2 at least"),
        ((*hard, "--batch-sizes", "500"), "do not fill a batch of 500"),
    ):
        said = visavis("explain", *words, "--data", data)
        assert said.code == 1, words
        assert message in said.err
        assert len(said.err.splitlines()) == 1
    assert "no metrics.jsonl" in visavis("explain", "curves", data).err
    assert contents(tmp_path) == before
