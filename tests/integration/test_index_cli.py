"""`visavis index` and searching through it, as a user meets them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.integration.conftest import Said, Visavis, contents
from tests.search_tools import model_folder

SENTENCE = "a red circle"


@pytest.fixture
def index(tmp_path: Path, visavis: Visavis, photos: Path, run_folder: Path) -> Path:
    folder = tmp_path / "index"
    said = visavis("index", "build", photos, "-m", run_folder, "-x", folder)
    assert (said.code, said.err) == (0, "")
    assert said.out == f"6 added, 0 changed, 0 removed, 0 skipped; 6 pictures: {folder}\n"
    return folder


def refused(said: Said, *parts: str) -> None:
    assert said.code == 1
    assert said.out == ""
    assert len(said.err.splitlines()) == 1
    for part in parts:
        assert part in said.err


def test_build_search_change_sync_and_remove(visavis: Visavis, index: Path, photos: Path) -> None:
    found = visavis("search", SENTENCE, "-x", index, "--json").json
    assert [hit["rank"] for hit in found["hits"]] == [1, 2, 3, 4, 5, 6]
    assert {hit["picture"] for hit in found["hits"]} == {
        str(path.resolve()) for path in photos.rglob("*.png")
    }
    assert (found["exact"], found["gallery"], found["matches_well"]) == (True, 6, None)
    assert [stage["name"] for stage in found["stages"]] == ["encode", "exact"]  # few pictures
    (photos / "000001.png").unlink()
    shutil.copy(photos / "000002.png", photos / "copy.png")
    report = visavis("index", "sync", index, "--json").json
    assert (report["added"], report["changed"], report["removed"]) == (1, 0, 1)
    assert report["images"] == 6
    name = found["hits"][0]["id"]
    assert visavis("index", "remove", name, "unknown", "-x", index, "--json").json["removed"] <= 1
    said = visavis("index", "remove", "--where", "path LIKE 'more/%'", "-x", index)
    assert said.out in ("1 picture removed\n", "0 pictures removed\n")


def test_adding_with_tags_and_filtering(
    visavis: Visavis, index: Path, photos: Path, tmp_path: Path
) -> None:
    shutil.copytree(photos / "more", tmp_path / "other")
    (tmp_path / "other" / "000006.png").rename(tmp_path / "other" / "new.png")
    shutil.copy(photos / "000001.png", tmp_path / "other" / "000001.png")
    words = ("index", "add", tmp_path / "other" / "new.png", "-x", index, "--tag", "mine")
    assert visavis(*words, "--json").json["added"] == 1
    told = visavis("search", SENTENCE, "-x", index, "--where", "tag = 'mine'", "--json").json
    assert [Path(hit["picture"]).name for hit in told["hits"]] == ["new.png"]
    assert told["hits"][0]["tags"] == ["mine"]
    assert told["stages"][0]["name"] == "filter"
    refused(visavis("search", SENTENCE, "-x", index, "--where", "1=1"), "filter", "'1'")


def test_info_and_compact(visavis: Visavis, index: Path) -> None:
    info = visavis("index", "info", index, "--json").json
    assert (info["images"], info["finished"], info["first_stage"]) == (6, True, "mean")
    assert "images                  6\n" in visavis("index", "info", index).out
    report = visavis("index", "compact", index, "--json").json
    assert report["versions_after"] >= 1


def test_verify_prints_a_curve(
    visavis: Visavis, photos: Path, run_folder: Path, tmp_path: Path
) -> None:
    texts = tmp_path / "texts.txt"
    texts.write_text("a red circle\na blue square\na green fish\n", encoding="utf-8")
    words = ("index", "build", photos, "-m", run_folder, "-x", tmp_path / "i")
    visavis(*words, "--sentences", texts)
    said = visavis("index", "verify", tmp_path / "i")
    assert said.code == 0
    assert said.lines == [
        "3 sentences, 6 pictures",
        "candidates\tsame top 10\toverlap\tsame first",
        "6\t100.0 %\t100.0 %\t100.0 %",
        "recommended: 6 candidates; searches use it from now on",
    ]
    picture = photos / "000001.png"
    found = visavis("caption", picture, "-x", tmp_path / "i", "--json").json
    assert {hit["sentence"] for hit in found} == {"a red circle", "a blue square", "a green fish"}
    refused(visavis("index", "verify", tmp_path / "i", "--candidates", "0"), "at least 1")


def test_searching_a_folder_indexes_it_first_and_leaves_it_as_it_was(
    visavis: Visavis, photos: Path, run_folder: Path
) -> None:
    before = contents(photos)
    first = visavis("search", SENTENCE, "-m", run_folder, "-i", photos, "--json").json
    assert contents(photos) == before
    info = visavis("index", "info", photos, "--json").json
    assert info["images"] == 6
    again = visavis("search", SENTENCE, "-i", photos, "--json").json  # the model is known by now
    assert [hit["id"] for hit in again["hits"]] == [hit["id"] for hit in first["hits"]]
    shutil.copy(photos / "000001.png", photos / "new.png")
    known = visavis("search", SENTENCE, "-i", photos, "-n", "--json").json
    assert known["gallery"] == 6
    assert visavis("search", SENTENCE, "-i", photos, "--json").json["gallery"] == 7


def test_without_indexing_nothing_is_written(
    visavis: Visavis, photos: Path, run_folder: Path, tmp_path: Path
) -> None:
    words = ("search", SENTENCE, "-m", run_folder, "-i", photos, "-n")
    assert len(visavis(*words, "--json").json["hits"]) == 6
    assert not (tmp_path / "cache" / "indexes").exists()
    refused(visavis(*words, "--where", "width > 3"), "--where needs an index")


def test_the_index_that_is_meant(
    visavis: Visavis,
    photos: Path,
    run_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    refused(visavis("search", SENTENCE), "none was built before", "visavis index build")
    visavis("index", "build", photos, "-m", run_folder)
    monkeypatch.chdir(photos / "more")
    assert visavis("search", SENTENCE, "--json").json["gallery"] == 6  # of a folder above
    monkeypatch.chdir(tmp_path)
    assert visavis("search", SENTENCE, "--json").json["gallery"] == 6  # built last
    monkeypatch.setenv("VISAVIS_INDEX", str(tmp_path / "nowhere"))
    refused(visavis("search", SENTENCE), "nowhere: no index here")


def test_a_corpus_with_stored_vectors_is_indexed_with_its_sentences(
    visavis: Visavis, data: Path, run_folder: Path, tmp_path: Path
) -> None:
    words = ("index", "build", "--data", data / "scenes", "-m", run_folder, "-x", tmp_path / "i")
    report = visavis(*words, "--json").json
    assert report["added"] == 40
    info = visavis("index", "info", tmp_path / "i", "--json").json
    assert info["sentences"] > 40
    found = visavis("search", "two green fish", "-x", tmp_path / "i", "--json").json
    of_corpus = visavis("search", "two green fish", "-m", run_folder, "--data", data, "--json").json
    assert [hit["picture"] for hit in found["hits"][:5]] == [
        hit["picture"] for hit in of_corpus["hits"][:5]
    ]
    picture = data / "scenes" / "images" / "000003.png"
    assert len(visavis("caption", picture, "-x", tmp_path / "i", "--json").json) == 5


def test_another_model_and_a_newer_format_are_refused_in_a_line(
    visavis: Visavis, index: Path, tmp_path: Path
) -> None:
    other = model_folder(tmp_path / "other", "vse")
    refused(visavis("search", SENTENCE, "-x", index, "-m", other), "built with scan", "vse")
    text = (index / "index.json").read_text(encoding="utf-8")
    newer = text.replace('"format": 1', '"format": 9', 1)
    (index / "index.json").write_text(newer, encoding="utf-8")
    refused(visavis("search", SENTENCE, "-x", index), "format 9 by a newer visavis", "update it")


def test_building_needs_a_folder_or_a_corpus(
    visavis: Visavis, photos: Path, data: Path, run_folder: Path
) -> None:
    refused(visavis("index", "build", "-m", run_folder), "one of the two")
    words = ("index", "build", photos, "--data", data, "-m", run_folder)
    refused(visavis(*words), "one of the two")
    refused(visavis("index", "remove"), "give ids")
