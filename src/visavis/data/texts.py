"""Sentences ready to be read in any order: tokenised once, or with cached hidden states."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from visavis.data.states import StateCache, encode_states
from visavis.data.tokenizer import Tokenizer
from visavis.data.wordpiece import WordPieceTokenizer
from visavis.errors import DataError
from visavis.types import SentenceBatch


class Texts(Protocol):
    """Sentences that can be read as batches."""

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Number of tokens of each sentence: (M,)."""
        ...

    def __len__(self) -> int: ...

    def read(self, rows: Sequence[int] | NDArray[np.int64]) -> SentenceBatch:
        """Some sentences, in the order given."""
        ...


class TokenTexts:
    """Sentences as token ids alone."""

    def __init__(self, texts: Sequence[str], tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._lists = tokenizer.encode_lists(texts)
        self.lengths = np.array([len(tokens) for tokens in self._lists], dtype=np.int64)

    def __len__(self) -> int:
        return len(self._lists)

    def read(self, rows: Sequence[int] | NDArray[np.int64]) -> SentenceBatch:
        """Ids and mask of some sentences, in the order given."""
        return self._tokenizer.pad([self._lists[row] for row in rows])


def read_texts(
    texts: Sequence[str], tokenizer: Tokenizer, *, language_model: str = "", cache: Path
) -> Texts:
    """Sentences for a model: ids, with the states of its language model when it has one.

    Args:
        texts: M sentences.
        tokenizer: the model's own.
        language_model: folder or hub name of a frozen encoder; empty for none.
        cache: folder of cached hidden states.

    Raises:
        DataError: a sentence without a token.
        CheckpointError: the language model is missing.
    """
    if not language_model:
        return TokenTexts(texts, tokenizer)
    if not isinstance(tokenizer, WordPieceTokenizer):
        raise DataError("a language model reads word pieces; use a `wordpiece` tokenizer with it")
    return encode_states(texts, language_model, StateCache(cache), max_words=tokenizer.max_words)
