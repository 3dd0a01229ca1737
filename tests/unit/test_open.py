"""Finding and recognising corpora, and joining their images to feature rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from visavis.data.corpus import Corpus
from visavis.data.features import FeatureIdentity
from visavis.data.open import FORMATS, find_corpus, link, open_corpus
from visavis.errors import DataError
from visavis.types import ImageBatch


class Named:
    """Features that only know their names."""

    dim = 1
    identity = FeatureIdentity(extractor="none")

    def __init__(self, ids: Sequence[str] | None, count: int = 0) -> None:
        self.ids = ids
        self._count = count if ids is None else len(ids)

    def __len__(self) -> int:
        return self._count

    def read(self, rows: NDArray[np.int64]) -> ImageBatch:
        return ImageBatch(torch.zeros(len(rows), 1, 1), torch.ones(len(rows), 1, dtype=torch.bool))


def corpus(*ids: str, rows: Sequence[int] | None = None) -> Corpus:
    return Corpus(
        name="toy",
        image_ids=ids,
        image_splits=("train",) * len(ids),
        sentence_ids=(),
        sentence_texts=(),
        pairs=np.zeros((0, 2), dtype=np.int64),
        rows=None if rows is None else np.array(rows),
    )


def karpathy(folder: Path, name: str = "toy") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    content = '{"images": [{"filename": "a.jpg", "split": "test", "sentences": [{"raw": "A."}]}]}'
    (folder / f"dataset_{name}.json").write_text(content)
    return folder


def test_every_format_names_a_reader() -> None:
    for reader in FORMATS.values():
        module, function = reader.split(":")
        assert module.startswith("visavis.data.")
        assert function.startswith("read_")


def test_a_name_replaces_that_of_the_files(tmp_path: Path) -> None:
    karpathy(tmp_path)
    assert open_corpus(tmp_path).name == "toy"
    assert open_corpus(tmp_path, "mine").name == "mine"


def test_an_unknown_folder_says_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no corpus here; looked for dataset_\*.json"):
        open_corpus(tmp_path)


def test_a_missing_folder_is_called_missing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file or folder"):
        open_corpus(tmp_path / "nowhere")


def test_a_corpus_is_found_below_the_root(tmp_path: Path) -> None:
    karpathy(tmp_path / "toy")
    assert find_corpus("toy", tmp_path) == tmp_path / "toy"


def test_a_corpus_is_found_at_the_root(tmp_path: Path) -> None:
    karpathy(tmp_path)
    assert find_corpus("toy", tmp_path) == tmp_path


def test_another_corpus_at_the_root_is_not_taken(tmp_path: Path) -> None:
    karpathy(tmp_path, "other")
    with pytest.raises(DataError, match="pass --data or set VISAVIS_DATA"):
        find_corpus("toy", tmp_path)


@pytest.mark.parametrize(
    ("images", "names"),
    [
        (("a.jpg", "b.jpg"), ("b.jpg", "c.jpg", "a.jpg")),
        (("a.jpg", "b.jpg"), ("b", "c", "a")),
        (("a", "b"), ("x/b.png", "x/c.png", "x/a.png")),
        (("test/11", "test/12"), ("12", "13", "11")),
        (("11", "12"), ("COCO_val_000012.jpg", "COCO_val_000013.jpg", "COCO_val_000011.jpg")),
    ],
)
def test_images_are_matched_by_id_then_stem_then_number(
    images: tuple[str, ...], names: tuple[str, ...]
) -> None:
    assert link(corpus(*images), Named(names)).tolist() == [2, 0]


def test_images_are_matched_by_the_name_of_their_picture() -> None:
    images = replace(corpus("7", "8"), pictures=(Path("in/a.jpg"), Path("in/b.jpg")))
    assert link(images, Named(["b", "a"])).tolist() == [1, 0]


def test_a_stem_that_two_rows_share_matches_neither() -> None:
    with pytest.raises(DataError, match="1 of 1 images"):
        link(corpus("a"), Named(["a.jpg", "a.png"]))


def test_features_without_names_are_taken_by_row() -> None:
    assert link(corpus("a", "b", rows=[1, 0]), Named(None, 2)).tolist() == [1, 0]


def test_missing_features_are_counted_with_an_example() -> None:
    with pytest.raises(DataError, match=r"2 of 3 images have no features, for example 'b'"):
        link(corpus("a", "b", "c"), Named(["a", "x"]))


def test_named_features_are_never_taken_by_row() -> None:
    with pytest.raises(DataError, match="2 of 2 images have no features"):
        link(corpus("a", "b", rows=[0, 1]), Named(["x", "y"]))


def test_rows_beyond_the_features_are_refused() -> None:
    with pytest.raises(DataError, match="1 of 2 images have rows up to 2, but there are 2"):
        link(corpus("a", "b", rows=[0, 2]), Named(None, 2))


def test_nothing_that_tells_the_rows_is_an_error() -> None:
    with pytest.raises(DataError, match=r"write an ids.txt"):
        link(corpus("a"), Named(None, 1))
