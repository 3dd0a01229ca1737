"""A precomp folder in the published layout, against what the published loaders make of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from visavis.data.check import check
from visavis.data.draft import Refuse
from visavis.data.open import link
from visavis.data.precomp import PrecompFeatures, open_splits, read_precomp

FOLDER = Path(__file__).parent / "data" / "precomp_sample"
EXPECTED: dict[str, dict[str, Any]] = json.loads((FOLDER / "expected.json").read_text())["images"]

pytestmark = pytest.mark.parity


@pytest.mark.parametrize("name", EXPECTED)
def test_rows_and_images_of_captions_are_the_published_ones(name: str) -> None:
    split = next(found for found in open_splits(FOLDER, Refuse()) if found.name == name)
    expected = EXPECTED[name]
    assert [int(key) for key in split.image_keys] == expected["ids"]
    assert len(split.vectors) == expected["rows"]
    assert split.row_of_caption.tolist() == expected["caption_to_row"]
    assert split.image_of_caption.tolist() == expected["caption_to_image"]


@pytest.mark.parametrize("name", EXPECTED)
def test_the_corpus_pairs_captions_with_the_published_images(name: str) -> None:
    split = read_precomp(FOLDER).split(name)
    expected = EXPECTED[name]
    assert len(split.image_ids) == expected["n_images"]
    assert [int(i.rsplit("/", 1)[-1]) for i in split.image_ids] == expected["ids"]
    assert len(split.sentence_ids) == expected["n_captions"]
    assert split.pairs[:, 1].tolist() == list(range(expected["n_captions"]))
    assert split.pairs[:, 0].tolist() == expected["caption_to_image"]


@pytest.mark.parametrize("name", EXPECTED)
def test_the_vectors_of_an_image_are_the_published_ones(name: str) -> None:
    split, features = read_precomp(FOLDER).split(name), PrecompFeatures(FOLDER)
    regions = features.read(link(split, features)).regions.numpy()
    sums = regions.astype(np.float64).sum(axis=(1, 2))
    np.testing.assert_allclose(sums, EXPECTED[name]["image_sum"], rtol=1e-6)


def test_the_vectors_of_a_caption_are_those_of_its_published_row() -> None:
    features = PrecompFeatures(FOLDER)
    for name, expected in EXPECTED.items():
        split = read_precomp(FOLDER).split(name)
        published = np.load(FOLDER / f"{name}_ims.npy")[expected["caption_to_row"]]
        ours = features.read(link(split, features)[split.pairs[:, 0]]).regions.numpy()
        assert ours.tolist() == published.tolist()


def test_all_four_splits_were_compared() -> None:
    assert set(EXPECTED) == set(read_precomp(FOLDER).splits) == {"train", "dev", "test", "testall"}


def test_the_published_layout_has_no_problem() -> None:
    report = check(FOLDER)
    assert report.problems == ()
    assert any("test is in testall too" in note for note in report.notes)
