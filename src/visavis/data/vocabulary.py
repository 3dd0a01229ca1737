"""Word vocabularies: built from sentences, or read from the files that published models need.

A word-level checkpoint is usable only with its own vocabulary file, since word numbers depend on
the run that made it. Three published formats are read: the JSON of SCAN, BFAN and SGRAF, the JSON
of MTFN (numbers from 1, no start and end) and the pickle of VSE++, VSRN, AOQ and CAMP.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from visavis.data.pickled_vocabulary import read_pickled_vocabulary
from visavis.data.treebank import treebank_tokenize
from visavis.errors import DataError
from visavis.files import read_json, write_json

VocabularyKind = Literal["treebank", "mtfn"]

PAD, START, END, UNKNOWN = "<pad>", "<start>", "<end>", "<unk>"
DROPPED_BY_MTFN = frozenset(",.:;?()[]&!*@#$%")
_LARGEST = 64 * 2**20  # bytes; the largest published file has 0.5 MiB


@dataclass(frozen=True)
class Vocabulary:
    """Words and their numbers. Number 0 is padding in every kind.

    `treebank`: every word counts and a sentence stands between `<start>` and `<end>`.
    `mtfn`: punctuation is dropped, nothing is put around a sentence, padding has no written entry.
    """

    words: tuple[str, ...]  # word of each number; words[0] is padding
    kind: VocabularyKind = "treebank"
    _numbers: Mapping[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        numbers = {word: number for number, word in enumerate(self.words)}
        if len(numbers) != len(self.words):
            twice = next(word for word, count in Counter(self.words).items() if count > 1)
            raise DataError(f"a vocabulary holds {twice!r} twice; every word needs one number")
        special = (START, END, UNKNOWN) if self.kind == "treebank" else (UNKNOWN,)
        missing = [word for word in special if word not in numbers]
        if missing:
            raise DataError(f"a {self.kind} vocabulary lacks {', '.join(missing)}")
        if numbers.get(PAD) != 0:
            raise DataError(f"a vocabulary has {self.words[0]!r} as word 0, expected {PAD!r}")
        object.__setattr__(self, "_numbers", numbers)

    def __len__(self) -> int:
        return len(self.words)

    def __contains__(self, word: object) -> bool:
        return word in self._numbers

    @property
    def pad(self) -> int:
        """Number of padding: 0."""
        return 0

    @property
    def unk(self) -> int:
        """Number of every unknown word."""
        return self._numbers[UNKNOWN]

    @property
    def start(self) -> int | None:
        """Number put before a sentence, None for MTFN."""
        return self._numbers[START] if self.kind == "treebank" else None

    @property
    def end(self) -> int | None:
        """Number put after a sentence, None for MTFN."""
        return self._numbers[END] if self.kind == "treebank" else None

    @property
    def digest(self) -> str:
        """A hash of kind, words and their order."""
        text = json.dumps([self.kind, self.words], ensure_ascii=False)
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]

    def numbers(self, words: Iterable[str]) -> list[int]:
        """Number of each word; unknown words get the number of `<unk>`."""
        unk = self.unk
        return [self._numbers.get(word, unk) for word in words]

    def cut(self, text: str, *, split_sentences: bool = False) -> list[str]:
        """The words of a text as this kind of vocabulary counts them."""
        words = treebank_tokenize(text, split_sentences=split_sentences)
        return words if self.kind == "treebank" else _without_punctuation(words)

    @staticmethod
    def build(
        texts: Iterable[str],
        threshold: int = 4,
        *,
        kind: VocabularyKind = "treebank",
        split_sentences: bool = False,
    ) -> Vocabulary:
        """The words that occur at least `threshold` times, in alphabetical order.

        >>> Vocabulary.build(["a dog", "a cat"], threshold=2).words
        ('<pad>', '<start>', '<end>', '<unk>', 'a')
        """
        counts: Counter[str] = Counter()
        for text in texts:
            counts.update(treebank_tokenize(text, split_sentences=split_sentences))
        words = sorted(word for word, count in counts.items() if count >= threshold)
        if kind == "mtfn":
            return Vocabulary((PAD, *_without_punctuation(words), UNKNOWN), kind)
        return Vocabulary((PAD, START, END, UNKNOWN, *words), kind)

    def to_json(self) -> dict[str, object]:
        """The published JSON form of the kind; `Vocabulary.from_json` reads it back."""
        first = 0 if self.kind == "treebank" else 1
        entries = list(enumerate(self.words))[first:]
        return {
            "word2idx": {word: number for number, word in entries},
            "idx2word": {str(number): word for number, word in entries},
            "idx": len(self.words),
        }

    @staticmethod
    def from_json(value: object, source: str = "vocabulary") -> Vocabulary:
        """A vocabulary from either published JSON form; `source` names the file in errors.

        Raises:
            DataError: missing parts, words and numbers that disagree, gaps in the numbers.
        """
        if not isinstance(value, Mapping):
            raise DataError(f"{source}: not a vocabulary; expected word2idx and idx2word")
        numbers = _word_numbers(value.get("word2idx"), source)
        _check_inverse(numbers, value.get("idx2word"), source)
        ordered = sorted(numbers, key=numbers.__getitem__)
        first = numbers[ordered[0]]
        if [numbers[word] for word in ordered] != list(range(first, first + len(ordered))):
            raise DataError(f"{source}: word numbers have gaps or repeat; it is not complete")
        try:
            if first == 0:
                return Vocabulary(tuple(ordered))
            if first == 1:
                return Vocabulary((PAD, *ordered), "mtfn")
        except DataError as error:
            raise DataError(f"{source}: {error}") from error
        raise DataError(f"{source}: words are numbered from {first}, expected 0 or 1")

    @staticmethod
    def load(path: Path) -> Vocabulary:
        """A vocabulary file, whatever its published format; the content tells, not the name.

        Raises:
            DataError: the file is missing, damaged or holds something else.
        """
        try:
            if path.stat().st_size > _LARGEST:
                raise DataError(f"{path}: larger than {_LARGEST} bytes; it is not a vocabulary")
            with path.open("rb") as stream:
                start = stream.read(1)
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
        # A pickle of protocol 2 or later starts with byte 0x80, which no UTF-8 text does.
        value = read_pickled_vocabulary(path) if start == b"\x80" else read_json(path)
        return Vocabulary.from_json(value, str(path))

    def save(self, path: Path) -> None:
        """Write the published JSON form, atomically."""
        write_json(path, self.to_json())


def _without_punctuation(words: Sequence[str]) -> list[str]:
    return [word for word in words if word not in DROPPED_BY_MTFN]


def _word_numbers(value: object, source: str) -> dict[str, int]:
    if not isinstance(value, Mapping) or not value:
        raise DataError(f"{source}: no words; a vocabulary needs word2idx with word: number")
    numbers: dict[str, int] = {}
    for word, number in value.items():
        if not isinstance(word, str) or not isinstance(number, int) or isinstance(number, bool):
            raise DataError(f"{source}: word2idx holds {word!r}: {number!r}, expected word: number")
        numbers[word] = number
    return numbers


def _check_inverse(numbers: Mapping[str, int], inverse: object, source: str) -> None:
    if not isinstance(inverse, Mapping) or len(inverse) != len(numbers):
        size = len(inverse) if isinstance(inverse, Mapping) else "no"
        raise DataError(f"{source}: {len(numbers)} words but {size} numbers in idx2word")
    # JSON keys are text, those of the pickle are numbers.
    by_number = {str(number): word for number, word in inverse.items()}
    for word, number in numbers.items():
        if by_number.get(str(number)) != word:
            raise DataError(
                f"{source}: word {word!r} has number {number}, but number {number} is "
                f"{by_number.get(str(number))!r}; the file is damaged"
            )
