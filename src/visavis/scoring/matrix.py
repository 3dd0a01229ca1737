"""Every image with every sentence, in blocks that fit the processor's cache and a memory budget.

Blocks never change a score. Sentences are visited in order of length, so that a block holds hardly
any padding: on captions of natural length this halves the work of a cross-attention scorer, and
blocks of about a million affinities stay in cache, which saves as much again. What a pair costs is
the model's to say (`visavis.scoring.budget`).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from visavis.files import mapped_matrix
from visavis.scoring.budget import (
    LIMIT_BYTES,
    block_sizes,
    bytes_of_pair,
    rows_within,
    stripe_rows,
    used_lengths,
)
from visavis.scoring.precision import PRECISIONS, Precision, at_precision
from visavis.types import Encoded, Matcher, Scores

RAM_BYTES = 2**30  # larger score matrices are kept in a file


@dataclass(frozen=True, kw_only=True)
class Block:
    """How much is scored at once, and how exactly. Sizes do not change the scores."""

    rows: int = 128  # images, at most: fewer when one sentence with all of them is too much
    budget_bytes: int = 2**24  # temporaries of a block: what a processor's cache holds
    memory_bytes: int = 2**28  # streaming: all that it holds beside its inputs and its results
    precision: Precision = "fp32"  # bf16: matrix products on bfloat16; scores stay float32

    def __post_init__(self) -> None:
        if self.rows < 1:
            raise ValueError(f"rows must be at least 1, got {self.rows}")
        if not 1 <= self.budget_bytes <= LIMIT_BYTES // 2:
            raise ValueError(
                f"budget_bytes must be 1 to {LIMIT_BYTES // 2}, got {self.budget_bytes}"
            )
        if self.memory_bytes < 1:
            raise ValueError(f"memory_bytes must be at least 1, got {self.memory_bytes}")
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision must be fp32 or bf16, got {self.precision!r}")

    @property
    def temporaries(self) -> int:
        """Bytes that one block may need: never more than a quarter of the memory."""
        return max(1, min(self.budget_bytes, self.memory_bytes // 4))


BLOCK = Block()


def score_stripe(
    model: Matcher,
    images: Encoded,
    sentences: Encoded,
    *,
    budget_bytes: int = BLOCK.budget_bytes,
    recompute: bool = False,
) -> Scores:
    """Scores of a few images with all sentences, (N, M), with gradients.

    Args:
        model: scores each block.
        images: any number; they are divided when one sentence with all of them is too much.
        sentences: any number, in any order.
        budget_bytes: the most temporaries of a block; a block of one pair may need more.
        recompute: score each block again in the backward pass instead of keeping what its
            gradient needs. Between the passes only inputs and scores are kept; gradients are the
            same, random draws included.
    """
    if not len(sentences) or not len(images):
        return Scores.shared(images.tokens.new_zeros(len(images), len(sentences)))
    lengths = used_lengths(sentences)
    order = lengths.argsort(stable=True)
    costs = _costs(model, images.mask.shape[1], lengths[order])
    rows = rows_within(costs, len(images), budget_bytes)
    sizes = block_sizes(costs, rows, budget_bytes)
    if not torch.is_grad_enabled():
        return _written(model, images, sentences, order, (rows, sizes))
    score = _scored_again if recompute else _scored
    groups = _split(images, [part.stop - part.start for part in _slices(len(images), rows)])
    columns = [
        _joined([score(model, group, block) for group in groups], dim=0)
        for block in _ordered(sentences, order, sizes)
    ]
    back = order.argsort()
    i2t, *t2i = (scores[:, back] for scores in _joined(columns, dim=1))
    return Scores(i2t, t2i[0]) if t2i else Scores.shared(i2t)


def _written(
    model: Matcher,
    images: Encoded,
    sentences: Encoded,
    order: Tensor,
    cuts: tuple[int, list[int]],
) -> Scores:
    """Blocks written to their places: besides the result no more than one block exists."""
    rows, sizes = cuts
    whole: list[Tensor] = []
    shape = (len(images), len(sentences))
    sorted_already = bool((order[1:] > order[:-1]).all())
    start = 0
    for block, size in zip(_ordered(sentences, order, sizes), sizes, strict=True):
        columns = slice(start, start + size) if sorted_already else order[start : start + size]
        start += size
        for part in _slices(len(images), rows):
            found = _scored(model, images.select(part), block)
            if found[0].shape == shape and sorted_already:
                whole = list(found)
                continue
            whole = whole or [matrix.new_empty(shape) for matrix in found]
            for matrix, into in zip(found, whole, strict=True):
                into[part, columns] = matrix
    return Scores(*whole) if len(whole) == 2 else Scores.shared(whole[0])


def _costs(model: Matcher, regions: int, lengths: Tensor) -> list[int]:
    """Bytes of a pair with each sentence, asking once for each length."""
    numbers = lengths.tolist()
    known = {length: bytes_of_pair(model, regions, length) for length in set(numbers)}
    return [known[length] for length in numbers]


def _ordered(sentences: Encoded, order: Tensor, sizes: Sequence[int]) -> Iterator[Encoded]:
    """The sentences in an order, in groups of some sizes, without needless padding."""
    if torch.is_grad_enabled():
        # Sorted once and split: the gradients of all blocks are then joined once. Picking each
        # block's sentences by itself would add up a gradient of full size for every block.
        groups: Iterable[Encoded] = _split(sentences.select(order), sizes)
    elif bool((order[1:] > order[:-1]).all()):
        ends = itertools.accumulate(sizes)
        groups = (
            sentences.select(slice(end - size, end)) for end, size in zip(ends, sizes, strict=True)
        )
    else:  # there may be too many sentences for a second copy
        groups = (sentences.select(part) for part in torch.split(order, list(sizes)))
    return (group.trimmed() for group in groups)


def _split(items: Encoded, sizes: Sequence[int]) -> list[Encoded]:
    parts = [torch.split(tensor, list(sizes)) for tensor in _tensors(items)]
    return [_rebuilt(items, tensors) for tensors in zip(*parts, strict=True)]


def _tensors(items: Encoded) -> list[Tensor]:
    pooled = [] if items.pooled is None else [items.pooled]
    return [items.tokens, items.mask, *pooled, *items.extra.values()]


def _rebuilt(like: Encoded, tensors: Iterable[Tensor]) -> Encoded:
    """The inverse of `_tensors`."""
    rest = iter(tensors)
    return Encoded(
        tokens=next(rest),
        mask=next(rest),
        pooled=None if like.pooled is None else next(rest),
        extra={key: next(rest) for key in like.extra},
    )


def _scored(model: Matcher, images: Encoded, sentences: Encoded) -> tuple[Tensor, ...]:
    """One matrix, or one for each direction of a decoupled model."""
    found = model.score(images, sentences)
    return (found.i2t, found.t2i) if found.decoupled else (found.i2t,)


def _scored_again(model: Matcher, images: Encoded, sentences: Encoded) -> tuple[Tensor, ...]:
    """`_scored`, with all that lies between inputs and scores computed again for gradients."""
    left, right = _tensors(images), _tensors(sentences)

    def score(*tensors: Tensor) -> tuple[Tensor, ...]:
        return _scored(
            model,
            _rebuilt(images, tensors[: len(left)]),
            _rebuilt(sentences, tensors[len(left) :]),
        )

    found: tuple[Tensor, ...] = checkpoint(score, *left, *right, use_reentrant=False)
    return found


def _joined(parts: Sequence[tuple[Tensor, ...]], *, dim: int) -> tuple[Tensor, ...]:
    """Blocks beside or below each other, for each matrix."""
    return tuple(torch.cat(matrices, dim=dim) for matrices in zip(*parts, strict=True))


@torch.inference_mode()
def scored_at(model: Matcher, images: Encoded, sentences: Encoded, block: Block) -> Scores:
    """Scores of some images with some sentences in the block's precision, as float32: (N, M)."""
    with at_precision(block.precision, images.tokens.device):
        found = score_stripe(model, images, sentences, budget_bytes=block.temporaries)
    if not found.decoupled:
        return Scores.shared(found.i2t.float())
    return Scores(found.i2t.float(), found.t2i.float())


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
    for part in _slices(len(images), stripe_rows(block.rows, len(sentences))):
        stripe = scored_at(model, images.select(part), sentences, block)
        if i2t is None:
            i2t = _allocate(shape, folder, "i2t")
            t2i = _allocate(shape, folder, "t2i") if stripe.decoupled else i2t
        i2t[part] = stripe.i2t.cpu()
        if stripe.decoupled and t2i is not None:
            t2i[part] = stripe.t2i.cpu()
        if advance is not None:
            advance(part.stop - part.start)
    if i2t is None or t2i is None:
        return Scores.shared(torch.zeros(shape))
    return Scores(i2t, t2i)


def _allocate(shape: tuple[int, int], folder: Path | None, name: str) -> Tensor:
    if folder is None or shape[0] * shape[1] * 4 <= RAM_BYTES:
        return torch.empty(shape)
    return torch.from_numpy(mapped_matrix(folder / f"scores_{name}.npy", shape))


@torch.inference_mode()
def score_pairs(
    model: Matcher, images: Encoded, sentences: Encoded, *, block: Block = BLOCK
) -> Scores:
    """Row p of one side with row p of the other, in blocks: (P,) float32 on the CPU."""
    each = bytes_of_pair(model, images.mask.shape[1], sentences.mask.shape[1])
    with at_precision(block.precision, images.tokens.device):
        parts = [
            model.score_pairs(images.select(part), sentences.select(part).trimmed())
            for part in _slices(len(images), max(1, block.temporaries // each))
        ]
    if not parts:
        return Scores.shared(torch.zeros(0))
    i2t = torch.cat([part.i2t for part in parts]).float().cpu()
    if not parts[0].decoupled:
        return Scores.shared(i2t)
    return Scores(i2t, torch.cat([part.t2i for part in parts]).float().cpu())


def _slices(count: int, size: int) -> Iterable[slice]:
    return (slice(start, min(start + size, count)) for start in range(0, count, size))
