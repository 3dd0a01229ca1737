"""`check` finds each fault it is meant to find, and all of them in one run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from visavis.data.check import Report, check
from visavis.data.draft import is_printed_bytes
from visavis.errors import DataError


def image(number: int, split: str, *texts: str) -> dict[str, Any]:
    return {
        "imgid": number,
        "filename": f"{number}.jpg",
        "split": split,
        "sentences": [{"raw": text, "sentid": 10 * number + k} for k, text in enumerate(texts)],
    }


def sound() -> list[dict[str, Any]]:
    return [
        image(0, "train", "A dog runs.", "The dog's ball"),
        image(1, "train", "Two men"),
        image(2, "test", "A red bus on the road", "bus"),
    ]


def karpathy(folder: Path, images: list[Any], vectors: np.ndarray | None = None) -> Report:
    (folder / "dataset_toy.json").write_text(json.dumps({"images": images}), encoding="utf-8")
    if vectors is not None:
        np.save(folder / "regions.npy", vectors)
    return check(folder)


def random(rows: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((rows, 2, 3)).astype(np.float32)


def precomp(folder: Path, split: str, rows: np.ndarray, captions: str, ids: str) -> None:
    np.save(folder / f"{split}_ims.npy", rows)
    (folder / f"{split}_caps.txt").write_text(captions)
    (folder / f"{split}_ids.txt").write_text(ids)


def test_counts_by_hand(tmp_path: Path) -> None:
    report = karpathy(tmp_path, sound(), random(3))
    assert report.sound
    assert report.problems == ()
    assert report.format == "karpathy"
    assert {name: (c.images, c.sentences) for name, c in report.splits.items()} == {
        "train": (2, 3),
        "test": (1, 2),
    }
    assert report.sentences_per_image == {1: 1, 2: 2}
    # a dog runs the dog's ball two men red bus on road
    assert report.vocabulary == 12
    assert (report.lengths.shortest, report.lengths.longest) == (1, 6)
    assert report.lengths.mean == pytest.approx((3 + 3 + 2 + 6 + 1) / 5)
    assert report.lengths.median == 3


def test_every_fault_is_told_in_one_run(tmp_path: Path) -> None:
    images = [
        *sound(),
        image(3, "val", "b'a cat'", "  "),
        image(4, "val"),
        image(1, "val", "Two men"),
        {"filename": "5.jpg"},
    ]
    vectors = random(4)
    vectors[1, 0, 0] = np.inf
    problems = "\n".join(karpathy(tmp_path, images, vectors).problems)
    for fault in (
        "image 6: needs a text under 'split'",
        "image 6: has no list under 'sentences'",
        "printed bytes object",
        "'1.jpg': 1 images have the id of another",
        "'1.jpg': the same image (by its id) is in train and in val",
        "'4.jpg': has no sentence",
        "sentence '31': a caption is empty",
        "regions.npy: row 1: a feature row holds NaN or infinity",
    ):
        assert fault in problems


def test_faults_of_a_kind_are_one_line_with_their_number(tmp_path: Path) -> None:
    images = [image(k, "train", "b'a'", "b'b'") for k in range(3)]
    (line,) = karpathy(tmp_path, images).problems
    assert line.endswith("(6 times)")
    assert "image 0, sentence 0" in line


def test_the_same_picture_file_under_two_ids_is_a_leak(tmp_path: Path) -> None:
    images = [
        image(0, "train", "A") | {"cocoid": 1},
        image(0, "test", "B") | {"cocoid": 2, "imgid": 1},
    ]
    for number, entry in enumerate(images):
        entry["sentences"][0]["sentid"] = number
    (line,) = karpathy(tmp_path, images).problems
    assert "'0.jpg': the same image (by its picture file name) is in train and in test" in line


def test_the_same_vectors_in_two_splits_are_a_leak(tmp_path: Path) -> None:
    vectors = random(3)
    vectors[2] = vectors[0]
    (line,) = karpathy(tmp_path, sound(), vectors).problems
    assert "row 2 (images '0.jpg' and '2.jpg'): the same vectors are in train and in test" in line


def test_the_same_vectors_in_one_split_are_a_note(tmp_path: Path) -> None:
    vectors = random(3)
    vectors[1] = vectors[0]
    report = karpathy(tmp_path, sound(), vectors)
    assert report.sound
    assert any("two images have the same vectors" in note for note in report.notes)


def test_repeated_captions_are_notes(tmp_path: Path) -> None:
    images = [image(0, "train", "A dog", "A dog"), image(1, "test", "A dog")]
    report = karpathy(tmp_path, images)
    assert report.sound
    notes = "\n".join(report.notes)
    assert "its image has the same caption twice" in notes
    assert "the same caption is in train and in test" in notes


def test_missing_pictures_are_a_problem_only_where_others_are_there(tmp_path: Path) -> None:
    report = karpathy(tmp_path, sound())
    assert report.sound
    assert any("no picture files" in note for note in report.notes)
    (tmp_path / "0.jpg").touch()
    (line,) = check(tmp_path).problems
    assert "'1.jpg': 2 of 3 picture files are missing" in line


def test_too_few_feature_rows_are_a_problem(tmp_path: Path) -> None:
    (line,) = karpathy(tmp_path, sound(), random(2)).problems
    assert "image '2.jpg': has a row beyond the last, there are 2 rows" in line


def test_vectors_of_a_bad_shape_are_a_problem(tmp_path: Path) -> None:
    (line,) = karpathy(tmp_path, sound(), random(3).reshape(3, 6)).problems
    assert "shape (3, 6), expected (rows, regions, width)" in line


def test_every_precomp_split_is_looked_at(tmp_path: Path) -> None:
    precomp(tmp_path, "train", random(3)[:2], "a\nb\nc\n", "1\n2\n")
    vectors = random(6)[2:].repeat(2, axis=0)
    vectors[3] += 1
    vectors[6, 1, 1] = np.nan
    precomp(tmp_path, "dev", vectors, "b'd'\ne\n\ng\nh\ni\nj\nk\n", "3\n3\n4\n4\n5\n5\n6\n6\n")
    precomp(tmp_path, "test", random(9)[8:], "z\n", "3\n")
    np.save(tmp_path / "extra_ims.npy", random(1))
    problems = "\n".join(check(tmp_path).problems)
    for fault in (
        "train_caps.txt: 3 captions do not fit the 2 rows of train_ims.npy",
        "extra_caps.txt: no such file beside extra_ims.npy",
        "dev_caps.txt, line 1: a caption is a printed bytes object",
        "sentence 'dev#2': a caption is empty",
        "dev_ims.npy: row 3: rows of one image id hold different vectors",
        "dev_ims.npy: row 6: a feature row holds NaN",
        "'3': the same image (by its id) is in dev and in test",
    ):
        assert fault in problems


def test_test_within_testall_is_no_problem(tmp_path: Path) -> None:
    precomp(tmp_path, "test", random(3)[:1], "a\n", "1\n")
    precomp(tmp_path, "testall", random(3), "a\nb\nc\n", "1\n2\n3\n")
    report = check(tmp_path)
    assert report.sound
    assert any("an image of test is in testall too" in note for note in report.notes)


def test_widths_that_differ_are_a_problem(tmp_path: Path) -> None:
    precomp(tmp_path, "train", random(1), "a\n", "1\n")
    precomp(tmp_path, "dev", random(2)[1:, :, :2], "b\n", "2\n")
    (line,) = check(tmp_path).problems
    assert "vectors of different widths (train_ims.npy 3, dev_ims.npy 2)" in line


def test_progress_counts_every_byte_of_the_features(tmp_path: Path) -> None:
    karpathy(tmp_path, sound(), random(3))
    seen: list[tuple[int, int]] = []
    check(tmp_path, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (3 * 2 * 3 * 4, 3 * 2 * 3 * 4)


def test_a_folder_without_a_corpus_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no corpus here"):
        check(tmp_path)


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("b'a man'", True),
        ('b"a man\'s hat"', True),
        ("b'", False),
        ("b a man", False),
        ("b'a man", False),
        ("'a man'", False),
        ("a man b'x'", False),
    ],
)
def test_printed_bytes_are_told_from_text(text: str, *, printed: bool) -> None:
    assert is_printed_bytes(text) is printed


@pytest.mark.photographs
def test_flickr8k_is_sound(photographs: Path) -> None:
    report = check(photographs)
    assert report.problems == ()
    assert {name: (c.images, c.sentences) for name, c in report.splits.items()} == {
        "train": (6000, 30000),
        "val": (1000, 5000),
    }
    assert report.sentences_per_image == {5: 7000}
