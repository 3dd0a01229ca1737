"""Sentences to token numbers: words of a vocabulary, or WordPieces of a BERT-family model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from visavis.data.sentences import all_checked, check_max_words, checked, digest_of, no_token, pad
from visavis.data.vocabulary import END, START, Vocabulary
from visavis.data.wordpiece import CONFIG, WordPieceTokenizer
from visavis.errors import DataError
from visavis.files import read_json, write_json
from visavis.types import SentenceBatch

__all__ = ["Tokenizer", "WordPieceTokenizer", "WordTokenizer", "load_tokenizer", "pad"]

VOCABULARY = "vocab.json"


class Tokenizer(Protocol):
    """What training, search and explanation know of a tokenizer. Number 0 is padding."""

    @property
    def vocab_size(self) -> int:
        """How many numbers there are, padding included: the height of an embedding table."""
        ...

    @property
    def digest(self) -> str:
        """A hash of everything that numbers depend on; a model refuses another tokenizer."""
        ...

    def tokens(self, text: str) -> list[str]:
        """Readable tokens of one sentence, one for each number that `encode` gives it."""
        ...

    def encode_lists(self, texts: Sequence[str]) -> list[list[int]]:
        """Numbers of each sentence, without padding: a corpus is cut once, not every epoch.

        Raises:
            DataError: a sentence has no token, or is bytes and not text.
        """
        ...

    def pad(self, lists: Sequence[Sequence[int]]) -> SentenceBatch:
        """Padded numbers and mask of what `encode_lists` gave for M sentences: (M, W)."""
        ...

    def encode(self, texts: Sequence[str]) -> SentenceBatch:
        """Padded numbers and mask of M sentences: (M, W). Raises what `encode_lists` raises."""
        ...

    def save(self, folder: Path) -> None:
        """Write what `load_tokenizer` reads."""
        ...


@dataclass(frozen=True)
class WordTokenizer:
    """Words of a vocabulary, as in VSE++, SCAN, BFAN, VSRN, AOQ, CAMP and MTFN.

    `max_words` counts `<start>` and `<end>` too; a longer sentence is cut and keeps its `<end>`.
    Published models cut nothing (None) and take a sentence for one (`split_sentences` off) or, as
    their authors' pipelines did, for several.
    """

    vocabulary: Vocabulary
    max_words: int | None = 60
    split_sentences: bool = False

    def __post_init__(self) -> None:
        check_max_words(self.max_words)

    @property
    def vocab_size(self) -> int:
        """Words of the vocabulary, padding included."""
        return len(self.vocabulary)

    @property
    def digest(self) -> str:
        """A hash of the vocabulary and the options."""
        return digest_of(f"word {self.vocabulary.digest} {self.max_words} {self.split_sentences}")

    def tokens(self, text: str) -> list[str]:
        """Words as they stand in the sentence, also those that the vocabulary lacks."""
        words = self._words(checked(text))
        return [START, *words, END] if self._marks else words

    def encode_lists(self, texts: Sequence[str]) -> list[list[int]]:
        """Numbers of each sentence.

        Raises:
            DataError: a sentence has no token, or is bytes and not text.
        """
        sentences = all_checked(texts)
        lists = [self.numbers(text) for text in sentences]
        for text, numbers in zip(sentences, lists, strict=True):
            if len(numbers) == self._marks:
                raise no_token(text)
        return lists

    def numbers(self, text: str) -> list[int]:
        """Numbers of one sentence; one without a word has its end marks only, or nothing."""
        numbers = self.vocabulary.numbers(self._words(text))
        start, end = self.vocabulary.start, self.vocabulary.end
        return numbers if start is None or end is None else [start, *numbers, end]

    def pad(self, lists: Sequence[Sequence[int]]) -> SentenceBatch:
        """Padded numbers and mask of what `encode_lists` gave for M sentences: (M, W)."""
        return pad(lists)

    def encode(self, texts: Sequence[str]) -> SentenceBatch:
        """Padded numbers and mask of M sentences: (M, W)."""
        return pad(self.encode_lists(texts))

    def save(self, folder: Path) -> None:
        """Write `vocab.json` and `tokenizer_config.json`."""
        self.vocabulary.save(folder / VOCABULARY)
        options = {"max_words": self.max_words, "split_sentences": self.split_sentences}
        write_json(folder / CONFIG, {"kind": "word", **options})

    def _words(self, text: str) -> list[str]:
        words = self.vocabulary.cut(text, split_sentences=self.split_sentences)
        return words if self.max_words is None else words[: self.max_words - self._marks]

    @property
    def _marks(self) -> int:
        return 0 if self.vocabulary.start is None else 2


def load_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer that `save` wrote, or that of a plain BERT folder.

    Raises:
        DataError: the folder or a file is missing, or a file is damaged.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; a tokenizer is a folder with {CONFIG}")
    config = read_json(folder / CONFIG) if (folder / CONFIG).is_file() else {}
    if not isinstance(config, dict):
        raise DataError(f"{folder / CONFIG}: expected keys and values")
    kind = config.get("kind", "wordpiece")
    if kind == "wordpiece":
        max_words = _max_words(config, folder, default=32)
        if max_words is None:
            raise DataError(f"{folder / CONFIG}: max_words must be a number for WordPieces")
        return WordPieceTokenizer.from_folder(folder, max_words=max_words)
    if kind == "word":
        return WordTokenizer(
            Vocabulary.load(folder / VOCABULARY),
            max_words=_max_words(config, folder, default=60),
            split_sentences=_split_sentences(config, folder),
        )
    raise DataError(f"{folder / CONFIG}: kind {kind!r}, expected 'word' or 'wordpiece'")


def _max_words(config: dict[str, Any], folder: Path, default: int) -> int | None:
    value = config.get("max_words", default)
    if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
        raise DataError(f"{folder / CONFIG}: max_words is {value!r}, expected a number or null")
    return value


def _split_sentences(config: dict[str, Any], folder: Path) -> bool:
    value = config.get("split_sentences", False)
    if not isinstance(value, bool):
        raise DataError(f"{folder / CONFIG}: split_sentences is {value!r}, expected true or false")
    return value
