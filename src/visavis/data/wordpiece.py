"""WordPieces of a BERT-family model, through the `tokenizers` library."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from tokenizers import Tokenizer as Backend
from tokenizers import models, normalizers, pre_tokenizers, processors

from visavis.data.sentences import all_checked, check_max_words, checked, digest_of, no_token, pad
from visavis.errors import DataError
from visavis.files import read_json, write_json, write_text
from visavis.types import SentenceBatch

_FILES = ("tokenizer.json", "vocab.txt")
_SPECIAL = ("[UNK]", "[CLS]", "[SEP]")
CONFIG = "tokenizer_config.json"

# Case, accents, punctuation, spaces, other scripts, a long word and a long sentence.
_PROBES = (
    "A man's hat isn't on THE café-table, is it?", "“Смотри” 猫がいる… \t 3,5% (x_y) #1 @home 😀",
    "naïve İstanbul Straße ﬁ ½ e\u0301", "unbelievablyoverenthusiastically" * 4, "a dog " * 300,
)  # fmt: skip


class WordPieceTokenizer:
    """The pieces that a BERT-family model was trained on, between its [CLS] and [SEP].

    `max_words` counts every piece, [CLS] and [SEP] too, as in SAEM; longer sentences are cut.
    """

    def __init__(self, backend: Backend, *, max_words: int = 32) -> None:
        check_max_words(max_words)
        self.max_words = max_words
        # A copy: cutting and padding are settings of the backend, and the caller keeps its own.
        self._backend = Backend.from_str(backend.to_str())
        self._backend.no_padding()
        self._backend.enable_truncation(max_length=max_words)

    @classmethod
    def from_folder(
        cls, folder: Path, *, max_words: int = 32, lower_case: bool | None = None
    ) -> WordPieceTokenizer:
        """The tokenizer of a BERT folder: its `tokenizer.json`, or else its `vocab.txt`.

        `lower_case` None follows the folder (`vocab.txt` alone: lower-cased).

        Raises:
            DataError: the folder is missing, has neither file, or a file is damaged.
        """
        return cls(read_backend(folder, lower_case=lower_case), max_words=max_words)

    @property
    def vocab_size(self) -> int:
        """Pieces of the vocabulary, special ones included."""
        return int(self._backend.get_vocab_size())

    @cached_property
    def digest(self) -> str:
        """A hash of the pieces and of what the rules make of some sentences.

        The file's own text is not hashed: another version of the library may write it otherwise.
        """
        pieces = sorted(self._backend.get_vocab().items())
        probes = [encoding.ids for encoding in self._backend.encode_batch(_PROBES)]
        return digest_of(json.dumps(["wordpiece", self.max_words, pieces, probes]))

    def tokens(self, text: str) -> list[str]:
        """Pieces as the model sees them: ## continues a word."""
        return list(self._backend.encode(checked(text)).tokens)

    def encode_lists(self, texts: Sequence[str]) -> list[list[int]]:
        """Numbers of each sentence.

        Raises:
            DataError: a sentence has no token, or is bytes and not text.
        """
        sentences = all_checked(texts)
        encodings = self._backend.encode_batch(sentences)
        for text, encoding in zip(sentences, encodings, strict=True):
            if all(encoding.special_tokens_mask):
                raise no_token(text)
        return [list(encoding.ids) for encoding in encodings]

    def pad(self, lists: Sequence[Sequence[int]]) -> SentenceBatch:
        """Padded numbers and mask of what `encode_lists` gave for M sentences: (M, W)."""
        return pad(lists)

    def encode(self, texts: Sequence[str]) -> SentenceBatch:
        """Padded numbers and mask of M sentences: (M, W)."""
        return pad(self.encode_lists(texts))

    def save(self, folder: Path) -> None:
        """Write `tokenizer.json` and `tokenizer_config.json`."""
        write_text(folder / _FILES[0], self._backend.to_str(pretty=True))
        write_json(folder / CONFIG, {"kind": "wordpiece", "max_words": self.max_words})


def read_backend(folder: Path, *, lower_case: bool | None = None) -> Backend:
    """The tokenizer of a BERT folder: its `tokenizer.json`, or else its `vocab.txt`.

    `lower_case` None follows the folder (`vocab.txt` alone: lower-cased); True or False builds the
    rules from `vocab.txt`.

    Raises:
        DataError: the folder is missing, has neither file, or a file is damaged.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; expected a BERT folder with {_FILES[1]}")
    rules, words = (folder / name for name in _FILES)
    if rules.is_file() and lower_case is None:
        return _from_rules(rules)
    if not words.is_file():
        raise DataError(f"{folder}: holds no {words.name}; expected a BERT folder")
    return _from_words(words, lower_case=_lower_case(folder) if lower_case is None else lower_case)


def _from_rules(path: Path) -> Backend:
    try:
        return Backend.from_str(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from error
    except Exception as error:  # the library raises nothing narrower
        raise DataError(f"{path}: not the file of a tokenizer ({error})") from error


def _from_words(path: Path, *, lower_case: bool) -> Backend:
    try:
        words = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from error
    numbers = {word: number for number, word in enumerate(words)}
    missing = [word for word in _SPECIAL if word not in numbers]
    if missing:
        raise DataError(f"{path}: holds no {', '.join(missing)}; not the vocabulary of a BERT")
    backend = Backend(models.WordPiece(numbers, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=lower_case)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        special_tokens=[(word, numbers[word]) for word in ("[CLS]", "[SEP]")],
    )
    backend.add_special_tokens([word for word in ("[PAD]", *_SPECIAL, "[MASK]") if word in numbers])
    return backend


def _lower_case(folder: Path) -> bool:
    path = folder / CONFIG
    config = read_json(path) if path.is_file() else {}
    return not (isinstance(config, dict) and config.get("do_lower_case") is False)
