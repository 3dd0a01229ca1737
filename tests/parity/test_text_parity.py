"""Words and word numbers against those of the original pipelines."""

from __future__ import annotations

import json

import pytest

from tests.parity.fixtures import DATA
from visavis.data.tokenizer import WordTokenizer
from visavis.data.treebank import treebank_tokenize
from visavis.data.vocabulary import Vocabulary

TEXT = DATA / "text"
CASES = json.loads((TEXT / "tokens.json").read_text(encoding="utf-8"))["items"]
CAPTIONS = [case["caption"] for case in CASES]

pytestmark = pytest.mark.parity


def _expected(name: str) -> list[list[int]]:
    items: list[list[int]] = json.loads((TEXT / name).read_text(encoding="utf-8"))["items"]
    assert len(items) == len(CAPTIONS) == 60
    return items


@pytest.mark.parametrize("case", CASES, ids=[ascii(caption) for caption in CAPTIONS])
def test_words_equal_the_original(case: dict[str, object]) -> None:
    assert treebank_tokenize(str(case["caption"])) == case["tokens"]


@pytest.mark.parametrize(
    ("vocabulary", "numbers"),
    [
        ("f30k_precomp_vocab.json", "token_ids.json"),
        ("f30k_precomp_vocab.pkl", "token_ids.json"),
        ("mtfn_vocab.json", "mtfn_token_ids.json"),
    ],
)
def test_numbers_equal_the_original(vocabulary: str, numbers: str) -> None:
    tokenizer = WordTokenizer(Vocabulary.load(TEXT / vocabulary), max_words=None)
    assert [tokenizer.numbers(caption) for caption in CAPTIONS] == _expected(numbers)


def test_the_pickle_and_the_json_hold_the_same_vocabulary() -> None:
    pickled = Vocabulary.load(TEXT / "f30k_precomp_vocab.pkl")
    assert pickled == Vocabulary.load(TEXT / "f30k_precomp_vocab.json")
    assert len(pickled) == 50


@pytest.mark.parametrize("name", ["f30k_precomp_vocab.json", "mtfn_vocab.json"])
def test_a_vocabulary_is_written_as_it_was_published(name: str) -> None:
    published = json.loads((TEXT / name).read_text(encoding="utf-8"))
    assert Vocabulary.load(TEXT / name).to_json() == published


def test_a_batch_of_captions_holds_the_numbers_of_the_original() -> None:
    vocabulary = Vocabulary.load(TEXT / "f30k_precomp_vocab.json")
    wanted = [ids for ids in _expected("token_ids.json") if len(ids) > 2]
    captions = [
        caption
        for caption, ids in zip(CAPTIONS, _expected("token_ids.json"), strict=True)
        if len(ids) > 2
    ]
    batch = WordTokenizer(vocabulary, max_words=None).encode(captions)
    assert [row[mask].tolist() for row, mask in zip(batch.ids, batch.mask, strict=True)] == wanted
    assert not batch.ids[~batch.mask].any()
