from __future__ import annotations

import contextlib
import json
import pickle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from visavis.data.vocabulary import Vocabulary
from visavis.errors import DataError

TEXTS = ["a dog runs .", "a dog sits .", "a cat , a bird", "the dog"]
SCAN = {
    "word2idx": {"<pad>": 0, "<start>": 1, "<end>": 2, "<unk>": 3, "dog": 4},
    "idx2word": {"0": "<pad>", "1": "<start>", "2": "<end>", "3": "<unk>", "4": "dog"},
    "idx": 5,
}


class Published:
    """What the published code pickled; renamed so that the file says `Vocabulary`."""


def pickled(folder: Path, value: object, *, module: str = "__main__") -> Path:
    """A pickle whose class is named as in the published files."""
    path = folder / "vocab.pkl"
    content = pickle.dumps(value, protocol=2)
    written = f"c{Published.__module__}\n{Published.__name__}\n".encode()
    path.write_bytes(content.replace(written, f"c{module}\nVocabulary\n".encode()))
    return path


def published(**attributes: object) -> Published:
    value = Published()
    value.__dict__.update(attributes)
    return value


def python2(value: dict[str, Any]) -> dict[str, Any]:
    return {**value, "idx2word": {int(key): word for key, word in value["idx2word"].items()}}


def test_build_keeps_words_that_are_frequent_enough() -> None:
    built = Vocabulary.build(TEXTS, threshold=2)
    assert built.words == ("<pad>", "<start>", "<end>", "<unk>", ".", "a", "dog")
    assert (built.pad, built.start, built.end, built.unk) == (0, 1, 2, 3)


def test_build_does_not_depend_on_the_order_of_the_texts() -> None:
    assert Vocabulary.build(TEXTS, threshold=1) == Vocabulary.build(TEXTS[::-1], threshold=1)


def test_build_for_mtfn_counts_from_one_without_punctuation() -> None:
    built = Vocabulary.build(TEXTS, threshold=2, kind="mtfn")
    assert built.to_json()["word2idx"] == {"a": 1, "dog": 2, "<unk>": 3}
    assert (built.start, built.end, built.unk, len(built)) == (None, None, 3, 4)


def test_unknown_words_get_the_number_of_unk() -> None:
    assert Vocabulary.build(TEXTS, threshold=1).numbers(["zebra", "dog"]) == [3, 9]


@given(st.lists(st.text(max_size=20), max_size=6), st.sampled_from(["treebank", "mtfn"]))
@settings(max_examples=50, deadline=None)
def test_what_is_written_is_read_back(texts: list[str], kind: Any) -> None:
    built = Vocabulary.build(texts, threshold=1, kind=kind)
    again = Vocabulary.from_json(json.loads(json.dumps(built.to_json())))
    assert again == built
    assert again.digest == built.digest


def test_the_digest_depends_on_the_order_of_the_words() -> None:
    special = ("<pad>", "<start>", "<end>", "<unk>")
    one, other = Vocabulary((*special, "a", "b")), Vocabulary((*special, "b", "a"))
    assert one.digest != other.digest


def test_load_reads_a_saved_file(tmp_path: Path) -> None:
    Vocabulary.build(TEXTS, 1).save(tmp_path / "vocab.json")
    assert Vocabulary.load(tmp_path / "vocab.json") == Vocabulary.build(TEXTS, 1)


@pytest.mark.parametrize("module", ["__main__", "vocab"])
def test_the_published_pickle_is_read(tmp_path: Path, module: str) -> None:
    path = pickled(tmp_path, published(**python2(SCAN)), module=module)
    assert Vocabulary.load(path) == Vocabulary.from_json(SCAN)


def test_the_class_of_another_module_is_refused(tmp_path: Path) -> None:
    path = pickled(tmp_path, published(**python2(SCAN)), module="other")
    with pytest.raises(DataError, match=r"refused: the pickle names other\.Vocabulary"):
        Vocabulary.load(path)


def test_a_memo_number_that_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "vocab.pkl"
    path.write_bytes(b"\x80\x02]r\xff\xff\xff\x7f.")
    with pytest.raises(DataError, match="refused: the pickle numbers a part 2147483647"):
        Vocabulary.load(path)


class _Runs:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        import os

        return os.system, (f"touch {self.target}",)  # type: ignore[attr-defined]


def test_a_pickle_that_would_run_a_command_is_refused(tmp_path: Path) -> None:
    attack = _Runs()
    attack.target = tmp_path / "ran"  # type: ignore[attr-defined]
    path = pickled(tmp_path, published(word2idx=attack))
    with pytest.raises(DataError, match=r"refused: the pickle names posix\.system"):
        Vocabulary.load(path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x02cvisavis.data.vocabulary\nVocabulary\n.",
        b"\x80\x02cbuiltins\neval\n.",
        b"\x80\x02c__main__\nVocabulary\n(Nu}q\x00b.",
        b"\x80\x02c__main__\nVocabulary\nN}U\x0a__setstatesb.",
        b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.",
        b"\x80\x02X\xff\xff\xff\x7f.",
        b"\x80\x02Qa.",
        b"\x80",
        b"\x80\x02",
        b"\x80\x02}.",
        b"\x80\x02c__main__\nVocabulary\n)\x81.",
        b"\x80\x02c__main__\nVocabulary\n)\x81}b.",
        b"\x80\xff\xff",
    ],
)
def test_damaged_and_hostile_pickles_are_data_errors(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "vocab.pkl"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        Vocabulary.load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@given(st.binary(max_size=200))
@settings(max_examples=100, deadline=None)
def test_random_bytes_after_a_pickle_mark_are_data_errors(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "vocab.pkl"
    path.write_bytes(b"\x80\x02" + content)
    with pytest.raises(DataError):
        Vocabulary.load(path)


@given(position=st.integers(0, 2000), byte=st.integers(0, 255))
@settings(max_examples=100, deadline=None)
def test_a_changed_byte_never_raises_anything_else(
    tmp_path_factory: pytest.TempPathFactory, position: int, byte: int
) -> None:
    path = pickled(tmp_path_factory.mktemp("fuzz"), published(**python2(SCAN)))
    content = bytearray(path.read_bytes())
    content[position % len(content)] = byte
    path.write_bytes(bytes(content))
    with contextlib.suppress(DataError):
        assert len(Vocabulary.load(path)) >= 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"word2idx": {}}, "no words"),
        ({"word2idx": {"dog": "4"}}, "expected word: number"),
        ({"idx2word": None}, "no numbers in idx2word"),
        ({"idx2word": {**SCAN["idx2word"], "4": "cat"}}, "number 4 is 'cat'"),  # type: ignore[dict-item]
        ({"word2idx": {"a": 0}, "idx2word": {"0": "a"}}, "lacks <start>, <end>, <unk>"),
        ({"word2idx": {"a": 1}, "idx2word": {"1": "a"}}, "lacks <unk>"),
        ({"word2idx": {"a": 7}, "idx2word": {"7": "a"}}, "numbered from 7"),
        ({"word2idx": {"a": 0, "b": 2}, "idx2word": {"0": "a", "2": "b"}}, "gaps"),
    ],
)
def test_damaged_json_is_a_data_error(change: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        Vocabulary.from_json({**SCAN, **change}, "vocab.json")


@pytest.mark.parametrize("content", [b"", b"[1]", b"{", b"\xff\xfe", b"null", b'"text"'])
def test_a_file_that_is_no_vocabulary_is_a_data_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "vocab.json").write_bytes(content)
    with pytest.raises(DataError, match=r"vocab\.json"):
        Vocabulary.load(tmp_path / "vocab.json")


@pytest.mark.parametrize("name", ["missing.json", "."])
def test_a_missing_file_is_a_data_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        Vocabulary.load(tmp_path / name)


def test_a_word_that_stands_twice_is_refused() -> None:
    with pytest.raises(DataError, match="'dog' twice"):
        Vocabulary(("<pad>", "dog", "dog", "<unk>"), "mtfn")
