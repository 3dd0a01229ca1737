"""Sentences as they come in: refused when they are not text, padded when they are numbers."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch

from visavis.errors import DataError
from visavis.types import SentenceBatch


def pad(lists: Sequence[Sequence[int]]) -> SentenceBatch:
    """Numbers of M sentences as one batch, filled up with 0.

    >>> pad([[1, 5, 2], [1, 2]]).ids
    tensor([[1, 5, 2],
            [1, 2, 0]])

    Raises:
        DataError: a sentence has no token.
    """
    lengths = torch.tensor([len(numbers) for numbers in lists], dtype=torch.int64)  # (M,)
    if len(lists) and int(lengths.min()) == 0:
        raise DataError(f"sentence {int(lengths.argmin())} of the batch has no token; leave it out")
    width = int(lengths.max()) if len(lists) else 0
    mask = torch.arange(width)[None, :] < lengths[:, None]  # (M, W)
    ids = torch.zeros(len(lists), width, dtype=torch.int64)
    ids[mask] = torch.tensor([number for numbers in lists for number in numbers], dtype=torch.int64)
    return SentenceBatch(ids, mask)


def all_checked(texts: Sequence[str]) -> list[str]:
    """Every sentence through `checked`; one sentence in the place of a list is refused too."""
    if isinstance(texts, str):
        raise DataError("one sentence was given where a list of sentences is expected")
    return [checked(text) for text in texts]


def checked(text: str) -> str:
    """Refuse bytes, and text that is the printed form of bytes.

    Reading captions as bytes and printing them turns "a man" into "b'a man'": the words "b'a" and
    "'" are then unknown or wrong, and recall falls by tens of points without any error.

    Raises:
        DataError: bytes, printed bytes, or halves of characters that UTF-8 cannot hold.
    """
    if not isinstance(text, str):
        raise DataError(
            f"a sentence is {type(text).__name__}, expected text; decode the file as UTF-8"
        )
    if text[:2] in ("b'", 'b"') and len(text) > 2 and text.rstrip()[-1] == text[1]:
        raise DataError(f"{_shown(text)} is the printed form of bytes; decode the file as UTF-8")
    if not text.isascii():
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise DataError(f"{_shown(text)} is not Unicode text; decode it as UTF-8") from error
    return text


def no_token(text: str) -> DataError:
    """The error for a sentence that leaves nothing to score."""
    return DataError(f"the sentence {_shown(text)} has no token; leave it out or give it words")


def _shown(text: str) -> str:
    return ascii(text if len(text) <= 60 else text[:57] + "...")


def digest_of(text: str) -> str:
    """A short hash of a text."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:16]


def check_max_words(max_words: int | None) -> None:
    """Refuse a limit that leaves no room for a word."""
    if max_words is not None and max_words < 3:
        raise DataError(f"max_words is {max_words}; at least 3: a word between the two end marks")
