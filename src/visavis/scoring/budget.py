"""What a block of pairs costs, and where blocks end.

A model says with `pair_bytes` how much memory it needs for a pair while it scores; the budget in
bytes divided by that is the size of a block. Models that say nothing are taken for scorers of
affinities, with a few (R, W) arrays alive at once.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor

from visavis.types import Encoded

LIMIT_BYTES = 2**31  # what scoring may ever hold beside its inputs and the finished matrix
AFFINITY_BYTES = 4 * 4  # four float32 arrays: affinities, weights and two products of them
STRIPE_COPIES = 3  # the blocks of a stripe, joined, and put back into the order asked for


@runtime_checkable
class CostedPairs(Protocol):
    """A model that knows how much memory a pair needs."""

    def pair_bytes(self, regions: int, words: int) -> int:
        """Bytes of the largest temporaries of one pair: `regions` image and `words` text tokens.

        It must not fall as either number rises. What is saved for gradients does not count.
        """
        ...


def bytes_of_pair(model: object, regions: int, words: int) -> int:
    """Bytes that one pair needs while it is scored: at least 1."""
    if isinstance(model, CostedPairs):
        return max(1, model.pair_bytes(regions, words))
    return max(1, regions * words * AFFINITY_BYTES)


def used_lengths(items: Encoded) -> Tensor:
    """Tokens of each item up to its last real one, at least 1: (N,) int64."""
    places = items.mask.cumsum(dim=1).argmax(dim=1)  # the first place of the largest count
    return places + 1


def rows_within(costs: list[int], rows: int, budget: int) -> int:
    """So many images that even the dearest sentence fits the budget alone, and at least one.

    Args:
        costs: bytes of a pair with each sentence.
        rows: the most images there may be.
        budget: bytes of a block.
    """
    return max(1, min(rows, budget // max(costs)))


def block_sizes(costs: list[int], rows: int, budget: int) -> list[int]:
    """Numbers of sentences in each block, each as many as the budget holds and at least one.

    Args:
        costs: bytes of a pair with each sentence, rising: a block costs what its last one does.
        rows: images of a block.
        budget: bytes of a block.
    """
    sizes = []
    size = 0
    for cost in costs:
        if size and (size + 1) * cost * rows > budget:
            sizes.append(size)
            size = 0
        size += 1
    return [*sizes, size] if size else sizes


def stripe_rows(rows: int, sentences: int) -> int:
    """Images of a stripe whose scores stay within half of the limit, in both directions."""
    row = max(1, sentences) * 4 * 2 * STRIPE_COPIES
    return max(1, min(rows, LIMIT_BYTES // 2 // row))
