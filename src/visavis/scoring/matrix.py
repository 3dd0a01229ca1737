"""Every image with every sentence, in blocks that fit the processor's cache and a memory budget.

Blocks never change a score. Sentences are visited in order of length, so that a block holds hardly
any padding: on captions of natural length this halves the work of a cross-attention scorer, and
blocks of about a million affinities stay in cache, which saves as much again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from visavis.files import storage_error
from visavis.types import Encoded, Matcher, Scores

RAM_BYTES = 2**30  # larger score matrices are kept in a file


@dataclass(frozen=True, kw_only=True)
class Block:
    """How much is scored at once. The scores do not depend on it."""

    rows: int = 128  # images
    affinities: int = 2**20  # region-word products: a few megabytes, which stay in cache


BLOCK = Block()


def score_stripe(
    model: Matcher,
    images: Encoded,
    sentences: Encoded,
    *,
    affinities: int = BLOCK.affinities,
) -> Scores:
    """Scores of a few images with all sentences, (N, M), with gradients.

    Args:
        model: scores each block.
        images: as many as a block may have rows.
        sentences: any number, in any order.
        affinities: the most region-word products computed at once.
    """
    lengths = sentences.mask.sum(dim=1)
    order = lengths.argsort(stable=True)
    if not len(order) or not len(images):
        return Scores.shared(images.tokens.new_zeros(len(images), len(order)))
    parts: list[Scores] = []
    start = 0
    while start < len(order):
        stop = _block_end(lengths[order], start, max(1, affinities // images.mask.numel()))
        block = sentences.select(order[start:stop]).trimmed()
        parts.append(model.score(images, block))
        start = stop
    return _restored(parts, order)


def _block_end(lengths: Tensor, start: int, words: int) -> int:
    """End of the longest run from `start` whose padded size stays within `words`."""
    sizes = (torch.arange(len(lengths) - start, device=lengths.device) + 1) * lengths[start:]
    fitting = int((sizes <= words).sum())  # sizes rise, as the lengths do
    return start + max(1, fitting)


def _restored(parts: list[Scores], order: Tensor) -> Scores:
    back = order.argsort()
    i2t = torch.cat([part.i2t for part in parts], dim=1)[:, back]
    if not parts[0].decoupled:
        return Scores.shared(i2t)
    return Scores(i2t, torch.cat([part.t2i for part in parts], dim=1)[:, back])


@torch.inference_mode()
def score_matrix(
    model: Matcher,
    images: Encoded,
    sentences: Encoded,
    *,
    block: Block = BLOCK,
    folder: Path | None = None,
    advance: Callable[[int], None] | None = None,
) -> Scores:
    """Scores of all images with all sentences as float32 on the CPU: (N, M).

    Args:
        model: in evaluation mode.
        images: N encoded images.
        sentences: M encoded sentences.
        block: how much is scored at once.
        folder: where a matrix too large for memory is kept as a file; without it, memory is used.
        advance: told how many images have been scored, after each stripe.
    """
    shape = (len(images), len(sentences))
    i2t: Tensor | None = None
    t2i: Tensor | None = None
    for part in _slices(len(images), block.rows):
        stripe = score_stripe(model, images.select(part), sentences, affinities=block.affinities)
        if i2t is None:
            i2t = _allocate(shape, folder, "i2t")
            t2i = _allocate(shape, folder, "t2i") if stripe.decoupled else i2t
        i2t[part] = stripe.i2t.float().cpu()
        if stripe.decoupled and t2i is not None:
            t2i[part] = stripe.t2i.float().cpu()
        if advance is not None:
            advance(part.stop - part.start)
    if i2t is None or t2i is None:
        return Scores.shared(torch.zeros(shape))
    return Scores(i2t, t2i)


def _allocate(shape: tuple[int, int], folder: Path | None, name: str) -> Tensor:
    if folder is None or shape[0] * shape[1] * 4 <= RAM_BYTES:
        return torch.empty(shape)
    # A file on disk stands in for memory: the system keeps in RAM only the stripe in use.
    path = folder / f"scores_{name}.npy"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)  # an earlier matrix that is still in use keeps its own file
        mapped = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
        _reserve(path)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise storage_error(path, error) from error
    return torch.from_numpy(mapped)


def _reserve(path: Path) -> None:
    """Take the disk space of a mapped file now: a full disk would kill the process at a write."""
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as stream:
            os.posix_fallocate(stream.fileno(), 0, path.stat().st_size)


@torch.inference_mode()
def score_aligned(
    model: Matcher, images: Encoded, sentences: Encoded, *, affinities: int = BLOCK.affinities
) -> Scores:
    """Row p of one side with row p of the other, in blocks: (P,) float32 on the CPU."""
    each = images.mask.shape[1] * sentences.mask.shape[1]
    size = max(1, affinities // max(1, each))
    parts = [
        model.score_pairs(images.select(part), sentences.select(part).trimmed())
        for part in _slices(len(images), size)
    ]
    if not parts:
        return Scores.shared(torch.zeros(0))
    i2t = torch.cat([part.i2t for part in parts]).float().cpu()
    if not parts[0].decoupled:
        return Scores.shared(i2t)
    return Scores(i2t, torch.cat([part.t2i for part in parts]).float().cpu())


def _slices(count: int, size: int) -> Iterable[slice]:
    return (slice(start, min(start + size, count)) for start in range(0, count, size))
