"""Encoding many items in batches, each once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from visavis.types import Encoded, ImageBatch, Matcher, SentenceBatch

IMAGES_AT_ONCE = 128
SENTENCES_AT_ONCE = 512
SENTENCES_TOGETHER = 8  # batches of like length that are kept as one group


@torch.inference_mode()
def encode_images(
    model: Matcher,
    read: Callable[[slice], ImageBatch],
    count: int,
    *,
    device: torch.device | str = "cpu",
    batch_size: int = IMAGES_AT_ONCE,
    advance: Callable[[int], None] | None = None,
) -> Encoded:
    """Encode `count` images that are read a slice at a time."""
    parts = []
    for start in range(0, count, batch_size):
        part = slice(start, min(start + batch_size, count))
        parts.append(model.encode_images(read(part).to(device)))
        if advance is not None:
            advance(part.stop - part.start)
    return Encoded.join(parts)


class Readable(Protocol):
    """Sentences that can be read in any order."""

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Number of tokens of each sentence: (M,)."""
        ...

    def __len__(self) -> int: ...

    def read(self, rows: NDArray[np.int64]) -> SentenceBatch:
        """Some sentences, in the order given."""
        ...


@torch.inference_mode()
def encode_sentences(
    model: Matcher,
    texts: Readable,
    *,
    device: torch.device | str = "cpu",
    batch_size: int = SENTENCES_AT_ONCE,
) -> Encoded:
    """Encode sentences in batches of like length; the result is in the order of the texts."""
    order = np.argsort(texts.lengths, kind="stable")
    parts = [
        model.encode_sentences(texts.read(order[start : start + batch_size]).to(device))
        for start in range(0, len(order), batch_size)
    ]
    back = torch.from_numpy(np.argsort(order, kind="stable"))
    return Encoded.join(parts).select(back.to(device))


def encode_groups(
    model: Matcher,
    texts: Readable,
    order: NDArray[np.int64],
    *,
    device: torch.device | str = "cpu",
) -> Iterator[Encoded]:
    """Sentences in an order of rising length, in groups that hardly have padding."""
    size = SENTENCES_AT_ONCE * SENTENCES_TOGETHER
    for start in range(0, len(order), size):
        rows = order[start : start + size]
        with torch.inference_mode():
            batches = [
                model.encode_sentences(texts.read(rows[at : at + SENTENCES_AT_ONCE]).to(device))
                for at in range(0, len(rows), SENTENCES_AT_ONCE)
            ]
            group = Encoded.join(batches)
        yield group
