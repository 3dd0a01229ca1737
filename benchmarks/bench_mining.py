"""Time and memory of mining hard negatives with a model of one vector, beside one matrix product.

    python -m benchmarks.bench_mining --images 29000

Every image's hardest sentences and every sentence's hardest images, own pairs left out, five
sentences an image: the sizes of Flickr30K's training set unless said. Vectors are drawn. The
product is that of all pairs at the rate of a plain one in the same process, before and after.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

import numpy as np
import torch
from benchmarks.machine import MIB, forget_peak, matrix_product, resident
from torch import Tensor

from visavis.scoring.collect import Wanted
from visavis.scoring.matrix import Block
from visavis.scoring.top_k import top_k
from visavis.types import Encoded, Scores

EACH = 5  # sentences of an image


class Cosine:
    """Inner products of vectors."""

    def score(self, images: Encoded, sentences: Encoded) -> Scores:
        """(N, M)."""
        return Scores.shared(images.tokens[:, 0] @ sentences.tokens[:, 0].T)

    def score_pairs(self, images: Encoded, sentences: Encoded) -> Scores:
        """(P,)."""
        return Scores.shared((images.tokens * sentences.tokens).sum(dim=2)[:, 0])

    def pair_bytes(self, regions: int, words: int) -> int:
        """Of a score."""
        return 4


def drawn(count: int, dim: int, seed: int) -> Encoded:
    """Unit vectors."""
    generator = torch.Generator().manual_seed(seed)
    vectors = torch.randn(count, 1, dim, generator=generator)
    return Encoded(
        torch.nn.functional.normalize(vectors, dim=2), torch.ones(count, 1, dtype=torch.bool)
    )


def rate() -> float:
    """Operations a second of processor time, of a plain product."""
    product, operations = matrix_product(torch.float32)
    product()
    start, times = time.process_time(), 8
    for _ in range(times):
        product()
    return times * operations / (time.process_time() - start)


def main(words: Sequence[str] | None = None) -> None:
    """Measure once and say it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--images", type=int, default=29_000)
    parser.add_argument("--dim", type=int, default=1024)
    parser.add_argument("--h", type=int, default=300)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--memory-mib", type=int, default=256)
    given = parser.parse_args(words)
    torch.set_num_threads(given.threads)
    images = drawn(given.images, given.dim, 0)
    sentences = drawn(EACH * given.images, given.dim, 1)
    owned = np.arange(len(sentences))
    pairs = np.stack([owned // EACH, owned], axis=1)
    wanted = Wanted(sentences=given.h, images=given.h // EACH, pairs=pairs, without_pairs=True)
    before = rate()
    forget_peak()
    held, cpu, wall = resident("VmRSS"), time.process_time(), time.perf_counter()
    found = top_k(
        Cosine(), images, sentences, wanted, block=Block(memory_bytes=given.memory_mib * MIB)
    )
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    peak, mean = resident("VmHWM"), (before + rate()) / 2
    _check(found.sentences, images, sentences)
    product = 2.0 * len(images) * len(sentences) * given.dim / mean
    print(f"{len(images)} images x {len(sentences)} sentences, width {given.dim}, h {given.h}")
    print(f"mining {cpu:.1f} s of processor, {wall:.1f} s of clock; product {product:.1f} s")
    print(f"ratio {cpu / product:.2f}; peak {peak:.0f} MiB, {peak - held:.0f} MiB of it added")


def _check(lists: Tensor, images: Encoded, sentences: Encoded) -> None:
    """The first list is what a sort finds."""
    scores = sentences.tokens[:, 0] @ images.tokens[0, 0]
    scores[:EACH] = -torch.inf
    if not torch.equal(scores.topk(10).indices, lists[0, :10]):
        raise SystemExit("the lists are not those of a sort")


if __name__ == "__main__":
    main()
