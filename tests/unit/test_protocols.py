"""Protocols: which images and sentences meet, and which names are refused."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from visavis.data.corpus import Corpus
from visavis.errors import DataError, RecipeError
from visavis.evaluation.protocols import PROTOCOLS, make_protocol


@cache
def corpus(images: int, each: int = 2) -> Corpus:
    """Images that are not in the order of their names, with some sentences each."""
    owners = np.repeat(np.arange(images), each)
    return Corpus(
        name="toy",
        image_ids=tuple(f"image{(7 * i) % images}-{i}" for i in range(images)),
        image_splits=("test",) * images,
        sentence_ids=tuple(f"s{j}" for j in range(images * each)),
        sentence_texts=tuple(f"sentence {j}" for j in range(images * each)),
        pairs=np.stack([owners, np.arange(images * each)], axis=1),
        rows=np.arange(images),
    )


def test_full_takes_every_image() -> None:
    protocol = make_protocol("full", corpus(7))
    assert [fold.image_ids for fold in protocol.folds] == [corpus(7).image_ids]
    assert protocol.note == ""


def test_1k_takes_the_first_thousand_in_file_order() -> None:
    split = corpus(1014)
    protocol = make_protocol("1k", split)
    assert len(protocol.folds) == 1
    assert protocol.folds[0].image_ids == split.image_ids[:1000]
    assert protocol.folds[0].sentence_ids == split.sentence_ids[:2000]
    assert protocol.note == "the first 1,000 of 1,014 images, in file order"


def test_1k_of_a_thousand_needs_no_note() -> None:
    assert make_protocol("1k", corpus(1000)).note == ""


def test_5k_is_one_fold_of_all() -> None:
    protocol = make_protocol("5k", corpus(5000))
    assert [len(fold.image_ids) for fold in protocol.folds] == [5000]


def test_5x1k_is_five_consecutive_folds() -> None:
    split = corpus(5000)
    protocol = make_protocol("5x1k", split)
    assert len(protocol.folds) == 5
    for number, fold in enumerate(protocol.folds):
        assert fold.image_ids == split.image_ids[1000 * number : 1000 * (number + 1)]
        assert fold.sentence_ids == split.sentence_ids[2000 * number : 2000 * (number + 1)]
        assert fold.rows is not None
        assert fold.rows[0] == 1000 * number
    assert protocol.corpus.image_ids == split.image_ids


def test_pairs_of_a_fold_stay_within_it() -> None:
    fold = make_protocol("5x1k", corpus(5000)).folds[3]
    assert fold.pairs.min(axis=0).tolist() == [0, 0]
    assert fold.pairs.max(axis=0).tolist() == [999, 1999]
    texts = [fold.sentence_texts[j] for i, j in fold.pairs if i == 0]
    assert texts == ["sentence 6000", "sentence 6001"]


@pytest.mark.parametrize(
    ("name", "images", "message"),
    [
        ("1k", 999, "needs 1,000 images, this split has 999; use `full`"),
        ("5k", 4999, "needs 5,000 images, this split has 4,999; use `full`"),
        ("5x1k", 1000, "one set of 1,000 is not the mean of five folds: call it `1k`"),
        ("5x1k", 500, "needs 5,000 images, this split has 500; use `full`"),
    ],
)
def test_a_name_is_refused_where_its_protocol_cannot_be_kept(
    name: str, images: int, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        make_protocol(name, corpus(images))


def test_an_unknown_protocol_names_the_nearest() -> None:
    with pytest.raises(RecipeError, match="did you mean '5x1k'"):
        make_protocol("5x1", corpus(3))


def test_a_split_without_images_is_refused() -> None:
    with pytest.raises(DataError, match="no image"):
        make_protocol("full", corpus(3).select([]))


def test_every_protocol_carries_its_own_name() -> None:
    assert len(PROTOCOLS) == 4
    for name in PROTOCOLS:
        assert make_protocol(name, corpus(5000)).name == name
