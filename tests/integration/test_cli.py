"""Every verb on a tiny corpus, for people and for programs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.integration.conftest import Visavis, contents
from visavis import __version__
from visavis.training.loop import Trainer

METRICS = {f"{way}_r{k}" for way in ("i2t", "t2i") for k in (1, 5, 10)} | {"rsum"}


def test_the_version_is_printed(visavis: Visavis) -> None:
    assert visavis("--version").out == f"{__version__}\n"


def test_data_check_calls_a_sound_corpus_sound(visavis: Visavis, data: Path) -> None:
    said = visavis("data", "check", data / "scenes")
    assert (said.code, said.err) == (0, "")
    assert said.lines[-1] == "sound"
    assert "sentences per image  5: 40 images" in said.out


def test_data_check_as_json(visavis: Visavis, data: Path) -> None:
    said = visavis("data", "check", data / "scenes", "--json")
    assert (said.code, said.err) == (0, "")
    assert said.json["sound"] is True
    assert said.json["splits"]["test"] == {"images": 10, "sentences": 50}


def test_data_check_names_the_problems_and_fails(visavis: Visavis, tmp_path: Path) -> None:
    images = [
        {"filename": "1.jpg", "split": "train", "sentences": [{"raw": "a dog"}]},
        {"filename": "2.jpg", "split": "train", "sentences": []},
    ]
    (tmp_path / "dataset_odd.json").write_text(json.dumps({"images": images}))
    said = visavis("data", "check", tmp_path)
    assert said.code == 1
    assert "problem: " in said.out
    assert "has no sentence" in said.out
    assert said.lines[-1] == "1 problem"
    assert visavis("data", "check", tmp_path, "--json").json["sound"] is False


def test_data_info_counts(visavis: Visavis, data: Path) -> None:
    said = visavis("data", "info", data / "scenes")
    assert (said.code, said.err) == (0, "")
    assert "train" in said.out
    told = visavis("data", "info", data / "scenes", "--json").json
    assert told["sentences_per_image"] == {"5": 40}


def test_extract_fills_a_store_and_goes_on(visavis: Visavis, photos: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    first = visavis("extract", photos, "-o", store, "--set", "regions=18")
    assert (first.code, first.err) == (0, "")
    assert first.out.startswith("6 pictures extracted (")
    assert first.out.endswith(f" each), 0 there before, 0 skipped: {store}\n")
    again = visavis("extract", photos, "-o", store, "--set", "regions=18")
    assert again.out == f"0 pictures extracted, 6 there before, 0 skipped: {store}\n"


def test_extract_as_json_tells_what_was_skipped(
    visavis: Visavis, photos: Path, truncated: Path, tmp_path: Path
) -> None:
    shutil.copy(truncated, photos / "broken.png")
    said = visavis("extract", photos, "-o", tmp_path / "store", "--json")
    assert said.code == 0
    assert (said.json["extracted"], said.json["reused"]) == (6, 0)
    assert [name for name, _ in said.json["skipped"]] == ["broken.png"]
    assert said.err.startswith(f"skipped {photos / 'broken.png'}: cannot be decoded")


def test_train_reports_and_writes_a_run(
    visavis: Visavis, data: Path, recipe: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    said = visavis("train", recipe, "--data", data, "-o", run, "--set", "train.epochs=1")
    assert (said.code, said.err) == (0, "")
    assert said.lines[0] == "scenes test, protocol full"
    assert said.lines[-1] == f"trained: 1 epoch, best after 1; model in {run / 'best'}"
    names = {path.name for path in run.iterdir()}
    assert names >= {"best", "recipe.yaml", "env.json", "metrics.jsonl", "results.json", "states"}
    assert "epochs: 1" in (run / "recipe.yaml").read_text()


def test_train_as_json(visavis: Visavis, data: Path, recipe: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    said = visavis("train", recipe, "--data", data, "-o", run, "--set", "train.epochs=1", "--json")
    assert (said.code, said.err) == (0, "")
    assert said.json["folder"] == str(run)
    assert said.json["training"]["epochs"] == 1
    assert set(said.json["evaluation"]["metrics"]) >= METRICS


def test_train_writes_to_a_folder_named_after_model_and_recipe(
    visavis: Visavis, data: Path, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VISAVIS_DATA", str(data))
    assert visavis("train", recipe, "--set", "train.epochs=1").code == 0
    assert (tmp_path / "runs" / "scan-tiny" / "best" / "config.json").is_file()


def test_train_in_the_current_folder(
    visavis: Visavis, data: Path, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "here"
    run.mkdir()
    monkeypatch.chdir(run)
    words = ("train", recipe, "--data", data, "-o", ".", "--set", "train.epochs=1", "--json")
    assert visavis(*words).json["evaluation"]["name"] == "here"
    assert (
        visavis("evaluate", ".", "--data", data, "--json").json["evaluations"][0]["name"] == "here"
    )


def test_a_finished_run_is_reported_as_it_was_and_not_trained_again(
    visavis: Visavis, data: Path, recipe: Path, run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(run_folder)
    monkeypatch.setattr(Trainer, "run", None)  # calling it would fail
    said = visavis("train", recipe, "--data", data, "-o", run_folder)
    assert (said.code, said.err) == (0, "")
    assert said.lines[-1].startswith("finished before, nothing was trained now: 2 epochs")
    told = visavis("train", recipe, "--data", data, "-o", run_folder, "--json").json
    kept = json.loads((run_folder / "results.json").read_text())
    assert told["trained"] is False
    assert told["evaluation"]["metrics"] == kept["metrics"]
    assert contents(run_folder) == before


def test_a_run_whose_source_alone_is_reworded_is_the_same_run(
    visavis: Visavis, data: Path, recipe: Path, run_folder: Path
) -> None:
    words = ("train", recipe, "--data", data, "-o", run_folder, "--set", "source=reworded")
    assert visavis(*words).code == 0


def test_evaluate_agrees_with_what_training_reported(
    visavis: Visavis, data: Path, run_folder: Path
) -> None:
    reported = json.loads((run_folder / "results.json").read_text())
    said = visavis("evaluate", run_folder, "--data", data, "--json")
    assert (said.code, said.err) == (0, "")
    (found,) = said.json["evaluations"]
    assert found["metrics"] == reported["metrics"]
    assert found["name"] == "tiny"


def test_evaluate_reads_a_run_folder_as_its_best_model(
    visavis: Visavis, data: Path, run_folder: Path
) -> None:
    run = visavis("evaluate", run_folder, "--data", data)
    best = visavis("evaluate", run_folder / "best", "--data", data)
    assert (run.code, run.err) == (0, "")
    assert run.out == best.out
    assert "| tiny " in run.out


def test_evaluate_beside_the_baseline(visavis: Visavis, data: Path, run_folder: Path) -> None:
    said = visavis("evaluate", run_folder, "--data", data, "--baseline", "--json")
    assert [entry["name"] for entry in said.json["evaluations"]] == ["tiny", "bag of words"]
    table = visavis("evaluate", run_folder, "--data", data, "--baseline").out
    assert "| bag of words " in table
    assert "| chance " in table


def test_the_baseline_reads_features_that_name_their_rows_by_path(
    visavis: Visavis, data: Path, run_folder: Path, tmp_path: Path
) -> None:
    visavis("extract", data / "scenes", "-o", tmp_path / "store")  # names: images/000001.png
    words = ("evaluate", run_folder, "--data", data, "--baseline", "--json")
    theirs = visavis(*words, "--features", tmp_path / "store").json["evaluations"]
    ours = visavis(*words).json["evaluations"]
    assert [entry["metrics"] for entry in theirs] == [entry["metrics"] for entry in ours]


def test_evaluate_all_splits_together(visavis: Visavis, data: Path, run_folder: Path) -> None:
    said = visavis("evaluate", run_folder, "--data", data, "--split", "all", "--json")
    subject = said.json["evaluations"][0]["subject"]
    assert (subject["images"], subject["splits"]) == (40, ["train", "val", "test"])


def test_evaluate_writes_results_that_compare(
    visavis: Visavis, data: Path, run_folder: Path, tmp_path: Path
) -> None:
    results = tmp_path / "new" / "results.json"
    said = visavis("evaluate", run_folder, "--data", data, "-o", results)
    assert (said.code, said.err) == (0, "")
    assert {path.name for path in results.parent.iterdir()} == {"results.json", "results.ranks.npz"}
    words = ("evaluate", run_folder, "--data", data, "--compare", results)
    told = visavis(*words, "--json").json
    assert {entry["value"] for entry in told["comparison"]["differences"].values()} == {0.0}
    assert "tiny less tiny: scenes, protocol full" in visavis(*words).out


def test_search_a_corpus(visavis: Visavis, data: Path, run_folder: Path) -> None:
    said = visavis("search", "a red circle", "-m", run_folder, "--data", data, "-t", "3", "--json")
    assert (said.code, said.err) == (0, "")
    assert [entry["rank"] for entry in said.json["hits"]] == [1, 2, 3]
    scores = [entry["score"] for entry in said.json["hits"]]
    assert scores == sorted(scores, reverse=True)
    assert all(Path(entry["picture"]).is_file() for entry in said.json["hits"])


def test_search_one_split_of_a_corpus(visavis: Visavis, data: Path, run_folder: Path) -> None:
    words = ("search", "a red circle", "-m", run_folder, "--data", data, "--json", "-t", "99")
    assert len(visavis(*words).json["hits"]) == 40
    assert len(visavis(*words, "--split", "val").json["hits"]) == 8


def test_search_prints_a_score_and_a_file_on_a_line(
    visavis: Visavis, photos: Path, run_folder: Path
) -> None:
    words = ("search", "a red circle", "-m", run_folder, "-i", photos, "-t", "2")
    said, told = visavis(*words), visavis(*words, "--json").json["hits"]
    assert (said.code, said.err) == (0, "")
    scores, pictures = zip(*(line.split("\t") for line in said.lines), strict=True)
    assert list(pictures) == [entry["picture"] for entry in told]
    # Both are rounded: to three and to four digits.
    assert [float(score) for score in scores] == pytest.approx(
        [entry["score"] for entry in told], abs=6e-4
    )


def test_search_prints_only_files_when_asked(
    visavis: Visavis, photos: Path, run_folder: Path
) -> None:
    said = visavis("search", "a red circle", "-m", run_folder, "-i", photos, "-f")
    assert sorted(said.lines) == sorted(str(path) for path in photos.rglob("*.png"))


def test_search_names_words_that_the_model_never_saw(
    visavis: Visavis, photos: Path, run_folder: Path
) -> None:
    said = visavis("search", "a red zebra", "-m", run_folder, "-i", photos, "--json")
    assert said.err == "note: the model was trained without the words: zebra\n"
    assert len(said.json["hits"]) == 6


@pytest.mark.parametrize(("name", "start"), [("s.html", b"<!DOCTYPE html>"), ("s.png", b"\x89PNG")])
def test_search_draws_a_sheet(
    visavis: Visavis, photos: Path, run_folder: Path, tmp_path: Path, name: str, start: bytes
) -> None:
    sheet = tmp_path / "sheets" / name
    said = visavis("search", "a red circle", "-m", run_folder, "-i", photos, "--sheet", sheet)
    assert (said.code, said.err) == (0, "")
    assert sheet.read_bytes().lower().startswith(start.lower())
    assert [path.name for path in sheet.parent.iterdir()] == [name]


def test_caption_out_of_a_file(
    visavis: Visavis, photos: Path, run_folder: Path, tmp_path: Path
) -> None:
    texts = tmp_path / "texts.txt"
    texts.write_text("a red circle\n\na blue square\na red circle\n")
    words = ("caption", photos / "000001.png", "-m", run_folder, "--sentences", texts)
    said = visavis(*words, "--json")
    assert (said.code, said.err) == (0, "")
    assert sorted(entry["sentence"] for entry in said.json) == ["a blue square", "a red circle"]
    lines = [f"{entry['score']:.3f}\t{entry['sentence']}" for entry in said.json]
    assert visavis(*words).lines == lines


def test_caption_out_of_the_corpus(visavis: Visavis, data: Path, run_folder: Path) -> None:
    picture = data / "scenes" / "images" / "000001.png"
    said = visavis("caption", picture, "-m", run_folder, "--data", data, "-t", "2", "--json")
    assert (said.code, said.err) == (0, "")
    assert [entry["rank"] for entry in said.json] == [1, 2]


def test_doctor_says_what_is_there(visavis: Visavis) -> None:
    said = visavis("doctor")
    assert (said.code, said.err) == (0, "")
    assert said.lines[-1] == "all well"
    told = visavis("doctor", "--json").json
    assert told["problems"] == []
    assert told["machine"]["visavis"] == __version__
    assert told["packages"]["torch"]


def test_doctor_fails_when_something_is_wrong(
    visavis: Visavis, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("VISAVIS_DATA", str(tmp_path / "nowhere"))
    said = visavis("doctor")
    assert said.code == 1
    assert f"problem: VISAVIS_DATA names {tmp_path / 'nowhere'}, which is no folder" in said.out
    assert said.lines[-1] == "1 problem"


def test_verbose_says_where_a_run_goes_on(
    visavis: Visavis, data: Path, recipe: Path, run_folder: Path, tmp_path: Path
) -> None:
    run = shutil.copytree(run_folder, tmp_path / "run")
    (run / "results.json").unlink()  # as if it had been killed before it measured the best model
    words = ("train", recipe, "--data", data, "-o", run)
    said = visavis("--verbose", *words)
    assert said.code == 0
    (state, *_) = sorted((run / "states").iterdir(), reverse=True)
    assert said.err == f"info: resumed {state} at step {int(state.stem.removeprefix('step_'))}\n"
    assert (
        json.loads((run / "results.json").read_text())["metrics"]
        == (json.loads((run_folder / "results.json").read_text())["metrics"])
    )


@pytest.mark.parametrize(
    ("verb", "more"), [("train", "; the same command goes on from what is kept"), ("search", "")]
)
def test_an_interrupted_command_says_so_in_a_line(
    visavis: Visavis, monkeypatch: pytest.MonkeyPatch, verb: str, more: str
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("visavis.recipes.recipe.load_recipe", interrupt)
    monkeypatch.setattr("visavis.models.pretrained.Pretrained.from_pretrained", interrupt)
    said = visavis(verb, "x", *(["-m", "x", "-i", "."] if verb == "search" else []))
    assert (said.code, said.out) == (130, "")
    assert said.err == f"visavis: stopped{more}\n"
