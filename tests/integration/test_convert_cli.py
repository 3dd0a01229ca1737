"""`visavis convert`, and what it wrote measured."""

from __future__ import annotations

from pathlib import Path

import torch

from tests.integration.conftest import Visavis
from tests.parity.fixtures import DATA
from tests.published import VOCABULARY, scan_values

CORPUS = DATA / "precomp_sample"


def test_a_converted_model_is_measured_on_its_vectors(visavis: Visavis, tmp_path: Path) -> None:
    torch.save(scan_values(), tmp_path / "x.pth.tar")
    made = ("convert", tmp_path / "x.pth.tar", "--vocabulary", VOCABULARY, "-o", tmp_path / "model")
    said = visavis(*made, "--features", CORPUS)
    assert (said.code, said.err) == (0, "")
    assert said.lines[-1].endswith(f"words: {tmp_path / 'model'}")
    measured = visavis(
        "evaluate", tmp_path / "model", "--data", CORPUS, "--split", "testall", "--json"
    )
    assert measured.code == 0, measured.err
    assert "rsum" in measured.out


def test_without_vectors_it_is_said_and_measuring_refused(visavis: Visavis, tmp_path: Path) -> None:
    torch.save(scan_values(), tmp_path / "x.pth.tar")
    made = ("convert", tmp_path / "x.pth.tar", "--vocabulary", VOCABULARY, "-o", tmp_path / "model")
    said = visavis(*made, "--json", "--set", "aggregation=Max")
    assert said.code == 0
    assert said.json["settings"]["aggregation"] == "Max"
    assert said.json["converted"]["file"] == "x.pth.tar"
    assert visavis(*made).err.startswith("note: without --features")
    refused = visavis("evaluate", tmp_path / "model", "--data", CORPUS)
    assert refused.code == 1
    assert "not given to visavis convert" in refused.err


def test_a_refusal_is_one_line(visavis: Visavis, tmp_path: Path) -> None:
    (tmp_path / "x").write_text("no checkpoint")
    said = visavis("convert", tmp_path / "x", "-o", tmp_path / "model")
    assert said.code == 1
    assert len(said.err.splitlines()) == 1
    assert not (tmp_path / "model").exists()
