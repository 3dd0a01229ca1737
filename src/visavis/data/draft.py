"""What a reader has gathered before it is a corpus, and what it does with faults on the way.

Reading for use stops at the first fault; `visavis data check` wants them all. Both run the same
reader and differ only in what they hand it: `Refuse` or `Collect`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from visavis.data.corpus import Corpus
from visavis.errors import DataError

# What `str(b"a man")` leaves behind: the most frequent cause of numbers that nobody can repeat.
_BYTES = re.compile(r"""^b(?P<quote>['"]).*(?P=quote)$""", re.DOTALL)
BYTES_FAULT = (
    "a caption is a printed bytes object (b'...'), not text; "
    "write the captions again, decoded as UTF-8"
)
EMPTY_FAULT = "a caption is empty; write one or remove it"


class Faults(Protocol):
    """Where a reader takes what it finds wrong."""

    def add(self, where: str, what: str) -> None:
        """One fault: the place, and a sentence that is the same for every fault of its kind."""
        ...

    def add_error(self, error: DataError) -> None:
        """A fault after which a file, or a split, cannot be read on."""
        ...


class Refuse:
    """The first fault is raised: reading for use."""

    def add(self, where: str, what: str) -> None:
        """Raise a DataError."""
        raise DataError(f"{where}: {what}")

    def add_error(self, error: DataError) -> None:
        """Raise the error."""
        raise error


class Collect:
    """Faults are kept, one line for each kind with its first place and how many there are."""

    def __init__(self) -> None:
        self._found: dict[str, tuple[str, int]] = {}

    def add(self, where: str, what: str) -> None:
        """Keep a fault."""
        first, count = self._found.get(what, (where, 0))
        self._found[what] = (first, count + 1)

    def add_error(self, error: DataError) -> None:
        """Keep an error as a line of its own."""
        self._found.setdefault(str(error), ("", 1))

    def lines(self) -> tuple[str, ...]:
        """One line for each kind of fault, in the order of finding."""
        return tuple(
            (f"{where}: {what}" if where else what) + (f" ({count} times)" if count > 1 else "")
            for what, (where, count) in self._found.items()
        )


@dataclass(kw_only=True)
class Draft:
    """Images and sentences as a file lists them; ids may still repeat."""

    name: str
    image_ids: list[str] = field(default_factory=list)
    image_splits: list[str] = field(default_factory=list)
    image_keys: list[str] = field(default_factory=list)  # the id in the file, without our prefix
    pictures: list[Path | None] = field(default_factory=list)  # empty when none was looked for
    file_names: list[str] = field(default_factory=list)  # of the pictures; empty when not told
    rows: list[int] = field(default_factory=list)
    sentence_ids: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    pairs: list[tuple[int, int]] = field(default_factory=list)  # image index, sentence index

    @staticmethod
    def of(corpus: Corpus) -> Draft:
        """The draft of a corpus that is read already."""
        return Draft(
            name=corpus.name,
            image_ids=list(corpus.image_ids),
            image_splits=list(corpus.image_splits),
            image_keys=list(corpus.image_ids),
            pictures=list(corpus.pictures or ()),
            file_names=[path.name if path else "" for path in corpus.pictures or ()],
            rows=[] if corpus.rows is None else corpus.rows.tolist(),
            sentence_ids=list(corpus.sentence_ids),
            texts=list(corpus.sentence_texts),
            pairs=[(int(image), int(sentence)) for image, sentence in corpus.pairs],
        )

    def corpus(self) -> Corpus:
        """The corpus.

        Raises:
            DataError: two images or two sentences share an id.
        """
        found = any(path is not None for path in self.pictures)
        return Corpus(
            name=self.name,
            image_ids=tuple(self.image_ids),
            image_splits=tuple(self.image_splits),
            sentence_ids=tuple(self.sentence_ids),
            sentence_texts=tuple(self.texts),
            pairs=np.array(self.pairs, dtype=np.int64).reshape(-1, 2),
            rows=np.array(self.rows, dtype=np.int64),
            pictures=tuple(self.pictures) if found else None,
        )


def is_printed_bytes(text: str) -> bool:
    """Whether a caption is what Python prints for bytes: `b'a man'`."""
    return _BYTES.match(text) is not None


def first_repeated(names: Sequence[str]) -> str | None:
    """The first name that stands twice, or None."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None
