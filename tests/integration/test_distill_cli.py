"""`visavis distill`, and the index that takes what it makes."""

from __future__ import annotations

from pathlib import Path

from tests.integration.conftest import Visavis
from tests.search_tools import model_folder

FEW = ("--batches", "4", "--epochs", "2", "--dim", "16")


def test_distilled_indexed_searched_and_verified(
    visavis: Visavis, data: Path, run_folder: Path, tmp_path: Path
) -> None:
    student = tmp_path / "student"
    said = visavis("distill", run_folder, "--data", data, "-o", student, *FEW)
    assert (said.code, said.err) == (0, "")
    assert "20 pictures" in said.lines[0]
    assert "of the mean of its tokens" in said.lines[1]
    words = ("index", "build", "--data", data / "scenes", "-m", run_folder, "-c", student)
    index = tmp_path / "index"
    assert visavis(*words, "-x", index, "--json").json["added"] == 40
    assert visavis("index", "info", index, "--json").json["first_stage"] == "student"
    found = visavis("index", "verify", index, "--sample", "20", "--candidates", "20", "--json").json
    assert found["problems"] == []
    assert found["points"][0]["overlap"] > 0.5  # at random: 20 of 40 pictures
    answer = visavis("search", "two green fish", "-x", index, "--json", "--top", "3").json
    assert len(answer["hits"]) == 3
    picture = data / "scenes" / "images" / "000003.png"
    assert len(visavis("caption", picture, "-x", index, "--json").json) == 5


def test_what_cannot_be_distilled_is_said_in_a_line(
    visavis: Visavis, data: Path, photos: Path, run_folder: Path, tmp_path: Path
) -> None:
    words = ("distill", run_folder, "--data", data, "-o", tmp_path / "s", *FEW)
    said = visavis(*words, "--split", "nowhere")
    assert (said.code, len(said.err.splitlines())) == (1, 1)
    assert "no split 'nowhere'" in said.err
    assert "--output" in visavis("distill", "a/model", "--data", data).err
    assert visavis(*words).code == 0
    other = model_folder(tmp_path / "other", "scan")
    said = visavis(
        "index", "build", photos, "-m", other, "-c", tmp_path / "s", "-x", tmp_path / "i"
    )
    assert (said.code, len(said.err.splitlines())) == (1, 1)
    assert "distilled from scan" in said.err
