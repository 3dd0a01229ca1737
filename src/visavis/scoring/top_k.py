"""The best of each query in both directions, with ranks, in one pass over tiles."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from visavis.scoring.bounds import Bounded
from visavis.scoring.collect import Job, TopK, Wanted, collect
from visavis.scoring.matrix import BLOCK, Block, score_pairs
from visavis.scoring.pruned import pruned_top_k
from visavis.scoring.sides import Held, Side, as_side, bytes_of
from visavis.scoring.stream import Stream
from visavis.types import Encoded, Matcher, Scores

PAIRS_AT_ONCE = 4096


def top_k(
    model: Matcher,
    images: Encoded | Side,
    sentences: Encoded | Side,
    wanted: Wanted | None = None,
    *,
    block: Block = BLOCK,
    job: Job | None = None,
) -> TopK:
    """The best sentences of each image and the best images of each sentence, and ranks.

    The whole matrix never exists. Of equal scores the one with the lower number is better, and in
    ranks ties lose, as `visavis.metrics.ranks` has it for the same scores.

    Args:
        model: in evaluation mode.
        images: N encoded images, or a side that encodes them when needed. For ranks, such a side
            is encoded once more.
        sentences: M encoded sentences, or such a side.
        wanted: lengths of the lists, pairs, ranks; ten of each when nothing is said.
        block: sizes and precision.
        job: the ledger of a long job, progress, and whether pairs are left out by bounds.

    Raises:
        DataError: scores with NaN or infinity, pairs outside of the matrix.
        ValueError: pruning of a model without bounds, of sides that are not held, with a ledger or
            in another precision than fp32.
    """
    wanted, job = wanted or Wanted(), job or Job()
    left, right = as_side(images), as_side(sentences)
    if job.prune:
        if not isinstance(model, Bounded):
            raise ValueError(f"{type(model).__name__} has no upper_bounds; score without prune")
        if not isinstance(left, Held) or not isinstance(right, Held):
            raise ValueError("prune looks at items in any order; give encoded items")
        if block.precision != "fp32" or job.folder is not None:
            raise ValueError("prune goes with precision fp32 and without a ledger")
        return pruned_top_k(model, left.items, right.items, wanted, block=block)
    return collect(
        Stream(model, left, right, block),
        wanted,
        job,
        lambda pairs: pair_scores(model, left, right, pairs, block),
    )


def pair_scores(
    model: Matcher,
    images: Side,
    sentences: Side,
    pairs: NDArray[np.int64],
    block: Block = BLOCK,
) -> Scores:
    """Scores (P,) of some pairs of image and sentence; in order of the images they cost least."""
    if not len(pairs):
        return Scores.shared(torch.zeros(0))
    longest = (side.pick(side.order[-1:]) for side in (images, sentences))
    each = max(1, sum(bytes_of(items) for items in longest))
    size = max(1, min(PAIRS_AT_ONCE, block.memory_bytes // 4 // each))
    parts = []
    with torch.inference_mode():
        for start in range(0, len(pairs), size):
            some = pairs[start : start + size]
            left, right = images.pick(some[:, 0]), sentences.pick(some[:, 1])
            parts.append(score_pairs(model, left, right, block=block))
    i2t = torch.cat([part.i2t for part in parts])
    if not parts[0].decoupled:
        return Scores.shared(i2t)
    return Scores(i2t, torch.cat([part.t2i for part in parts]))
