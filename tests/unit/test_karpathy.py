"""Karpathy's JSON files: what is read from them, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from visavis.data.karpathy import read_karpathy
from visavis.errors import DataError


def sentence(number: int, raw: str = "A dog runs .") -> dict[str, Any]:
    return {"raw": raw, "tokens": ["a", "dog", "runs"], "imgid": 0, "sentid": number}


def image(number: int, split: str = "train", sentences: int = 2) -> dict[str, Any]:
    return {
        "imgid": number,
        "filename": f"{number}.jpg",
        "split": split,
        "sentids": [10 * number + k for k in range(sentences)],
        "sentences": [sentence(10 * number + k) for k in range(sentences)],
    }


def write(folder: Path, images: object, name: str = "toy") -> Path:
    file = folder / f"dataset_{name}.json"
    file.write_text(json.dumps({"dataset": name, "images": images}), encoding="utf-8")
    return file


def test_ids_texts_splits_and_pairs_are_those_of_the_file(tmp_path: Path) -> None:
    second = image(1, "test", sentences=1)
    second["sentences"][0]["raw"] = " Ein Café . "
    corpus = read_karpathy(write(tmp_path, [image(0), second]))
    assert corpus.name == "toy"
    assert corpus.image_ids == ("0.jpg", "1.jpg")
    assert corpus.image_splits == ("train", "test")
    assert corpus.sentence_ids == ("0", "1", "10")
    assert corpus.sentence_texts == ("A dog runs .", "A dog runs .", "Ein Café .")
    assert corpus.pairs.tolist() == [[0, 0], [0, 1], [1, 2]]


def test_a_folder_with_one_dataset_file_is_that_file(tmp_path: Path) -> None:
    file = write(tmp_path, [image(0)])
    assert read_karpathy(tmp_path).fingerprint() == read_karpathy(file).fingerprint()


def test_a_folder_with_two_dataset_files_is_refused(tmp_path: Path) -> None:
    write(tmp_path, [image(0)], "one")
    write(tmp_path, [image(0)], "two")
    with pytest.raises(DataError, match=r"2 corpora \(dataset_one.json, dataset_two.json\)"):
        read_karpathy(tmp_path)


def test_an_image_of_coco_is_called_by_its_number(tmp_path: Path) -> None:
    entry = image(0, "restval") | {"cocoid": 391895, "filepath": "val2014"}
    corpus = read_karpathy(write(tmp_path, [entry]))
    assert corpus.image_ids == ("391895",)
    assert corpus.splits == ("restval",)


def test_tokens_stand_in_where_raw_is_missing_or_blank(tmp_path: Path) -> None:
    entry = image(0)
    del entry["sentences"][0]["raw"]
    entry["sentences"][1]["raw"] = "  "
    assert read_karpathy(write(tmp_path, [entry])).sentence_texts == ("a dog runs", "a dog runs")


def test_sentences_without_numbers_are_called_by_image_and_place(tmp_path: Path) -> None:
    entry = image(0)
    del entry["sentences"][1]["sentid"]
    assert read_karpathy(write(tmp_path, [entry])).sentence_ids == ("0.jpg#0", "0.jpg#1")


def test_feature_rows_are_the_rows_of_the_file(tmp_path: Path) -> None:
    corpus = read_karpathy(write(tmp_path, [image(0) | {"row": 7}, image(1) | {"row": 3}]))
    assert corpus.rows is not None
    assert corpus.rows.tolist() == [7, 3]


def test_feature_rows_are_else_the_order_of_imgid(tmp_path: Path) -> None:
    corpus = read_karpathy(write(tmp_path, [image(12), image(3), image(5)]))
    assert corpus.rows is not None
    assert corpus.rows.tolist() == [2, 0, 1]


@pytest.mark.parametrize(
    "place", ["images/0.jpg", "0.jpg", "val2014/0.jpg", "images/val2014/0.jpg"]
)
def test_a_picture_is_found_in_every_usual_place(tmp_path: Path, place: str) -> None:
    (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / place).touch()
    entries = [image(0) | {"filepath": "val2014"}, image(1)]
    assert read_karpathy(write(tmp_path, entries)).pictures == (tmp_path / place, None)


def test_no_picture_is_looked_for_outside_of_the_corpus(tmp_path: Path) -> None:
    (tmp_path / "0.jpg").touch()
    (tmp_path / "corpus").mkdir()
    entries = [image(0) | {"filepath": ".."}, image(1) | {"filepath": str(tmp_path)}]
    assert read_karpathy(write(tmp_path / "corpus", entries)).pictures is None


def changed(**values: object) -> dict[str, Any]:
    return image(0) | values


def with_sentence(value: object) -> dict[str, Any]:
    return image(0) | {"sentences": [value]}


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([], "no images"),
        ({"0": image(0)}, "no images"),
        (["0.jpg"], "image 0: is not an object"),
        ([changed(split=None)], "image 0: needs a text under 'split'"),
        ([changed(filename=5)], "image 0: needs a text under 'filename'"),
        ([changed(imgid="x")], "image 0: needs a whole number from 0 under 'imgid'"),
        ([changed(imgid=True)], "image 0: needs a whole number from 0 under 'imgid'"),
        ([changed(sentences="a dog")], "image 0: has no list under 'sentences'"),
        ([with_sentence("a dog")], "image 0, sentence 0: is not an object"),
        ([with_sentence({"raw": 3})], "image 0, sentence 0: needs a text under 'raw'"),
        ([with_sentence({"tokens": [1]})], "image 0, sentence 0: needs a text under 'raw'"),
        ([with_sentence({"raw": "b'a man'"})], r"printed bytes object .* decoded as UTF-8"),
        ([image(0), image(0)], "two images share an id"),
        ([image(0), image(1) | {"row": 4}], "1 of 2 images have a 'row'"),
    ],
)
def test_what_cannot_be_used_is_refused(tmp_path: Path, images: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_karpathy(write(tmp_path, images))


def test_a_file_that_is_not_json_is_refused(tmp_path: Path) -> None:
    (tmp_path / "dataset_toy.json").write_text("{")
    with pytest.raises(DataError, match="not a JSON file"):
        read_karpathy(tmp_path)


@pytest.mark.photographs
def test_flickr8k_has_the_images_and_sentences_of_its_description(photographs: Path) -> None:
    corpus = read_karpathy(photographs)
    assert (len(corpus.image_ids), len(corpus.sentence_ids)) == (7000, 35000)
    assert corpus.image_splits.count("train") == 6000
    assert corpus.image_splits.count("val") == 1000
    assert len(corpus.split("val").sentence_ids) == 5000
    assert corpus.pictures is not None
    assert all(path is not None for path in corpus.pictures)
