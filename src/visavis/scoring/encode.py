"""Encoding many items in batches, each once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from visavis.types import Encoded, ImageBatch, Matcher, SentenceBatch

IMAGES_AT_ONCE = 128
SENTENCES_AT_ONCE = 512


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


@torch.inference_mode()
def encode_sentences(
    model: Matcher,
    token_lists: Sequence[Sequence[int]],
    pad: Callable[[Sequence[Sequence[int]]], SentenceBatch],
    *,
    device: torch.device | str = "cpu",
    batch_size: int = SENTENCES_AT_ONCE,
) -> Encoded:
    """Encode sentences in batches of like length; the result is in the order given."""
    order = sorted(range(len(token_lists)), key=lambda j: len(token_lists[j]))
    parts = [
        model.encode_sentences(
            pad([token_lists[j] for j in order[start : start + batch_size]]).to(device)
        )
        for start in range(0, len(order), batch_size)
    ]
    back = torch.empty(len(order), dtype=torch.long)
    back[torch.tensor(order, dtype=torch.long)] = torch.arange(len(order))
    return Encoded.join(parts).select(back.to(device))
